package dermedge.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What needs no Python beside it; byte for byte against Python is tests/android/test_android_parity.py. */
class PreprocessTest {
    private static RgbImage numbered(int width, int height) {
        byte[] rgb = new byte[3 * width * height];
        for (int i = 0; i < rgb.length; i++) {
            rgb[i] = (byte) (i / 3);
        }
        return new RgbImage(width, height, rgb);
    }

    /** Rows 0 1 2 / 3 4 5, turned as the EXIF standard says. */
    @ParameterizedTest
    @CsvSource({
        "1, 012345", "2, 210543", "3, 543210", "4, 345012", "5, 031425", "6, 304152", "7, 524130", "8, 251403", "9, 012345"
    })
    void everyOrientation(int orientation, String expected) {
        RgbImage upright = numbered(3, 2).upright(orientation);
        StringBuilder seen = new StringBuilder();
        for (int i = 0; i < upright.rgb.length; i += 3) {
            seen.append(upright.rgb[i]);
        }
        assertEquals(expected, seen.toString());
        assertEquals(orientation >= 5 && orientation <= 8 ? 2 : 3, upright.widthPx);
    }

    @Test
    void damagedExifCountsAsUpright() {
        byte[] block = {'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0};
        assertEquals(6, Exif.orientation(block));
        for (int length = 0; length < block.length - 2; length++) {
            assertEquals(1, Exif.orientation(java.util.Arrays.copyOf(block, length)), "cut at " + length);
        }
    }

    @Test
    void resizingKeepsAFlatPictureFlatAndAnEqualSizeUntouched() {
        RgbImage image = numbered(7, 5);
        assertArrayEquals(image.rgb, PillowResize.resize(image, 7, 5, PillowResize.Filter.BILINEAR).rgb);
        byte[] grey = new byte[3 * 31 * 17];
        java.util.Arrays.fill(grey, (byte) 201);
        for (byte value : PillowResize.resize(new RgbImage(31, 17, grey), 8, 40, PillowResize.Filter.BILINEAR).rgb) {
            assertEquals((byte) 201, value);
        }
    }

    @Test
    void otherFormatsAreRefusedByTheirContent() {
        Preprocess preprocess = new Preprocess(TestModels.tiny().contract(), null);
        String[] others = {"GIF89a......", "....ftypheic", "II*\0....", "%PDF-1.7", ""};
        int known = 4;
        for (String other : others) {
            byte[] photo = other.getBytes(java.nio.charset.StandardCharsets.ISO_8859_1);
            EdgeException error = assertThrows(EdgeException.class, () -> preprocess.decodeRgb(photo, "photo"));
            EdgeException.Code code =
                    known-- > 0 ? EdgeException.Code.IMAGE_UNSUPPORTED : EdgeException.Code.IMAGE_UNREADABLE;
            assertEquals(code, error.code());
        }
    }

    @Test
    void aCutOrFlippedPngIsRefused() {
        ModelFile model = TestModels.tiny();
        byte[] png = model.readEntry(model.contract().golden().get(0).image);
        Preprocess preprocess = new Preprocess(model.contract(), null);
        for (int length = 0; length < png.length - 16; length += 13) {
            byte[] cut = java.util.Arrays.copyOf(png, length);
            assertThrows(EdgeException.class, () -> preprocess.decodeRgb(cut, "cut"), "cut at " + length);
        }
        byte[] flipped = png.clone();
        flipped[png.length / 2] ^= 1;
        assertThrows(EdgeException.class, () -> preprocess.decodeRgb(flipped, "flipped"));
    }

    @Test
    void scoresThatAreNoSoftmaxAreRefused() {
        TensorSpec spec = new TensorSpec(new int[] {1, 2}, "uint8", 1 / 256.0, 0);
        assertThrows(EdgeException.class, () -> Scores.scoresFrom(new byte[] {10, 10}, spec));
        assertArrayEquals(new double[] {0.5, 0.5}, Scores.scoresFrom(new byte[] {(byte) 128, (byte) 128}, spec));
        assertEquals(0.6, Scores.exactSum(new double[] {0.1, 0.2, 0.3}), 0.0);
    }
}
