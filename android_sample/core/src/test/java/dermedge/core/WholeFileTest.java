package dermedge.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Files that end before their picture does. Of the pictures there are only frames, which is all that is looked at; real
 * ones, cut and held against Pillow's verdict, are in `DecoderTest`.
 */
class WholeFileTest {
    private static final int[] START = {0xFF, 0xD8, 0xFF};

    /** Says yes to everything, as a phone does. */
    private static final class Phone implements Photo.PlatformDecoder {
        @Override
        public int[] sizePx(byte[] photo) {
            return new int[] {4, 4};
        }

        @Override
        public RgbImage decode(byte[] photo, int sampleSize) {
            return new RgbImage(4, 4, new byte[48]);
        }
    }

    private static void decode(byte[] photo) {
        new Preprocess(TestModels.tiny().contract(), new Phone()).decodeRgb(photo, "photo");
    }

    private static void assertIncomplete(byte[] photo, String what) {
        EdgeException error = assertThrows(EdgeException.class, () -> decode(photo), what);
        assertEquals(EdgeException.Code.IMAGE_UNREADABLE, error.code(), what);
    }

    private static byte[] bytes(int... values) {
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            bytes[i] = (byte) values[i];
        }
        return bytes;
    }

    private static byte[] join(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            out.write(part, 0, part.length);
        }
        return out.toByteArray();
    }

    private static byte[] segment(int marker, byte... content) {
        int length = content.length + 2;
        return join(bytes(0xFF, marker, length >> 8, length & 0xFF), content);
    }

    /** Two scans; coded data with a coded FF and a restart; between them a table behind fill bytes. */
    private static byte[] jpeg(byte[] preview) {
        return join(
                bytes(0xFF, 0xD8),
                segment(0xE1, preview),
                segment(0xC2, new byte[9]),
                segment(0xDA, new byte[4]),
                bytes(1, 2, 0xFF, 0, 3, 0xFF, 0xD0, 4),
                bytes(0xFF, 0xFF),
                segment(0xC4, new byte[5]),
                segment(0xDA, new byte[4]),
                bytes(5, 6, 0xFF, 0xD9));
    }

    @Test
    void aJpegHasToReachItsOwnEnd() {
        byte[] plain = jpeg(new byte[] {'E', 'x', 'i', 'f', 0, 0});
        // A preview in its EXIF block is a picture with an end.
        byte[] jpeg = jpeg(plain);
        decode(jpeg);
        for (int length = 3; length < jpeg.length; length++) {
            assertIncomplete(Arrays.copyOf(jpeg, length), "cut at " + length);
        }
        // A second picture, a video, zeros: none of them has to be whole.
        decode(join(jpeg, plain));
        decode(join(jpeg, Arrays.copyOf(plain, plain.length / 2)));
        decode(join(jpeg, new byte[100]));
        assertIncomplete(join(Arrays.copyOf(jpeg, jpeg.length - 2), new byte[100]), "zeros are no end");
        assertIncomplete(join(Arrays.copyOf(jpeg, jpeg.length - 2), jpeg), "a second start within");
        assertIncomplete(join(bytes(0xFF, 0xD8), segment(0xE0), bytes(0xFF, 0xD9)), "an end without pixels");
        assertIncomplete(join(bytes(0xFF, 0xD8), segment(0x42), bytes(0xFF, 0xD9)), "no marker of JPEG");
    }

    @Test
    void aWebpIsAsLongAsItSays() {
        byte[] webp = join("RIFF".getBytes(ZipTail.UTF_8), bytes(20, 0, 0, 0), "WEBPVP8 ".getBytes(ZipTail.UTF_8), new byte[12]);
        decode(webp);
        decode(join(webp, new byte[7]));
        for (int length = 12; length < webp.length; length++) {
            assertIncomplete(Arrays.copyOf(webp, length), "cut at " + length);
        }
        webp[7] = (byte) 0x80;
        assertIncomplete(webp, "two gigabytes");
    }

    /** Of 3 x 2 pixels with `bits` each. */
    private static byte[] bmp(int bits, int heightPx, int compression) {
        int rowBytes = (3 * bits + 31) / 32 * 4;
        ByteBuffer bmp = ByteBuffer.allocate(54 + 2 * rowBytes).order(ByteOrder.LITTLE_ENDIAN);
        bmp.put(new byte[] {'B', 'M'}).putInt(10, 54).putInt(14, 40).putInt(18, 3).putInt(22, heightPx);
        return bmp.putShort(28, (short) bits).putInt(30, compression).array();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4, 8, 16, 24, 32})
    void aBmpHasAllItsRows(int bits) {
        for (int heightPx : new int[] {2, -2}) {
            byte[] bmp = bmp(bits, heightPx, 0);
            decode(bmp);
            decode(join(bmp, new byte[3]));
            for (int length = 2; length < bmp.length; length++) {
                assertIncomplete(Arrays.copyOf(bmp, length), "cut at " + length);
            }
        }
        // How long coded rows are, only the decoder knows.
        decode(Arrays.copyOf(bmp(bits, 2, 1), 54));
    }

    @Test
    void anOldBmpHasAllItsRows() {
        ByteBuffer bmp = ByteBuffer.allocate(26 + 2 * 12).order(ByteOrder.LITTLE_ENDIAN);
        bmp.put(new byte[] {'B', 'M'}).putInt(10, 26).putInt(14, 12).putShort(18, (short) 3).putShort(20, (short) 2);
        bmp.putShort(24, (short) 24);
        decode(bmp.array());
        assertIncomplete(Arrays.copyOf(bmp.array(), 49), "one byte less");
    }

    @Test
    void whatIsTransparentThoughItsFormatIsNotWasNotDecoded() {
        byte[] rgba = new byte[4 * 4 * 4];
        Arrays.fill(rgba, (byte) 0xFF);
        byte[][] opaque = {bytes(START), bmp(24, 2, 0), bmp(8, 2, 1)};
        byte[][] seeThrough = {bmp(32, 2, 0), join("RIFF    WEBP".getBytes(ZipTail.UTF_8))};
        for (byte[] photo : opaque) {
            Photo.decoded(photo, 4, 4, rgba);
        }
        rgba[rgba.length - 1] = (byte) 0xFE;
        for (byte[] photo : opaque) {
            EdgeException error = assertThrows(EdgeException.class, () -> Photo.decoded(photo, 4, 4, rgba));
            assertEquals(EdgeException.Code.IMAGE_UNREADABLE, error.code());
        }
        for (byte[] photo : seeThrough) {
            Photo.decoded(photo, 4, 4, rgba);
        }
    }

    /** Without an end, as what another app shares may be. */
    private static final class Endless extends InputStream {
        long given;
        boolean closed;

        @Override
        public int read() {
            given++;
            return 0;
        }

        @Override
        public int read(byte[] into, int from, int count) {
            given += count;
            return count;
        }

        @Override
        public void close() {
            closed = true;
        }
    }

    @Test
    void aPhotoIsReadToItsEndAndNoFurtherThanTheLimit() {
        byte[] photo = new byte[200_000];
        photo[199_999] = 7;
        assertArrayEquals(photo, Photo.read(new ByteArrayInputStream(photo), "photo", photo.length));
        Endless endless = new Endless();
        EdgeException error = assertThrows(EdgeException.class, () -> Photo.read(endless, "photo", 1_000_000));
        assertEquals(EdgeException.Code.IMAGE_TOO_LARGE, error.code());
        assertTrue(endless.closed && endless.given <= 1_100_000, endless.given + " bytes");
        error = assertThrows(EdgeException.class, () -> Photo.read(null, "photo"));
        assertEquals(EdgeException.Code.IMAGE_NOT_FOUND, error.code());
        error = assertThrows(EdgeException.class, () -> Photo.read(new ByteArrayInputStream(new byte[0]), "photo"));
        assertEquals(EdgeException.Code.IMAGE_UNREADABLE, error.code());
        InputStream broken = new InputStream() {
            @Override
            public int read() throws IOException {
                throw new IOException("no network");
            }
        };
        error = assertThrows(EdgeException.class, () -> Photo.read(broken, "photo"));
        assertEquals(EdgeException.Code.IMAGE_NOT_FOUND, error.code());
        assertTrue(error.getMessage().contains("no network"), error.getMessage());
    }
}
