package dermedge.core;

/** Bounds before decoding, by what a photo's header says; `images/memory.py` in Java, with the same limits. */
final class PhotoMemory {
    /** What decoding one photo may hold, the picture included. */
    static final int MAX_DECODED_BYTES = 671_088_640;

    /** Two pictures, for turning and cutting, and a plane of transparency. */
    static final int MAX_TOGETHER_BYTES = 1_073_741_824;

    /** Of a JPEG; each costs time for all pixels, however few its bytes. */
    static final int MAX_SCANS = 32;

    private static final int SCAN = 0xDA;
    private static final int END = 0xD9;
    private static final int WEBP_ALPHA = 0x10;

    private PhotoMemory() {}

    /**
     * Refuses a photo that a platform's decoder would take too much memory or time for.
     *
     * @param sampleSize as {@link Photo.PlatformDecoder#decode}
     */
    static void require(byte[] photo, Photo.Format format, int widthPx, int heightPx, int sampleSize, String name) {
        long stored = (long) widthPx * heightPx;
        long pixels = (long) divideUp(widthPx, sampleSize) * divideUp(heightPx, sampleSize);
        long decoder = 4 * pixels;
        if (format == Photo.Format.JPEG) {
            decoder += coefficientBytes(photo, stored, name);
        } else if (format == Photo.Format.WEBP) {
            decoder = stored * (Bytes.startsWith(photo, 12, "VP8X") && (photo[20] & WEBP_ALPHA) != 0 ? 14 : 12);
        }
        require(decoder, pixels, false, name);
    }

    /** Refuses what needs more than MAX_DECODED_BYTES, or more than MAX_TOGETHER_BYTES for its pictures. */
    static void require(long decoderBytes, long pixels, boolean transparent, String name) {
        long neededBytes = Math.max(decoderBytes, (transparent ? 9 : 8) * pixels);
        boolean decodable = decoderBytes <= MAX_DECODED_BYTES;
        if (!decodable || neededBytes > MAX_TOGETHER_BYTES) {
            throw tooLarge(
                    name + ": the image needs too much memory",
                    (decodable ? neededBytes : decoderBytes) + " bytes to decode it",
                    "at most " + (decodable ? MAX_TOGETHER_BYTES : MAX_DECODED_BYTES) + " bytes");
        }
    }

    /** What libjpeg keeps of a file of several scans; 0 of one that it decodes as it reads. Markers as libjpeg finds them. */
    private static long coefficientBytes(byte[] jpeg, long pixels, String name) {
        int scans = 0;
        boolean kept = false;
        long bytes = 0;
        int components = 0;
        for (int at = nextMarker(jpeg, 2); at >= 0 && u8(jpeg, at) != END; ) {
            int marker = u8(jpeg, at);
            boolean frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
            if (frame && components == 0) {
                components = Math.max(1, u8(jpeg, at + 8));
                bytes = 2 * pixels * samples(jpeg, at + 9, components) / largest(jpeg, at + 9, components);
                kept = marker % 4 == 2;
            } else if (marker == SCAN) {
                scans++;
                kept |= u8(jpeg, at + 3) < components;
            }
            at = nextMarker(jpeg, at + 1 + Math.max(2, u8(jpeg, at + 1) << 8 | u8(jpeg, at + 2)));
        }
        if (scans > MAX_SCANS) {
            throw tooLarge(name + ": the JPEG has too many scans", scans + " scans", "at most " + MAX_SCANS);
        }
        return kept ? bytes : 0;
    }

    /** The sum of the components' areas, in blocks. */
    private static long samples(byte[] jpeg, int at, int components) {
        long sum = 0;
        for (int i = 0; i < components; i++) {
            sum += area(jpeg, at + 3 * i);
        }
        return sum;
    }

    private static int largest(byte[] jpeg, int at, int components) {
        int largest = 1;
        for (int i = 0; i < components; i++) {
            largest = Math.max(largest, area(jpeg, at + 3 * i));
        }
        return largest;
    }

    private static int area(byte[] jpeg, int component) {
        int sampling = u8(jpeg, component + 1);
        return Math.max(1, sampling >> 4) * Math.max(1, sampling & 15);
    }

    /** Where the next marker's second byte stands, -1 at the end; stuffed zeros, restarts and fill bytes are none. */
    private static int nextMarker(byte[] jpeg, int from) {
        for (int at = from; at + 1 < jpeg.length; at++) {
            int next = u8(jpeg, at + 1);
            boolean bare = next <= 1 || next >= 0xD0 && next <= 0xD8 || next == 0xFF;
            if (u8(jpeg, at) == 0xFF && !bare) {
                return at + 1;
            }
        }
        return -1;
    }

    private static int divideUp(int value, int by) {
        return (value + by - 1) / by;
    }

    /** 0 behind the end. */
    private static int u8(byte[] data, int at) {
        return at < data.length ? data[at] & 0xFF : 0;
    }

    private static EdgeException tooLarge(String problem, String found, String expected) {
        return new EdgeException(
                EdgeException.Code.IMAGE_TOO_LARGE,
                problem,
                found,
                expected,
                "shrink the photo first, or save it as a baseline JPEG");
    }
}
