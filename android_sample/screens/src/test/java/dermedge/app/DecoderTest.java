package dermedge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import dermedge.core.ModelFile;
import dermedge.core.Preprocess;
import dermedge.core.RgbImage;
import java.io.File;
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

    private static final int PHOTOS = 13;

    @Test
    public void everyFormatIsDecodedAsPythonDecodesIt() throws Exception {
        File file = new File(System.getProperty("dermedge.model"));
        ModelFile model = ModelFile.open(Files.readAllBytes(file.toPath()), file.getName());
        Preprocess phone = new Preprocess(model.contract(), new AndroidDecoder());
        Preprocess exact = new Preprocess(model.contract(), null);
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
}
