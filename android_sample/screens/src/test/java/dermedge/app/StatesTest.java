package dermedge.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotSame;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import android.os.Looper;
import android.view.View;
import android.widget.TextView;
import com.google.ai.edge.litert.CompiledModel;
import dermedge.core.Accelerator;
import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.EngineFactory;
import dermedge.core.Ladder;
import dermedge.core.LadderReport;
import dermedge.core.LadderStore;
import dermedge.core.ModelFile;
import dermedge.core.Rung;
import dermedge.core.TensorSpec;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.util.EnumSet;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;
import org.robolectric.shadows.ShadowLooper;

/** What the screen says while something is under way and after something failed: never more than is true then. */
@RunWith(RobolectricTestRunner.class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = 35, qualifiers = "w411dp-h891dp-port-xhdpi")
public class StatesTest {
    @Rule public final TemporaryFolder folder = new TemporaryFolder();

    /** A cloud: gives a photo when it likes, and remembers which thread had to wait. */
    private static final class Cloud extends InputStream {
        final CountDownLatch given = new CountDownLatch(1);
        final InputStream photo;
        volatile Thread reader;

        Cloud(byte[] photo) {
            this.photo = new ByteArrayInputStream(photo);
        }

        @Override
        public int read() {
            throw new UnsupportedOperationException();
        }

        @Override
        public int read(byte[] into, int from, int count) throws java.io.IOException {
            reader = Thread.currentThread();
            try {
                given.await();
            } catch (InterruptedException end) {
                throw new java.io.IOException(end);
            }
            return photo.read(into, from, count);
        }
    }

    @Test
    public void aCloudMakesTheWorkerWaitAndNotTheScreen() throws Exception {
        Phone phone = Phone.start(null);
        Cloud cloud = new Cloud(Phone.photo("lesion.jpg"));
        phone.pick(cloud);
        assertEquals("Classifying…", phone.text(R.id.status));
        cloud.given.countDown();
        phone.waitUntilIdle();
        assertNotSame(Looper.getMainLooper().getThread(), cloud.reader);
        assertTrue(phone.session().prediction != null);
    }

    /** A share without an end ended the app. */
    @Test
    public void aShareThatNeverEndsIsTooLarge() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(
                new InputStream() {
                    @Override
                    public int read() {
                        return 0;
                    }

                    @Override
                    public int read(byte[] into, int from, int count) {
                        return count;
                    }
                });
        phone.waitUntilIdle();
        assertEquals("The photo is too large.", phone.text(R.id.status));
        String told = phone.text(R.id.reason);
        assertTrue(told, told.startsWith("photo: the file is too large (got more than "));
    }

    @Test
    public void anOwnerThatThrowsIsTold() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(
                new InputStream() {
                    @Override
                    public int read() {
                        throw new SecurityException("the right has ended");
                    }
                });
        phone.waitUntilIdle();
        assertEquals("The photo cannot be read.", phone.text(R.id.status));
        assertTrue(phone.text(R.id.reason), phone.text(R.id.reason).contains("the right has ended"));
    }

    /** The photo that was chosen first may be the last one to arrive. */
    @Test
    public void anEarlierPhotoDoesNotAnswerInTheLaterOnesPlace() throws Exception {
        Phone phone = Phone.start(null);
        Cloud late = new Cloud(Phone.photo("lesion.jpg"));
        Cloud wanted = new Cloud(Phone.photo("refused.heic"));
        phone.pick(late);
        phone.pick(wanted);
        late.given.countDown();
        while (wanted.reader == null) {
            Thread.sleep(5);
        }
        ShadowLooper.idleMainLooper();
        assertNull("the earlier photo's answer is shown", phone.session().prediction);
        wanted.given.countDown();
        phone.waitUntilIdle();
        assertTrue(phone.text(R.id.reason), phone.text(R.id.reason).contains("HEIC"));
    }

    @Test
    public void whileTheAcceleratorsAreTestedAgainNoneIsNamed() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        phone.activity().findViewById(R.id.retest).performClick();
        assertTrue(phone.text(R.id.status), phone.text(R.id.status).startsWith("Loading the model and testing"));
        assertEquals(View.GONE, phone.activity().findViewById(R.id.runs).getVisibility());
        phone.waitUntilIdle();
        assertEquals(View.VISIBLE, phone.activity().findViewById(R.id.runs).getVisibility());
    }

    /** A trial that fails is reported, also with the next photo; what ran before does not run now. */
    @Test
    public void aLibraryThatIsNotThereIsToldAndDoesNotEndTheApp() throws Exception {
        Phone phone = Phone.start(null);
        CompiledModel.library = null;
        phone.activity().findViewById(R.id.retest).performClick();
        phone.waitUntilIdle();
        String told = phone.text(R.id.reason);
        assertTrue(told, told.contains("no accelerator of this device passes"));
        assertEquals("The model does not run correctly on this phone.", phone.text(R.id.status));
        assertEquals(View.GONE, phone.activity().findViewById(R.id.runs).getVisibility());
        assertEquals("", phone.text(R.id.runs));
        phone.pick(Phone.photo("lesion.jpg"));
        assertEquals(told, phone.text(R.id.reason));
    }

    @Test
    public void testingAgainLeavesARefusedPhotoRefused() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("refused.heic"));
        String told = phone.text(R.id.reason);
        assertTrue(told, told.contains("HEIC"));
        phone.activity().findViewById(R.id.retest).performClick();
        phone.waitUntilIdle();
        assertEquals(told, phone.text(R.id.reason));
    }

    @Test
    public void anAnswerKeepsTheNameOfWhatGaveIt() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("lesion.jpg"));
        assertFalse(phone.text(R.id.runs), phone.text(R.id.runs).contains("was computed by"));
        Session session = phone.session();
        session.answeredBy = aGpuRan(session.model);
        phone.activity().findViewById(R.id.retest).performClick();
        phone.waitUntilIdle();
        assertEquals(Rung.CPU, session.report.used());
        String runs = phone.text(R.id.runs);
        assertTrue(runs, runs.contains("Used: cpu.") && runs.contains("The prediction above was computed by: gpu."));
    }

    /** The report of a phone on which the GPU is ten times as fast as the CPU. */
    private LadderReport aGpuRan(ModelFile model) throws Exception {
        long[] nanos = {0};
        EngineFactory factory = new EngineFactory() {
            @Override
            public String runtime() {
                return "fake";
            }

            @Override
            public Set<Accelerator> available() {
                return null;
            }

            @Override
            public Engine open(ModelFile file, Rung rung) {
                return new Timed(CompiledModel.library.open(file, Rung.CPU), nanos, rung == Rung.CPU ? 10 : 1);
            }
        };
        LadderStore store = new LadderStore(folder.newFolder(), "test");
        Ladder.Result result =
                new Ladder(model, factory, store, null, () -> nanos[0]).climb(EnumSet.of(Accelerator.GPU));
        result.classifier.engine().close();
        assertEquals(Rung.GPU, result.report.used());
        return result.report;
    }

    /** An engine by whose clock every run takes so long. */
    private static final class Timed implements Engine {
        private final Engine engine;
        private final long[] nanos;
        private final long runNanos;

        Timed(Engine engine, long[] nanos, long runNanos) {
            this.engine = engine;
            this.nanos = nanos;
            this.runNanos = runNanos;
        }

        @Override
        public String name() {
            return engine.name();
        }

        @Override
        public String kernels() {
            return engine.kernels();
        }

        @Override
        public TensorSpec input() {
            return engine.input();
        }

        @Override
        public TensorSpec output() {
            return engine.output();
        }

        @Override
        public byte[] run(byte[] inputTensor) {
            nanos[0] += runNanos;
            return engine.run(inputTensor);
        }

        @Override
        public void close() {
            engine.close();
        }
    }

    /** A share opens the app a second time, in the other app's task; the first one goes later. */
    @Test
    public void aScreenThatGoesDoesNotSilenceTheNextOne() throws Exception {
        Phone first = Phone.start(null);
        ActivityController<MainActivity> second = Robolectric.buildActivity(MainActivity.class).setup();
        first.controller.pause().stop();
        first.session().classify(PhotoSource.behind(Phone.offer(second.get(), Phone.photo("refused.heic"))));
        first.waitUntilIdle();
        TextView reason = (TextView) second.get().findViewById(R.id.reason);
        assertTrue(reason.getText().toString(), reason.getText().toString().contains("HEIC"));
    }

    /** The detail stays English, after a sentence that is not. */
    @Test
    @Config(qualifiers = "+ko")
    public void koreanUsersReadKorean() throws Exception {
        Phone phone = Phone.start(null);
        phone.pick(Phone.photo("refused.heic"));
        assertEquals("사진이 손상되었거나 불완전하거나 지원하지 않는 형식입니다.", phone.text(R.id.status));
        assertTrue(phone.text(R.id.reason), phone.text(R.id.reason).contains("HEIC"));
        phone.pick(Phone.photo("lesion.jpg"));
        String runs = phone.text(R.id.runs);
        LadderReport.Step failure = phone.session().report.firstFailure();
        assertTrue(runs, runs.contains("npu(단독) 을(를) 쓰지 않은 이유: 모델을 실행하지 못합니다 (" + failure.reason + ")"));
        assertTrue(runs, runs.contains("디코딩 ") && !runs.contains("decode") && !runs.contains("inference"));
    }

    @Test
    public void everyCodeVerdictAndRungHasWords() {
        for (EdgeException.Code code : EdgeException.Code.values()) {
            assertFalse(RuntimeEnvironment.getApplication().getString(Words.of(code)).isEmpty());
        }
        for (LadderReport.Verdict verdict : LadderReport.Verdict.values()) {
            assertFalse(RuntimeEnvironment.getApplication().getString(Words.of(verdict)).isEmpty());
        }
        for (Rung rung : Rung.values()) {
            assertEquals(rung.toString(), RuntimeEnvironment.getApplication().getString(Words.of(rung)));
        }
    }
}
