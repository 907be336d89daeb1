package dermedge.core;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.ByteArrayOutputStream;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The limits of tests/edge_runtime/images/test_memory.py. */
class PhotoMemoryTest {
    private static final int PROGRESSIVE = 0xC2;

    private static void add(ByteArrayOutputStream out, int... values) {
        for (int value : values) {
            out.write(value);
        }
    }

    /** A frame of three components, and so many scans of nothing. */
    private static byte[] jpeg(int frame, int sampling, int scans) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        add(out, 0xFF, 0xD8, 0xFF, frame, 0, 17, 8, 0, 9, 0, 9, 3, 1, sampling, 0, 2, 0x11, 0, 3, 0x11, 0);
        for (int i = 0; i < scans; i++) {
            add(out, 0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0, 7, 0xFF, 0, 0xFF, 0xD0, 7);
        }
        add(out, 0xFF, 0xD9, 0xFF, 0xDA, 0xFF, 0xDA);
        return out.toByteArray();
    }

    private static void require(byte[] jpeg, int widthPx, int heightPx) {
        PhotoMemory.require(jpeg, Photo.Format.JPEG, widthPx, heightPx, 8, "photo");
    }

    private static void assertRefused(Runnable decoding) {
        EdgeException error = assertThrows(EdgeException.class, decoding::run);
        assertEquals(EdgeException.Code.IMAGE_TOO_LARGE, error.code());
    }

    @Test
    void scansAreCountedUpToTheFirstPicturesEnd() {
        assertDoesNotThrow(() -> require(jpeg(PROGRESSIVE, 0x22, PhotoMemory.MAX_SCANS), 9, 9));
        assertRefused(() -> require(jpeg(PROGRESSIVE, 0x22, PhotoMemory.MAX_SCANS + 1), 9, 9));
    }

    @Test
    void coefficientsOfSeveralScansAreKeptWhateverTheScale() {
        assertDoesNotThrow(() -> require(jpeg(0xC0, 0x11, 1), 12_000, 10_000));
        assertDoesNotThrow(() -> require(jpeg(PROGRESSIVE, 0x22, 10), 12_000, 10_000));
        assertRefused(() -> require(jpeg(PROGRESSIVE, 0x11, 10), 12_000, 10_000));
    }

    @ParameterizedTest
    @CsvSource({"VP8L, 0, 8000, 6000, false", "VP8L, 0, 10000, 9000, true", "VP8X, 16, 8000, 6000, true"})
    void webpTakesTwoCanvases(String kind, int flags, int widthPx, int heightPx, boolean refused) {
        byte[] webp = ("RIFF....WEBP" + kind + "....").getBytes(java.nio.charset.StandardCharsets.ISO_8859_1);
        byte[] photo = java.util.Arrays.copyOf(webp, 40);
        photo[20] = (byte) flags;
        Runnable decoding = () -> PhotoMemory.require(photo, Photo.Format.WEBP, widthPx, heightPx, 1, "photo");
        if (refused) {
            assertRefused(decoding);
        } else {
            assertDoesNotThrow(decoding::run);
        }
    }

    @Test
    void transparentPngOf120MegapixelsIsRefusedByItsHeader() {
        byte[] header = {'I', 'H', 'D', 'R', 0, 0, 0x2E, (byte) 0xE0, 0, 0, 0x27, 0x10, 8, 6, 0, 0, 0};
        ByteArrayOutputStream png = new ByteArrayOutputStream();
        add(png, 0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0, 0, 0, 13);
        add(png, header);
        add(png, 0, 0, 0, 1);
        add(png, new byte[] {'I', 'D', 'A', 'T', 0});
        assertRefused(() -> new Preprocess(TestModels.tiny().contract(), null).decodeRgb(png.toByteArray(), "photo"));
    }

    private static void add(ByteArrayOutputStream out, byte[] checked) {
        out.write(checked, 0, checked.length);
        CRC32 sum = new CRC32();
        sum.update(checked, 0, checked.length);
        long value = sum.getValue();
        add(out, (int) (value >> 24), (int) (value >> 16), (int) (value >> 8), (int) value);
    }
}
