package dermedge.app;

import android.app.Activity;
import android.content.Intent;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.net.Uri;
import android.view.View;
import android.widget.TextView;
import com.google.ai.edge.litert.CompiledModel;
import dermedge.engine.desktop.DesktopEngineFactory;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Field;
import java.nio.file.Files;
import org.robolectric.Robolectric;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.shadow.api.Shadow;
import org.robolectric.shadows.ShadowActivity;
import org.robolectric.shadows.ShadowContentResolver;
import org.robolectric.shadows.ShadowLooper;

/** One run of the app: its activity on Android 15, its engine on the real LiteRT library. */
final class Phone {
    private static final int LONGEST_WAIT_MS = 120_000;
    private static final Uri PICKED = Uri.parse("content://picker/1");

    final ActivityController<MainActivity> controller;

    private Phone(ActivityController<MainActivity> controller) {
        this.controller = controller;
    }

    /** A fresh process: the app keeps its session in a static field. */
    static Phone start(Intent intent) throws Exception {
        CompiledModel.library = new DesktopEngineFactory(new File(System.getProperty("dermedge.litert")));
        Field instance = Session.class.getDeclaredField("instance");
        instance.setAccessible(true);
        instance.set(null, null);
        // Robolectric installs no native libraries; the app asks where they are.
        RuntimeEnvironment.getApplication().getApplicationInfo().nativeLibraryDir = System.getProperty("dermedge.photos");
        Phone phone = new Phone(Robolectric.buildActivity(MainActivity.class, intent).setup());
        phone.waitUntilIdle();
        return phone;
    }

    static byte[] photo(String name) throws IOException {
        return Files.readAllBytes(new File(System.getProperty("dermedge.photos"), name).toPath());
    }

    /** Makes a content address that yields these bytes. */
    static Uri offer(Activity activity, byte[] photo) {
        return offer(activity, new ByteArrayInputStream(photo));
    }

    /** Makes a content address behind which this stands. */
    static Uri offer(Activity activity, InputStream photo) {
        ShadowContentResolver resolver = Shadow.extract(activity.getContentResolver());
        resolver.registerInputStreamSupplier(PICKED, () -> photo);
        return PICKED;
    }

    MainActivity activity() {
        return controller.get();
    }

    Session session() {
        return Session.get(activity());
    }

    /** Presses "Pick a photo", answers as the picker does, waits for the screen. */
    void pick(byte[] photo) throws InterruptedException {
        pick(new ByteArrayInputStream(photo));
        waitUntilIdle();
    }

    /** The same without waiting. */
    void pick(InputStream photo) {
        activity().findViewById(R.id.pick).performClick();
        ShadowActivity shadow = Shadow.extract(activity());
        Intent asked = shadow.getNextStartedActivityForResult().intent;
        shadow.receiveResult(asked, Activity.RESULT_OK, new Intent().setData(offer(activity(), photo)));
    }

    void waitUntilIdle() throws InterruptedException {
        long deadline = System.currentTimeMillis() + LONGEST_WAIT_MS;
        ShadowLooper.idleMainLooper();
        while (session().busy()) {
            if (System.currentTimeMillis() > deadline) {
                throw new IllegalStateException("the app is still busy");
            }
            Thread.sleep(5);
            ShadowLooper.idleMainLooper();
        }
    }

    String text(int id) {
        return ((TextView) activity().findViewById(id)).getText().toString();
    }

    View window() {
        return activity().getWindow().getDecorView();
    }

    /** Lets the framework draw the whole window; the file's name says what it shows. */
    void draw(String name) throws IOException {
        ShadowLooper.idleMainLooper();
        View window = window();
        Bitmap picture = Bitmap.createBitmap(window.getWidth(), window.getHeight(), Bitmap.Config.ARGB_8888);
        window.draw(new Canvas(picture));
        File folder = new File(System.getProperty("dermedge.pictures"));
        if (!folder.isDirectory() && !folder.mkdirs()) {
            throw new IOException(folder + ": cannot be made");
        }
        try (OutputStream out = new FileOutputStream(new File(folder, name + ".png"))) {
            picture.compress(Bitmap.CompressFormat.PNG, 100, out);
        }
    }
}
