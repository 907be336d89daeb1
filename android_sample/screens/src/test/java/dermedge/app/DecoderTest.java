package dermedge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import dermedge.core.EdgeException;
import dermedge.core.ModelFile;
import dermedge.core.Preprocess;
import dermedge.core.RgbImage;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;

/**
 * Android 15's own decoders against Pillow's on the same files: photos that `tests/android/screen_photos.py` drew, and
 * beside each what Python made of it.
 */
@RunWith(RobolectricTestRunner.class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = 35)
public class DecoderTest {
    /** Two colour engines round a converted colour apart by one step. */
    private static final int PROFILE_STEPS = 1;

    private static final int PHOTOS = 22;
    private static final int CUT_PHOTOS = 13;

    @Test
    public void everyFormatIsDecodedAsPythonDecodesIt() throws Exception {
        Preprocess phone = preprocess(new AndroidDecoder());
        Preprocess exact = preprocess(null);
        File[] expected = new File(System.getProperty("dermedge.photos")).listFiles();
        int count = 0;
        for (File png : expected) {
            String name = png.getName().replaceFirst("\\.png$", "");
            if (!png.getName().endsWith(".png") || !new File(png.getParent(), name).isFile()) {
                continue;
            }
            RgbImage theirs = exact.decodeRgb(Files.readAllBytes(png.toPath()), png.getName());
            RgbImage ours = phone.decodeRgb(Phone.photo(name), name);
            assertEquals(name, theirs.widthPx() + "x" + theirs.heightPx(), ours.widthPx() + "x" + ours.heightPx());
            int allowed = name.startsWith("p3.") ? PROFILE_STEPS : 0;
            for (int i = 0; i < theirs.rgb().length; i++) {
                int difference = Math.abs((theirs.rgb()[i] & 0xFF) - (ours.rgb()[i] & 0xFF));
                assertTrue(name + ": sample " + i + " differs by " + difference, difference <= allowed);
            }
            count++;
        }
        assertEquals("photos of tests/android/screen_photos.py", PHOTOS, count);
    }

    /** Android makes a picture of each of these, its missing rows transparent. */
    @Test
    public void whatPythonFindsCutShortIsRefusedWithTheSameCode() throws Exception {
        Preprocess phone = preprocess(new AndroidDecoder());
        int count = 0;
        for (File code : new File(System.getProperty("dermedge.photos")).listFiles()) {
            if (!code.getName().endsWith(".code")) {
                continue;
            }
            String name = code.getName().replaceFirst("\\.code$", "");
            EdgeException error = assertThrows(name, EdgeException.class, () -> phone.decodeRgb(Phone.photo(name), name));
            assertEquals(name, new String(Files.readAllBytes(code.toPath()), StandardCharsets.UTF_8), error.code().toString());
            count++;
        }
        assertEquals("cut photos of tests/android/screen_photos.py", CUT_PHOTOS, count);
    }

    /** What the core's look at the file's frame would let through, were it damaged and not cut. */
    @Test
    public void rowsThatWereNotDecodedAreNoPixels() throws Exception {
        String[] names = {"cut_half_full_chroma.jpg", "cut_200_palette.bmp", "cut_run_lengths.bmp"};
        for (String name : names) {
            byte[] photo = Phone.photo(name);
            EdgeException error = assertThrows(name, EdgeException.class, () -> new AndroidDecoder().decode(photo, 1));
            assertTrue(error.getMessage(), error.getMessage().contains("damaged or incomplete"));
        }
    }

    private static Preprocess preprocess(AndroidDecoder decoder) throws Exception {
        File file = new File(System.getProperty("dermedge.model"));
        return new Preprocess(ModelFile.open(Files.readAllBytes(file.toPath()), file.getName()).contract(), decoder);
    }
}
