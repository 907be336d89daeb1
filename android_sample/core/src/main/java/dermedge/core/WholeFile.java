package dermedge.core;

/**
 * Whether a photo's file holds all that its header promises, as Pillow wants it. Phones decode what is there of a file
 * that was cut short and leave the rest transparent, which would be classified as white.
 */
final class WholeFile {
    private static final int START_OF_SCAN = 0xDA;
    private static final int END_OF_IMAGE = 0xD9;
    private static final int BMP_CORE_HEADER_BYTES = 12;
    private static final int BMP_COLORS_WITHOUT_ALPHA_BITS = 24;

    private WholeFile() {}

    /** @throws EdgeException the file ends before its picture does, or its parts lead nowhere */
    static void require(byte[] photo, Photo.Format format, String name) {
        boolean whole;
        switch (format) {
            case JPEG:
                whole = jpegEnds(photo);
                break;
            case WEBP:
                whole = Bytes.u32(photo, 4) + 8 <= photo.length;
                break;
            case BMP:
                whole = bmpHasItsRows(photo);
                break;
            default:
                // The core's own PNG decoder finds every cut.
                return;
        }
        if (!whole) {
            throw incomplete(name, photo.length + " bytes of a longer or a damaged " + format);
        }
    }

    /** What every decoder of photos says of a damaged file, Python's too. */
    static EdgeException incomplete(String name, String found) {
        return new EdgeException(
                EdgeException.Code.IMAGE_UNREADABLE,
                name + ": the image is damaged or incomplete",
                found,
                "a complete image file",
                "copy or export the photo again");
    }

    /**
     * Whether the picture's own end follows its scans. Whole segments are skipped, for a preview in one of them has an
     * end of its own; what follows the end (further pictures, a video, zeros) is nobody's affair. Refuses what libjpeg
     * refuses on its way: a second start, markers that it does not know.
     */
    private static boolean jpegEnds(byte[] jpeg) {
        boolean scanned = false;
        int at = 2;
        while (true) {
            // Coded data, of which FF 00 is a part; bytes between segments, which libjpeg skips too.
            while (at + 1 < jpeg.length && !(u8(jpeg, at) == 0xFF && isMarker(u8(jpeg, at + 1)))) {
                at++;
            }
            if (at + 1 >= jpeg.length) {
                return false;
            }
            int marker = u8(jpeg, at + 1);
            at += 2;
            if (marker == END_OF_IMAGE) {
                return scanned;
            }
            if (standsAlone(marker)) {
                continue;
            }
            int length = at + 2 <= jpeg.length ? u8(jpeg, at) << 8 | u8(jpeg, at + 1) : 0;
            if (!hasLength(marker) || length < 2 || at + length > jpeg.length) {
                return false;
            }
            scanned |= marker == START_OF_SCAN;
            at += length;
        }
    }

    /** FF 00 is a coded FF, and any number of FF may stand before a marker. */
    private static boolean isMarker(int code) {
        return code != 0 && code != 0xFF;
    }

    /** Restart markers, and TEM. */
    private static boolean standsAlone(int marker) {
        return marker == 0x01 || marker >= 0xD0 && marker <= 0xD7;
    }

    /** Frames, tables, scans, APPn and comments: what libjpeg knows. */
    private static boolean hasLength(int marker) {
        return marker >= 0xC0 && marker <= 0xCF || marker >= START_OF_SCAN && marker <= 0xEF || marker == 0xFE;
    }

    /** Rows that are run-length coded have no length in the header. */
    private static boolean bmpHasItsRows(byte[] bmp) {
        if (bmp.length < 34) {
            return false;
        }
        long needed = Bytes.u32(bmp, 10) + bmpRowBytes(bmp) * bmpHeightPx(bmp);
        return bmpIsRunLengthCoded(bmp) || needed <= bmp.length;
    }

    private static boolean isCore(byte[] bmp) {
        return Bytes.u32(bmp, 14) == BMP_CORE_HEADER_BYTES;
    }

    private static int bmpBits(byte[] bmp) {
        return Bytes.u16(bmp, isCore(bmp) ? 24 : 28);
    }

    private static boolean bmpIsRunLengthCoded(byte[] bmp) {
        long compression = isCore(bmp) ? 0 : Bytes.u32(bmp, 30);
        return compression == 1 || compression == 2;
    }

    /** Rows are padded to four bytes. */
    private static long bmpRowBytes(byte[] bmp) {
        long widthPx = isCore(bmp) ? Bytes.u16(bmp, 18) : Math.abs((long) Bytes.i32(bmp, 18));
        return (widthPx * bmpBits(bmp) + 31) / 32 * 4;
    }

    /** Negative where the top row comes first. */
    private static long bmpHeightPx(byte[] bmp) {
        return isCore(bmp) ? Bytes.u16(bmp, 20) : Math.abs((long) Bytes.i32(bmp, 22));
    }

    /** Whether a pixel of this file can be transparent for one reason alone: it was not decoded. */
    static boolean hasNoAlpha(byte[] photo, Photo.Format format) {
        if (format != Photo.Format.BMP) {
            return format == Photo.Format.JPEG;
        }
        int bits = bmpBits(photo);
        return bits == BMP_COLORS_WITHOUT_ALPHA_BITS || bits <= 8;
    }

    private static int u8(byte[] data, int at) {
        return data[at] & 0xFF;
    }
}
