package dermedge.core;

/** One flatbuffer table whose vtable and body lie inside the file; `Table` of `flatbuffer.py` in Java. */
final class FlatTable {
    /** As in Python: tables that one walk reads, and numbers by sixteen. */
    static final int WALK_BUDGET = 300000;
    static final int NUMBERS_A_STEP = 16;
    static final int MAX_ITEMS = 100000;
    static final int MAX_NAME_BYTES = 4096;

    final byte[] data;
    final int end;
    final int position;
    final String name;
    private final int[] budget;
    private final int vtable;
    private final int fields;
    private final int bodyBytes;

    FlatTable(byte[] data, int end, long at, String name, int[] budget) {
        this.data = data;
        this.end = end;
        this.name = name;
        this.budget = budget;
        spend(1);
        if (at < 4 || at > end - 4) {
            throw new Malformed("table " + name + " at " + at + " lies outside the file");
        }
        position = (int) at;
        long found = (long) position - Bytes.i32(data, position);
        if (found < 0 || found > end - 4 || found % 2 != 0) {
            throw new Malformed("table " + name + " has its vtable at " + found);
        }
        vtable = (int) found;
        int vtableBytes = Bytes.u16(data, vtable);
        bodyBytes = Bytes.u16(data, vtable + 2);
        if (vtableBytes < 4 || vtableBytes % 2 != 0 || vtable + vtableBytes > end) {
            throw new Malformed("table " + name + " has a vtable of " + vtableBytes + " bytes");
        }
        if (bodyBytes < 4 || position + bodyBytes > end) {
            throw new Malformed("table " + name + " has a body of " + bodyBytes + " bytes");
        }
        fields = vtableBytes / 2 - 2;
    }

    private void spend(int steps) {
        budget[0] -= steps;
        if (budget[0] < 0) {
            throw new Malformed("more than " + WALK_BUDGET + " parts; read up to " + name);
        }
    }

    /** Position of a field of `width` bytes, -1 when absent. */
    private int field(int number, int width) {
        int offset = number < fields ? Bytes.u16(data, vtable + 4 + 2 * number) : 0;
        if (offset == 0) {
            return -1;
        }
        if (offset < 4 || offset + width > bodyBytes) {
            throw new Malformed("field " + number + " of table " + name + " lies outside its table");
        }
        return position + offset;
    }

    int signedByte(int number, int absent) {
        int at = field(number, 1);
        return at < 0 ? absent : data[at];
    }

    int unsignedByte(int number) {
        return signedByte(number, 0) & 0xFF;
    }

    int int32(int number, int absent) {
        int at = field(number, 4);
        return at < 0 ? absent : Bytes.i32(data, at);
    }

    long uint32(int number) {
        return int32(number, 0) & 0xFFFFFFFFL;
    }

    /** Whether a 64-bit field is 0 or 1. */
    boolean aboveOne(int number) {
        int at = field(number, 8);
        return at >= 0 && (Bytes.i32(data, at + 4) != 0 || Bytes.u32(data, at) > 1);
    }

    /** Where an offset field points to, -1 when absent. */
    private long target(int number) {
        int at = field(number, 4);
        return at < 0 ? -1 : at + Bytes.u32(data, at);
    }

    FlatTable child(int number, String what) {
        long at = target(number);
        return at < 0 ? null : new FlatTable(data, end, at, name + " " + what, budget);
    }

    /** First position and count of a vector field; zeros when absent. */
    int[] vector(int number, int itemBytes) {
        long at = target(number);
        if (at < 0) {
            return new int[2];
        }
        if (at > end - 4) {
            throw new Malformed("vector " + number + " of table " + name + " lies outside the file");
        }
        long count = Bytes.u32(data, (int) at);
        if (at + 4 + count * itemBytes > end) {
            throw new Malformed("vector " + number + " of table " + name + " has " + count + " items, more than the file holds");
        }
        return new int[] {(int) at + 4, (int) count};
    }

    private int[] bounded(int number, int itemBytes) {
        int[] found = vector(number, itemBytes);
        if (found[1] > MAX_ITEMS) {
            throw new Malformed("vector " + number + " of table " + name + " has " + found[1] + " items");
        }
        return found;
    }

    /** Start and count of a vector of 4- or 8-byte numbers that counts in the budget. */
    int[] counted(int number, int itemBytes) {
        int[] found = bounded(number, itemBytes);
        spend(found[1] / NUMBERS_A_STEP);
        return found;
    }

    int[] ints(int number) {
        int[] found = counted(number, 4);
        int[] values = new int[found[1]];
        for (int i = 0; i < values.length; i++) {
            values[i] = Bytes.i32(data, found[0] + 4 * i);
        }
        return values;
    }

    FlatTable[] children(int number, String what) {
        int[] found = bounded(number, 4);
        FlatTable[] tables = new FlatTable[found[1]];
        for (int i = 0; i < tables.length; i++) {
            int at = found[0] + 4 * i;
            tables[i] = new FlatTable(data, end, at + Bytes.u32(data, at), what + " " + i, budget);
        }
        return tables;
    }

    /** Checks a string field; `required` ones must be there. */
    void text(int number, boolean required) {
        if (required && target(number) < 0) {
            throw new Malformed("string " + number + " of table " + name + " is missing");
        }
        int[] found = vector(number, 1);
        long stop = (long) found[0] + found[1];
        if (found[1] > MAX_NAME_BYTES || (found[0] != 0 && (stop >= end || data[(int) stop] != 0))) {
            throw new Malformed("string " + number + " of table " + name + " is too long or does not end");
        }
    }

    /** Carries the reason why a file is damaged to the walk's door. */
    static final class Malformed extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Malformed(String reason) {
            super(reason);
        }
    }
}
