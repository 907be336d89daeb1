package dermedge.core;

/**
 * A bounds-checked walk from the root of a .tflite to the tensors at its ends. Shorter than Python's
 * `flatbuffer.py`, which walks every table: the app's model comes inside its signed package.
 */
final class Flatbuffer {
    private static final String[] TENSOR_TYPES = {
        "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8"
    };
    private static final int MAX_RANK = 8;

    private final byte[] data;
    private final int end;
    private final String where;

    /** Reads only bytes below `end`, where the zip tail begins. */
    Flatbuffer(byte[] data, int end, String where) {
        this.data = data;
        this.end = end;
        this.where = where;
        if (data.length < 8 || !Bytes.startsWith(data, 4, "TFL3")) {
            throw new EdgeException(
                    EdgeException.Code.NOT_A_TFLITE,
                    where + ": not a .tflite file",
                    data.length + " bytes",
                    "the identifier TFL3 at byte 4",
                    "give a .tflite file made by dermedge convert");
        }
    }

    /** The only input and the only output of the first subgraph. */
    TensorSpec[] ends() {
        int root = (int) Bytes.u32(data, 0);
        long version = Bytes.u32(data, at(field(root, 0), 4));
        int[] subgraphs = vector(root, 2, 4);
        if (version != 3 || subgraphs[1] < 1) {
            throw malformed("schema version " + version + ", " + subgraphs[1] + " subgraphs");
        }
        int subgraph = follow(subgraphs[0]);
        int[] tensors = vector(subgraph, 0, 4);
        TensorSpec[] ends = new TensorSpec[2];
        for (int role = 0; role < 2; role++) {
            int[] indices = vector(subgraph, 1 + role, 4);
            int index = indices[1] == 1 ? Bytes.i32(data, indices[0]) : -1;
            if (index < 0 || index >= tensors[1]) {
                throw malformed(indices[1] + (role == 0 ? " inputs" : " outputs") + ", the contract knows one");
            }
            ends[role] = tensor(follow(tensors[0] + 4 * index));
        }
        return ends;
    }

    private TensorSpec tensor(int table) {
        int[] sides = vector(table, 0, 4);
        int[] signature = vector(table, 7, 4);
        int[] from = signature[1] > 0 ? signature : sides;
        if (from[1] > MAX_RANK) {
            throw malformed("a tensor with " + from[1] + " sides");
        }
        int[] shape = new int[from[1]];
        for (int i = 0; i < shape.length; i++) {
            shape[i] = Bytes.i32(data, from[0] + 4 * i);
        }
        int type = field(table, 1) < 0 ? 0 : data[at(field(table, 1), 1)];
        String dtype = type >= 0 && type < TENSOR_TYPES.length ? TENSOR_TYPES[type] : "type " + type;
        double scale = 0;
        long zeroPoint = 0;
        if (field(table, 4) >= 0) {
            int quantization = follow(field(table, 4));
            int[] scales = vector(quantization, 2, 4);
            int[] zeroPoints = vector(quantization, 3, 8);
            if (scales[1] == 1 && zeroPoints[1] <= 1) {
                scale = Float.intBitsToFloat(Bytes.i32(data, scales[0]));
                zeroPoint = zeroPoints[1] == 0 ? 0 : Bytes.i32(data, zeroPoints[0]);
            }
        }
        return new TensorSpec(shape, dtype, scale, (int) zeroPoint);
    }

    /** Position of a field of a table; -1 when absent. */
    private int field(int table, int number) {
        int vtable = at((long) at(table, 4) - Bytes.i32(data, table), 4);
        int entry = 4 + 2 * number;
        if (entry + 2 > Bytes.u16(data, vtable)) {
            return -1;
        }
        int offset = Bytes.u16(data, at(vtable + (long) entry, 2));
        return offset == 0 ? -1 : at((long) table + offset, 1);
    }

    /** The table that an offset points to. */
    private int follow(int position) {
        return at(at(position, 4) + Bytes.u32(data, position), 4);
    }

    /** First position and count of a vector field; zeros when absent. */
    private int[] vector(int table, int number, int itemBytes) {
        int position = field(table, number);
        if (position < 0) {
            return new int[2];
        }
        int vector = follow(position);
        long count = Bytes.u32(data, vector);
        if (count * itemBytes > end) {
            throw malformed("a vector of " + count + " items");
        }
        at(vector + 4L, (int) count * itemBytes);
        return new int[] {vector + 4, (int) count};
    }

    private int at(long position, int width) {
        if (position < 0 || position + width > end) {
            throw malformed("byte " + position + " lies outside the file");
        }
        return (int) position;
    }

    private EdgeException malformed(String found) {
        return new EdgeException(
                EdgeException.Code.NOT_A_TFLITE,
                where + ": the .tflite file is damaged or incomplete",
                found,
                "a well-formed TensorFlow Lite flatbuffer",
                "copy the file again, or convert the model again");
    }
}
