package dermedge.core;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;

/**
 * The EXIF orientation and nothing else; `exif_orientation` in Java. Android's ExifInterface reads other places too
 * and its answers change with releases.
 */
final class Exif {
    private static final int ORIENTATION_TAG = 0x0112;

    private Exif() {}

    /** The orientation in an EXIF block, with or without its `Exif` header; 1 when it has none or is damaged. */
    static int orientation(byte[] block) {
        int start = Bytes.startsWith(block, 0, "Exif\0\0") ? 6 : 0;
        boolean little = Bytes.startsWith(block, start, "II");
        if (!little && !Bytes.startsWith(block, start, "MM")) {
            return 1;
        }
        byte[] tiff = Arrays.copyOfRange(block, start, block.length);
        long directory = number(tiff, 4, 4, little);
        long count = number(tiff, directory, 2, little);
        boolean tiffMagic = number(tiff, 2, 2, little) == 42;
        for (long i = 0; i < count; i++) {
            long entry = directory + 2 + 12 * i;
            long kind = number(tiff, entry + 2, 2, little);
            long values = number(tiff, entry + 4, 4, little);
            if (values < 0) {
                return 1;
            }
            boolean orientation = number(tiff, entry, 2, little) == ORIENTATION_TAG;
            if (orientation && tiffMagic && values == 1 && (kind == 3 || kind == 4)) {
                long value = number(tiff, entry + 8, kind == 3 ? 2 : 4, little);
                return value >= 1 && value <= 8 ? (int) value : 1;
            }
        }
        return 1;
    }

    /** An unsigned number of 2 or 4 bytes; -1 where the block ends before it. */
    private static long number(byte[] tiff, long at, int width, boolean little) {
        if (at < 0 || at + width > tiff.length) {
            return -1;
        }
        long number = 0;
        for (int i = 0; i < width; i++) {
            number = number << 8 | tiff[(int) at + (little ? width - 1 - i : i)] & 0xFF;
        }
        return number;
    }

    /** The EXIF block of a JPEG, empty when it has none: all its APP1 segments, as Pillow joins them. */
    static byte[] ofJpeg(byte[] jpeg) {
        ByteArrayOutputStream block = new ByteArrayOutputStream();
        int at = 2;
        while (at + 4 <= jpeg.length && (jpeg[at] & 0xFF) == 0xFF) {
            int marker = jpeg[at + 1] & 0xFF;
            if (marker == 0xFF) {
                at++;
                continue;
            }
            if (marker == 0xDA) {
                break;
            }
            if (marker == 0x01 || marker >= 0xD0 && marker <= 0xD8) {
                at += 2;
                continue;
            }
            int length = (jpeg[at + 2] & 0xFF) << 8 | jpeg[at + 3] & 0xFF;
            if (length < 2 || at + 2 + length > jpeg.length) {
                break;
            }
            if (marker == 0xE1 && length >= 8 && Bytes.startsWith(jpeg, at + 4, "Exif\0\0")) {
                int skip = block.size() > 0 ? 6 : 0;
                block.write(jpeg, at + 4 + skip, length - 2 - skip);
            }
            at += 2 + length;
        }
        return block.toByteArray();
    }

    /** The EXIF block of a WebP, empty when it has none. */
    static byte[] ofWebp(byte[] webp) {
        long at = 12;
        while (at + 8 <= webp.length) {
            long size = Bytes.u32(webp, (int) at + 4);
            if (Bytes.startsWith(webp, (int) at, "EXIF") && at + 8 + size <= webp.length) {
                return Arrays.copyOfRange(webp, (int) at + 8, (int) (at + 8 + size));
            }
            at += 8 + size + (size & 1);
        }
        return new byte[0];
    }
}
