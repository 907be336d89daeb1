package dermedge.app;

import android.content.Context;
import android.content.res.AssetManager;
import android.graphics.Bitmap;
import android.os.Build;
import android.os.Handler;
import android.os.Looper;
import dermedge.core.Accelerator;
import dermedge.core.EdgeException;
import dermedge.core.EngineFactory;
import dermedge.core.Json;
import dermedge.core.Ladder;
import dermedge.core.LadderReport;
import dermedge.core.LadderStore;
import dermedge.core.ModelFile;
import dermedge.core.Prediction;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** The model, its engine and the last answer. One a process, so that turning the phone loses nothing. */
final class Session {
    private static final String APP_VERSION = "0.1.0";
    private static final int PREVIEW_SIDE_PX = 1024;

    private static Session instance;

    private final Context context;
    private final ExecutorService worker = Executors.newSingleThreadExecutor();
    private final Handler screen = new Handler(Looper.getMainLooper());
    private Runnable listener;
    private Ladder.Result ladder;

    volatile ModelFile model;
    volatile LadderReport report;
    volatile Prediction prediction;
    volatile Bitmap preview;
    String error;
    private volatile byte[] photo;
    private int tasks;

    static Session get(Context context) {
        if (instance == null) {
            instance = new Session(context.getApplicationContext());
            instance.climb(false);
        }
        return instance;
    }

    private Session(Context context) {
        this.context = context;
    }

    /** Called on the screen's thread whenever something changed; null stops it. */
    void listen(Runnable changed) {
        listener = changed;
    }

    /** Opens the model and finds the best accelerator; `again` forgets what earlier climbs found. */
    void climb(final boolean again) {
        inBackground(
                new Runnable() {
                    @Override
                    public void run() {
                        climbNow(again);
                    }
                });
    }

    /** Whether something is under way. */
    boolean busy() {
        return tasks > 0;
    }

    void classify(final byte[] bytes) {
        photo = bytes;
        preview = null;
        prediction = null;
        inBackground(
                new Runnable() {
                    @Override
                    public void run() {
                        classifyNow(bytes);
                    }
                });
    }

    private void classifyNow(byte[] bytes) {
        Bitmap shown = AndroidDecoder.preview(bytes, PREVIEW_SIDE_PX);
        if (photo == bytes) {
            preview = shown;
        }
        if (ladder == null) {
            // The climb failed; this says again why.
            climbNow(false);
        }
        Prediction made = ladder.classifier.classify(bytes, "photo");
        if (photo == bytes) {
            // Another photo may have been chosen meanwhile.
            prediction = made;
        }
    }

    private void climbNow(boolean again) {
        if (ladder != null) {
            ladder.classifier.engine().close();
            ladder = null;
        }
        if (model == null) {
            model = readModel();
        }
        EngineFactory factory = Engines.create(context);
        String situation = model.sha256() + " " + APP_VERSION + " " + factory.runtime() + " " + Build.FINGERPRINT;
        LadderStore store = new LadderStore(new File(context.getFilesDir(), "ladder"), situation);
        if (again) {
            store.forget();
        }
        Ladder.Clock clock =
                new Ladder.Clock() {
                    @Override
                    public long nanoTime() {
                        return System.nanoTime();
                    }
                };
        ladder = new Ladder(model, factory, store, new AndroidDecoder(), clock).climb(EnumSet.allOf(Accelerator.class));
        report = ladder.report;
    }

    /** The only .tflite among the assets, whatever its name: another model is one file copied. */
    private ModelFile readModel() {
        try {
            AssetManager assets = context.getAssets();
            String found = null;
            for (String name : assets.list("model")) {
                if (name.endsWith(".tflite")) {
                    if (found != null) {
                        throw new EdgeException(
                                EdgeException.Code.USAGE, "assets/model holds two models", found + ", " + name, "one", "delete one");
                    }
                    found = name;
                }
            }
            if (found == null) {
                throw new EdgeException(
                        EdgeException.Code.USAGE, "assets/model holds no .tflite", "", "one", "copy one there");
            }
            return ModelFile.open(readAll(assets.open("model/" + found)), found);
        } catch (IOException cause) {
            throw new EdgeException(
                    EdgeException.Code.NOT_A_TFLITE, "the model in the app cannot be read", cause.toString(), "", "", cause);
        }
    }

    static byte[] readAll(InputStream in) throws IOException {
        try {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            byte[] part = new byte[1 << 16];
            for (int count = in.read(part); count >= 0; count = in.read(part)) {
                out.write(part, 0, count);
            }
            return out.toByteArray();
        } finally {
            in.close();
        }
    }

    private void inBackground(final Runnable task) {
        tasks++;
        error = null;
        worker.execute(
                new Runnable() {
                    @Override
                    public void run() {
                        String failed = null;
                        try {
                            task.run();
                        } catch (OutOfMemoryError full) {
                            failed = context.getString(R.string.out_of_memory);
                        } catch (RuntimeException cause) {
                            failed = cause.getMessage() == null ? cause.toString() : cause.getMessage();
                        } catch (LinkageError cause) {
                            // Of a library that this build lacks. Uncaught, it would end the app.
                            failed = cause.toString();
                        }
                        finish(failed);
                    }
                });
    }

    private void finish(final String failed) {
        screen.post(
                new Runnable() {
                    @Override
                    public void run() {
                        tasks--;
                        error = failed == null ? error : failed;
                        if (listener != null) {
                            listener.run();
                        }
                    }
                });
    }

    /** Everything that an issue needs, and nothing of the photo. */
    String reportText() {
        Map<String, Object> text = new LinkedHashMap<String, Object>();
        text.put("app", APP_VERSION);
        text.put("phone", Build.MANUFACTURER + " " + Build.MODEL + ", API " + Build.VERSION.SDK_INT);
        text.put("build", Build.FINGERPRINT);
        text.put("model", model == null ? null : model.sha256());
        text.put("ladder", report == null ? null : report.toMap());
        text.put("elapsed_ms", prediction == null ? null : prediction.elapsedMs());
        text.put("error", error);
        return Json.write(text);
    }
}
