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
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** The model, its engine and the last answer. One a process, so that turning the phone loses nothing. */
final class Session {
    /** Stands for the photo in errors: a share may have no name, and its name is nobody's affair. */
    static final String PHOTO_NAME = "photo";

    private static final String APP_VERSION = "0.2.0";
    private static final int PREVIEW_SIDE_PX = 1024;

    private static Session instance;

    private final Context context;
    private final ExecutorService worker = Executors.newSingleThreadExecutor();
    private final Handler screen = new Handler(Looper.getMainLooper());
    private final Set<Runnable> listeners = new LinkedHashSet<Runnable>();
    private Ladder.Result ladder;

    volatile ModelFile model;
    /** Of the climb that chose the engine; null while there is none. */
    volatile LadderReport report;
    Prediction prediction;
    /** Of the engine that gave the prediction, which another may have followed since. */
    LadderReport answeredBy;
    Bitmap preview;
    private Failure climbFailure;
    private Failure photoFailure;
    private volatile PhotoSource newest;
    private int tasks;

    static Session get(Context context) {
        if (instance == null) {
            PhotoProvider.deleteUnread(context);
            instance = new Session(context.getApplicationContext());
            instance.climb(false);
        }
        return instance;
    }

    private Session(Context context) {
        this.context = context;
    }

    /** Called on the screen's thread whenever something changed. Two activities may be seen at once. */
    void listen(Runnable changed) {
        listeners.add(changed);
    }

    void unlisten(Runnable changed) {
        listeners.remove(changed);
    }

    /** Whether something is under way. */
    boolean busy() {
        return tasks > 0;
    }

    /** Why there is no answer; null when nothing failed. Without an engine no photo matters. */
    Failure failure() {
        return climbFailure != null ? climbFailure : photoFailure;
    }

    /** Opens the model and finds the best accelerator; `again` forgets what earlier climbs found. */
    void climb(final boolean again) {
        report = null;
        climbFailure = null;
        tasks++;
        worker.execute(
                new Runnable() {
                    @Override
                    public void run() {
                        final Failure failed = attemptToClimb(again);
                        finish(
                                new Runnable() {
                                    @Override
                                    public void run() {
                                        climbFailure = failed;
                                    }
                                });
                    }
                });
    }

    /** Reads and classifies a photo. The last one requested is shown. */
    void classify(final PhotoSource source) {
        newest = source;
        preview = null;
        prediction = null;
        photoFailure = null;
        tasks++;
        worker.execute(
                new Runnable() {
                    @Override
                    public void run() {
                        // The climb failed; this says again why.
                        final Failure failed = ladder == null ? attemptToClimb(false) : null;
                        final Answer answer = new Answer();
                        if (failed == null && newest == source) {
                            answer.to(source);
                        }
                        source.discard();
                        finish(
                                new Runnable() {
                                    @Override
                                    public void run() {
                                        climbFailure = failed;
                                        if (newest == source) {
                                            show(answer);
                                        }
                                    }
                                });
                    }
                });
    }

    private void show(Answer answer) {
        preview = answer.preview;
        answeredBy = answer.report;
        prediction = answer.prediction;
        photoFailure = answer.failure;
    }

    /** What became of one photo, gathered on the worker. */
    private final class Answer {
        Bitmap preview;
        Prediction prediction;
        LadderReport report;
        Failure failure;

        void to(PhotoSource source) {
            try {
                byte[] photo = source.read(context);
                preview = AndroidDecoder.preview(photo, PREVIEW_SIDE_PX);
                prediction = ladder.classifier.classify(photo, PHOTO_NAME);
                report = ladder.report;
            } catch (RuntimeException | LinkageError | OutOfMemoryError error) {
                failure = Failure.of(error);
            }
        }
    }

    private Failure attemptToClimb(boolean again) {
        try {
            climbNow(again);
            return null;
        } catch (RuntimeException | LinkageError | OutOfMemoryError error) {
            // A library that this build lacks is a LinkageError. Uncaught, it would end the app.
            return Failure.of(error);
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

    private static byte[] readAll(InputStream in) throws IOException {
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

    private void finish(final Runnable change) {
        screen.post(
                new Runnable() {
                    @Override
                    public void run() {
                        tasks--;
                        change.run();
                        // A copy: listeners may remove themselves.
                        for (Runnable listener : new ArrayList<Runnable>(listeners)) {
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
        text.put("error", failure() == null ? null : failure().detail);
        return Json.write(text);
    }
}
