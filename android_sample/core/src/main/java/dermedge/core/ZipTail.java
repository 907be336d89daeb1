package dermedge.core;

import java.nio.charset.CharacterCodingException;
import java.nio.charset.Charset;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.zip.CRC32;

/** Stored entries, by name, of the zip archive at the tail of a .tflite; `zip_tail.py` in Java. */
final class ZipTail {
    static final Charset UTF_8 = Charset.forName("UTF-8");
    private static final int END_BYTES = 22;
    private static final int MAX_COMMENT_BYTES = 0xFFFF;
    private static final int MAX_ENTRIES = 1000;
    private static final int MAX_ENTRY_BYTES = 16 * 1024 * 1024;

    private final byte[] data;
    private final String where;
    private final Map<String, int[]> entries = new LinkedHashMap<String, int[]>();
    private final int start;

    ZipTail(byte[] data, String where) {
        this.data = data;
        this.where = where;
        int end = findEnd();
        try {
            start = end < 0 ? data.length : readDirectory(end);
        } catch (IndexOutOfBoundsException error) {
            throw broken("an offset leads outside the file: " + error.getMessage());
        } catch (CharacterCodingException error) {
            throw broken("a name is not UTF-8");
        }
    }

    /** Where the archive begins; the length of the file when there is none. */
    int start() {
        return start;
    }

    Set<String> names() {
        return entries.keySet();
    }

    /** The bytes of an entry, null when there is no such entry. */
    byte[] read(String name) {
        int[] entry = entries.get(name);
        if (entry == null) {
            return null;
        }
        byte[] content = new byte[entry[1]];
        System.arraycopy(data, entry[0], content, 0, content.length);
        CRC32 checksum = new CRC32();
        checksum.update(content);
        if ((int) checksum.getValue() != entry[2]) {
            throw broken("entry " + name + " does not match its checksum");
        }
        return content;
    }

    /** The end record whose comment reaches exactly to the end of the file; -1 when there is none. */
    private int findEnd() {
        int lowest = Math.max(0, data.length - END_BYTES - MAX_COMMENT_BYTES);
        for (int at = data.length - END_BYTES; at >= lowest; at--) {
            if (Bytes.startsWith(data, at, "PK\5\6")
                    && at + END_BYTES + Bytes.u16(data, at + 20) == data.length) {
                return at;
            }
        }
        return -1;
    }

    private int readDirectory(int end) throws CharacterCodingException {
        int count = Bytes.u16(data, end + 10);
        long size = Bytes.u32(data, end + 12);
        long offset = Bytes.u32(data, end + 16);
        long archive = end - size - offset;
        if (Bytes.i32(data, end + 4) != 0 || count > MAX_ENTRIES || archive < 0) {
            throw broken("end record: " + count + " entries, directory of " + size + " bytes at " + offset);
        }
        int position = (int) (end - size);
        int first = position;
        for (int i = 0; i < count; i++) {
            if (!Bytes.startsWith(data, position, "PK\1\2")) {
                throw broken("no directory entry at byte " + position);
            }
            first = Math.min(first, readCentral(position, archive));
            position += 46 + Bytes.u16(data, position + 28) + Bytes.u16(data, position + 30)
                    + Bytes.u16(data, position + 32);
        }
        if (position != end) {
            throw broken("the directory ends at byte " + position + ", not " + end);
        }
        return first;
    }

    /** Notes one entry and returns where its local header begins. */
    private int readCentral(int position, long archive) throws CharacterCodingException {
        int flags = Bytes.u16(data, position + 8);
        int method = Bytes.u16(data, position + 10);
        long size = Bytes.u32(data, position + 24);
        int nameBytes = Bytes.u16(data, position + 28);
        String name = UTF_8.newDecoder().decode(java.nio.ByteBuffer.wrap(data, position + 46, nameBytes)).toString();
        if (entries.containsKey(name)) {
            throw broken("entry " + name + " is there twice");
        }
        if (ContractReader.hasControlCharacters(name)) {
            throw broken("entry " + name + " has a control character in its name");
        }
        if (method != 0 || (flags & 1) != 0 || Bytes.u32(data, position + 20) != size) {
            throw new EdgeException(
                    EdgeException.Code.CONTRACT_INVALID,
                    where + ": entry " + name + " of the model's zip tail is not stored plainly",
                    "compression method " + method + ", flags " + flags,
                    "method 0 (stored): phones read only that",
                    "convert the model again with dermedge convert");
        }
        if (size > MAX_ENTRY_BYTES) {
            throw broken("entry " + name + " has " + size + " bytes, more than " + MAX_ENTRY_BYTES);
        }
        long local = Bytes.u32(data, position + 42) + archive;
        if (local > position || !Bytes.startsWith(data, (int) local, "PK\3\4")) {
            throw broken("entry " + name + " has no local header at byte " + local);
        }
        int header = (int) local;
        int localNameBytes = Bytes.u16(data, header + 26);
        long first = local + 30 + localNameBytes + Bytes.u16(data, header + 28);
        boolean sameName = localNameBytes == nameBytes;
        for (int i = 0; sameName && i < nameBytes; i++) {
            sameName = data[header + 30 + i] == data[position + 46 + i];
        }
        if (!sameName || first + size > position) {
            throw broken("entry " + name + " has a local header that does not fit");
        }
        entries.put(name, new int[] {(int) first, (int) size, Bytes.i32(data, position + 16)});
        return header;
    }

    private EdgeException broken(String found) {
        return new EdgeException(
                EdgeException.Code.CONTRACT_INVALID,
                where + ": the zip tail that holds the contract is damaged",
                found,
                "a zip archive of stored entries, each name once",
                "convert the model again with dermedge convert");
    }
}
