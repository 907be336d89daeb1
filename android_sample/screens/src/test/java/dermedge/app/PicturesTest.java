package dermedge.app;

import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;

/** The screens, drawn by Android 15's own framework from the app's compiled layouts. For people to look at. */
@RunWith(RobolectricTestRunner.class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = 35, qualifiers = "w411dp-h891dp-port-xhdpi")
public class PicturesTest {
    private static final String[] LANGUAGES = {"en", "ko"};
    private static final String[] LIGHTS = {"notnight", "night"};

    @Test
    public void everyScreenInBothLanguagesLightAndDark() throws Exception {
        for (String language : LANGUAGES) {
            for (String light : LIGHTS) {
                RuntimeEnvironment.setQualifiers("+" + language + "-" + light);
                String name = language + (light.equals("night") ? "_dark" : "_light");
                Phone phone = Phone.start(null);
                phone.draw("first_" + name);
                phone.pick(Phone.photo("lesion.jpg"));
                phone.draw("answer_" + name);
                phone.pick(Phone.photo("refused.heic"));
                phone.draw("refused_" + name);
                phone.controller.close();
            }
        }
    }

    @Test
    @Config(qualifiers = "w891dp-h411dp-land-xhdpi")
    public void turned() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        phone.draw("landscape_en_light");
    }

    @Test
    public void textTwiceAsLarge() throws Exception {
        RuntimeEnvironment.setFontScale(2.0f);
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        phone.draw("large_text_en_light");
    }
}
