package dermedge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import android.app.Activity;
import android.content.ClipboardManager;
import android.content.Context;
import android.content.Intent;
import android.graphics.Insets;
import android.graphics.Rect;
import android.provider.MediaStore;
import android.text.Layout;
import android.view.View;
import android.view.ViewGroup;
import android.view.WindowInsets;
import android.widget.ImageView;
import android.widget.TextView;
import dermedge.core.Json;
import java.io.File;
import java.io.FileOutputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;
import org.robolectric.shadow.api.Shadow;
import org.robolectric.shadows.ShadowActivity;

/** What the one screen does, on Android 15's framework. */
@RunWith(RobolectricTestRunner.class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = 35, qualifiers = "w411dp-h891dp-port-xhdpi")
public class ScreenTest {
    private static final int TOUCH_DP = 48;
    private static final int NARROW_DP = 320;

    @Test
    public void aPickedPhotoGetsPythonsLabelAndTheTruthAboutTheAccelerator() throws Exception {
        Phone phone = Phone.start(null);
        assertEquals("Pick or take a photo.", phone.text(R.id.status));
        for (String photo : new String[] {"lesion.jpg", "turned.jpg", "large.jpg", "lossy.webp", "plain.bmp"}) {
            phone.pick(Phone.photo(photo));
            String label = new String(Phone.photo(photo + ".label"), StandardCharsets.UTF_8);
            assertEquals(photo, label, phone.session().prediction.best().label.code);
            View bars = phone.activity().findViewById(R.id.bars);
            String first = ((TextView) bars.findViewById(R.id.bar_text)).getText().toString();
            assertTrue(first, first.startsWith(phone.session().prediction.best().label.name));
        }
        String runs = phone.text(R.id.runs);
        String used = phone.session().report.usedText();
        assertTrue(runs, runs.startsWith("Requested: npu, gpu, cpu. Used: " + used + "."));
        assertTrue(runs, runs.contains("Why not npu, strict: ") && runs.contains("inference "));
    }

    @Test
    public void theFirstScreenSaysWhatItIsNot() throws Exception {
        Phone phone = Phone.start(null);
        assertTrue(allText(phone).get(0).getText().toString().startsWith("Research use only"));
        RuntimeEnvironment.setQualifiers("+ko");
        assertTrue(allText(Phone.start(null)).get(0).getText().toString().startsWith("연구용입니다"));
    }

    @Test
    public void whatIsNoPhotoIsRefusedWithAReasonAndTheNextOneWorks() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("refused.heic"));
        assertTrue(phone.text(R.id.status), phone.text(R.id.status).startsWith("The photo is damaged"));
        assertTrue(phone.text(R.id.reason), phone.text(R.id.reason).contains("HEIC"));
        assertNull(phone.session().prediction);
        phone.pick(Phone.photo("lesion.jpg"));
        assertFalse(phone.text(R.id.reason), phone.text(R.id.reason).contains("HEIC"));
    }

    @Test
    public void turningThePhoneLosesNothing() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        Activity before = phone.activity();
        List<String> texts = strings(phone);
        RuntimeEnvironment.setQualifiers("+land");
        phone.controller.recreate();
        phone.waitUntilIdle();
        assertTrue(before != phone.activity());
        assertEquals(texts, strings(phone));
        assertEquals(View.VISIBLE, phone.activity().findViewById(R.id.photo).getVisibility());
    }

    @Test
    public void aSharedPhotoIsClassified() throws Exception {
        Phone phone = Phone.start(null);
        Intent share = new Intent(Intent.ACTION_SEND).setType("image/jpeg");
        share.putExtra(Intent.EXTRA_STREAM, Phone.offer(phone.activity(), Phone.photo("lesion.jpg")));
        phone.controller.newIntent(share);
        phone.waitUntilIdle();
        assertTrue(phone.session().prediction != null);
    }

    @Test
    public void aTakenPhotoIsClassifiedAndTheCameraGetsOneFileAlone() throws Exception {
        Phone phone = Phone.start(null);
        phone.activity().findViewById(R.id.take).performClick();
        ShadowActivity shadow = Shadow.extract(phone.activity());
        Intent camera = shadow.getNextStartedActivityForResult().intent;
        assertEquals(MediaStore.ACTION_IMAGE_CAPTURE, camera.getAction());
        assertEquals(PhotoProvider.PHOTO, camera.getParcelableExtra(MediaStore.EXTRA_OUTPUT));
        try (OutputStream out = new FileOutputStream(PhotoProvider.file(phone.activity()))) {
            out.write(Phone.photo("turned.jpg"));
        }
        shadow.receiveResult(camera, Activity.RESULT_OK, new Intent());
        phone.waitUntilIdle();
        assertTrue(phone.session().prediction != null);
        assertEquals("the photo is left behind", 0, photosKept(phone));
    }

    @Test
    public void aPhotoThatWasNotTakenLeavesNoFile() throws Exception {
        Phone phone = Phone.start(null);
        phone.activity().findViewById(R.id.take).performClick();
        ShadowActivity shadow = Shadow.extract(phone.activity());
        shadow.receiveResult(shadow.getNextStartedActivityForResult().intent, Activity.RESULT_CANCELED, null);
        phone.waitUntilIdle();
        assertEquals(0, photosKept(phone));
        // A process that ended between the camera and the reading.
        assertTrue(new File(phone.activity().getCacheDir(), "taken1.jpg").createNewFile());
        Phone.start(null);
        assertEquals(0, photosKept(phone));
    }

    private static int photosKept(Phone phone) {
        return phone.activity().getCacheDir().listFiles((folder, name) -> name.endsWith(".jpg")).length;
    }

    @Test
    public void theReportTellsTheLadderAndNothingOfThePhoto() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        phone.activity().findViewById(R.id.copy).performClick();
        ClipboardManager board = (ClipboardManager) phone.activity().getSystemService(Context.CLIPBOARD_SERVICE);
        String report = board.getPrimaryClip().getItemAt(0).getText().toString();
        Map<?, ?> fields = (Map<?, ?>) Json.parse(report);
        assertEquals(phone.session().report.used().toString(), ((Map<?, ?>) fields.get("ladder")).get("used"));
        assertFalse(report, report.contains(phone.session().prediction.best().label.name));
    }

    @Test
    public void testingAgainClimbsAgainAndKeepsTheAnswer() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        Object report = phone.session().report;
        phone.activity().findViewById(R.id.retest).performClick();
        assertFalse(phone.activity().findViewById(R.id.retest).isEnabled());
        phone.waitUntilIdle();
        assertTrue(report != phone.session().report);
        assertTrue(phone.session().prediction != null);
    }

    /** Text twice as large on a small phone: nothing is cut, and what is pressed is large enough for a finger. */
    @Test
    @Config(qualifiers = "w320dp-h640dp-port-xhdpi")
    public void largeTextOnASmallPhone() throws Exception {
        RuntimeEnvironment.setFontScale(2.0f);
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        phone.draw("small_phone_large_text");
        float density = phone.activity().getResources().getDisplayMetrics().density;
        assertEquals(NARROW_DP * density, phone.window().getWidth(), 1);
        for (TextView view : allText(phone)) {
            Layout layout = view.getLayout();
            String text = view.getText().toString();
            int roomPx = view.getHeight() - view.getCompoundPaddingTop() - view.getCompoundPaddingBottom();
            assertTrue(text, layout.getHeight() <= roomPx);
            assertEquals(text, 0, layout.getEllipsisCount(layout.getLineCount() - 1));
            Rect where = new Rect();
            view.getDrawingRect(where);
            ((ViewGroup) phone.window()).offsetDescendantRectToMyCoords(view, where);
            assertTrue(text, where.left >= 0 && where.right <= phone.window().getWidth());
            assertTrue(text, !view.isClickable() || view.isTextSelectable() || view.getHeight() >= TOUCH_DP * density);
        }
    }

    @Test
    public void barsOfTheSystemCoverNothing() throws Exception {
        Phone phone = Phone.start(null);
        int type = WindowInsets.Type.systemBars();
        WindowInsets bars = new WindowInsets.Builder().setInsets(type, Insets.of(10, 60, 20, 90)).build();
        View root = phone.activity().findViewById(R.id.root);
        root.dispatchApplyWindowInsets(bars);
        assertEquals("10 60 20 90", padding(root));
    }

    /** What TalkBack reads: each thing that is pressed or seen has words, and a new answer is announced. */
    @Test
    public void talkBackHasWordsForEverything() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        int seen = 0;
        for (View view : all(phone.activity().findViewById(R.id.root), new ArrayList<View>())) {
            boolean hasWords = view.getContentDescription() != null
                    || view instanceof TextView && ((TextView) view).length() > 0;
            if (view.isShown() && (view.isClickable() || view instanceof ImageView)) {
                assertTrue(view.toString(), hasWords);
                seen++;
            }
        }
        assertTrue(seen >= 5);
        assertEquals(
                View.ACCESSIBILITY_LIVE_REGION_POLITE,
                phone.activity().findViewById(R.id.status).getAccessibilityLiveRegion());
    }

    private static String padding(View view) {
        return view.getPaddingLeft() + " " + view.getPaddingTop() + " " + view.getPaddingRight() + " "
                + view.getPaddingBottom();
    }

    private static List<String> strings(Phone phone) {
        List<String> strings = new ArrayList<String>();
        for (TextView view : allText(phone)) {
            strings.add(view.getText().toString());
        }
        return strings;
    }

    private static List<TextView> allText(Phone phone) {
        List<TextView> texts = new ArrayList<TextView>();
        for (View view : all(phone.activity().findViewById(R.id.root), new ArrayList<View>())) {
            if (view instanceof TextView && view.isShown()) {
                texts.add((TextView) view);
            }
        }
        return texts;
    }

    private static List<View> all(View view, List<View> found) {
        found.add(view);
        if (view instanceof ViewGroup) {
            for (int i = 0; i < ((ViewGroup) view).getChildCount(); i++) {
                all(((ViewGroup) view).getChildAt(i), found);
            }
        }
        return found;
    }
}
