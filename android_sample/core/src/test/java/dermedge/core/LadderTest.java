package dermedge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dermedge.core.LadderReport.Verdict;
import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Every way in which an accelerator can fail or lie, with engines that do so. Time is the engines' own. */
class LadderTest {
    private static final Set<Accelerator> ALL = EnumSet.allOf(Accelerator.class);

    @TempDir File folder;

    private final ModelFile model = TestModels.tiny();
    private final FakeFactory factory = new FakeFactory();

    /** How a rung behaves. */
    private interface Behaviour {
        Engine open(Rung rung);
    }

    private final class FakeFactory implements EngineFactory {
        final Map<Rung, Behaviour> behaviours = new EnumMap<Rung, Behaviour>(Rung.class);
        final Map<Rung, TestModels.Fake> opened = new EnumMap<Rung, TestModels.Fake>(Rung.class);
        final List<TestModels.Fake> everOpened = new ArrayList<TestModels.Fake>();
        Set<Accelerator> listed;
        long nanos;
        int opens;

        @Override
        public String runtime() {
            return "fake 1.0";
        }

        @Override
        public Set<Accelerator> available() {
            return listed;
        }

        @Override
        public Engine open(ModelFile file, Rung rung) {
            opens++;
            assertTrue(new File(folder, "trying").exists(), "the marker stands before anything is opened");
            return behaviours.get(rung).open(rung);
        }

        Behaviour works(double milliseconds) {
            return answers(0, milliseconds);
        }

        Behaviour takes(Supplier<Double> milliseconds) {
            return behaves(0, milliseconds);
        }

        Behaviour answers(int error, double milliseconds) {
            return behaves(error, () -> milliseconds);
        }

        private Behaviour behaves(int error, Supplier<Double> milliseconds) {
            return rung -> {
                TestModels.Fake fake =
                        new TestModels.Fake(model, error, () -> nanos += (long) (milliseconds.get() * 1e6));
                opened.put(rung, fake);
                everOpened.add(fake);
                return fake;
            };
        }

        /** Answers the golden pictures, then fails with `late` in the run after `runs` timed ones. */
        Behaviour failsLater(int runs, Supplier<? extends Throwable> late) {
            int[] left = {model.contract().golden().size() + runs};
            return takes(() -> {
                if (left[0]-- == 0) {
                    throw LadderTest.<RuntimeException>sneaky(late.get());
                }
                return 1.0;
            });
        }

        void assertNothingIsLeftOpen(int opened) {
            assertEquals(opened, everOpened.size());
            for (TestModels.Fake fake : everOpened) {
                assertTrue(fake.closed);
            }
        }
    }

    /** An engine may throw what is no RuntimeException. */
    @SuppressWarnings("unchecked")
    private static <T extends Throwable> T sneaky(Throwable error) throws T {
        throw (T) error;
    }

    private Ladder.Result climb(Set<Accelerator> requested) {
        return new Ladder(model, factory, store(), null, () -> factory.nanos).climb(requested);
    }

    private LadderStore store() {
        return new LadderStore(folder, "model app library phone");
    }

    private void allWork() {
        factory.behaviours.put(Rung.NPU_STRICT, factory.works(1));
        factory.behaviours.put(Rung.NPU_PARTIAL, factory.works(2));
        factory.behaviours.put(Rung.GPU, factory.works(4));
        factory.behaviours.put(Rung.CPU, factory.works(10));
    }

    private static EdgeException refusal() {
        return new EdgeException(EdgeException.Code.INTERPRETER_BROKEN, "no delegate", "", "", "");
    }

    @Test
    void theBestThatWorksIsTakenAndTheRestIsClosed() {
        allWork();
        LadderReport report = climb(ALL).report;
        assertEquals(Rung.NPU_STRICT, report.used());
        assertEquals(1.0, report.step(Rung.NPU_STRICT).medianMs, 0.0);
        assertEquals(10.0, report.step(Rung.CPU).medianMs, 0.0);
        assertTrue(factory.opened.get(Rung.CPU).closed);
        assertFalse(factory.opened.get(Rung.NPU_STRICT).closed);
        assertNull(report.firstFailure());
        assertTrue(report.usedText().contains("does not say which"), report.usedText());
    }

    @Test
    void aWrongAnswerIsNeverTakenHoweverFast() {
        allWork();
        int wrong = (int) model.contract().golden().get(0).tolerance + 1;
        factory.behaviours.put(Rung.NPU_STRICT, factory.answers(wrong, 0.01));
        LadderReport report = climb(ALL).report;
        assertEquals(Verdict.WRONG_ANSWER, report.step(Rung.NPU_STRICT).verdict);
        assertEquals(Rung.NPU_PARTIAL, report.used());
        assertTrue(factory.opened.get(Rung.NPU_STRICT).closed);
        assertTrue(report.firstFailure().reason.contains("outputs differ by"), report.firstFailure().reason);
    }

    /** Seen on a loaded machine: the CPU, timed first, was slow only because something else ran. */
    @Test
    void aBusyPhoneMakesNoNpu() {
        factory.behaviours.put(Rung.CPU, factory.takes(() -> factory.nanos < 600e6 ? 30.0 : 10.0));
        factory.behaviours.put(Rung.NPU_STRICT, rung -> { throw refusal(); });
        factory.behaviours.put(Rung.NPU_PARTIAL, factory.takes(() -> factory.nanos < 600e6 ? 30.0 : 10.0));
        factory.behaviours.put(Rung.GPU, factory.takes(() -> 10.0));
        LadderReport report = climb(EnumSet.of(Accelerator.NPU)).report;
        assertEquals(Verdict.NO_GAIN, report.step(Rung.NPU_PARTIAL).verdict);
        // Most of the CPU's turns are disturbed; at its best it is as fast.
        int[] runs = {0};
        factory.behaviours.put(Rung.CPU, factory.takes(() -> runs[0]++ % 8 == 0 ? 10.0 : 30.0));
        assertEquals(Verdict.NO_GAIN, climb(EnumSet.of(Accelerator.GPU)).report.step(Rung.GPU).verdict);
        // It has no moment as good as the GPU's best one, which is the only good one.
        factory.behaviours.put(Rung.CPU, factory.takes(() -> 10.0));
        factory.behaviours.put(Rung.GPU, factory.takes(() -> runs[0]++ % 5 == 0 ? 5.0 : 10.0));
        assertEquals(Verdict.NO_GAIN, climb(EnumSet.of(Accelerator.GPU)).report.step(Rung.GPU).verdict);
    }

    @Test
    void whatIsNotFasterThanTheCpuIsTakenForTheCpu() {
        allWork();
        factory.behaviours.put(Rung.NPU_STRICT, rung -> { throw refusal(); });
        factory.behaviours.put(Rung.NPU_PARTIAL, factory.works(10));
        factory.behaviours.put(Rung.GPU, factory.works(10 / Ladder.LEAST_GAIN + 0.1));
        LadderReport report = climb(ALL).report;
        assertEquals(Verdict.REFUSED, report.step(Rung.NPU_STRICT).verdict);
        assertEquals(Verdict.NO_GAIN, report.step(Rung.NPU_PARTIAL).verdict);
        assertEquals(Verdict.NO_GAIN, report.step(Rung.GPU).verdict);
        assertTrue(report.step(Rung.NPU_PARTIAL).reason.contains("the CPU's bit for bit"));
        assertEquals(Rung.CPU, report.used());
        assertTrue(report.toString().contains("requested npu, gpu, cpu -> used cpu"), report.toString());
    }

    @Test
    void aMissingLibraryIsNamed() {
        allWork();
        factory.behaviours.put(Rung.NPU_STRICT, rung -> { throw new UnsatisfiedLinkError("libQnnHtp.so"); });
        LadderReport.Step step = climb(ALL).report.step(Rung.NPU_STRICT);
        assertEquals(Verdict.LIBRARY_MISSING, step.verdict);
        assertTrue(step.reason.contains("libQnnHtp.so"), step.reason);
    }

    @Test
    void anEngineThatFailsLaterIsPassedOver() {
        List<Supplier<? extends Throwable>> ways =
                Arrays.asList(LadderTest::refusal, OutOfMemoryError::new, () -> new UnsatisfiedLinkError("late"));
        for (Supplier<? extends Throwable> late : ways) {
            store().forget();
            allWork();
            factory.behaviours.put(Rung.NPU_STRICT, factory.failsLater(2, late));
            LadderReport report = climb(ALL).report;
            assertEquals(Verdict.REFUSED, report.step(Rung.NPU_STRICT).verdict);
            assertTrue(report.step(Rung.NPU_STRICT).reason.startsWith("it ran once"));
            assertEquals(Rung.NPU_PARTIAL, report.used());
            assertTrue(factory.opened.get(Rung.NPU_STRICT).closed);
            assertTrue(factory.opened.get(Rung.CPU).closed);
        }
    }

    @Test
    void aCpuThatFailsLaterIsClosed() {
        List<Supplier<? extends Throwable>> ways =
                Arrays.asList(LadderTest::refusal, OutOfMemoryError::new, () -> new UnsatisfiedLinkError("late"));
        int opened = 0;
        for (Supplier<? extends Throwable> late : ways) {
            factory.behaviours.put(Rung.CPU, factory.failsLater(2, late));
            EdgeException error = assertThrows(EdgeException.class, () -> climb(ALL));
            assertTrue(error.getMessage().contains("it ran once and then failed"), error.getMessage());
            factory.assertNothingIsLeftOpen(++opened);
        }
    }

    /** A folder in the marker's place: no marker can be written any more, as on a disk that is full. */
    @Test
    void aDiskThatFillsUpDuringTheClimbLeavesNothingOpen() {
        for (Rung full : new Rung[] {Rung.CPU, Rung.NPU_STRICT}) {
            factory.everOpened.clear();
            allWork();
            factory.behaviours.put(full, rung -> {
                assertTrue(new File(folder, "trying.partial").mkdir());
                return factory.works(1).open(rung);
            });
            EdgeException error = assertThrows(EdgeException.class, () -> climb(ALL));
            assertTrue(error.getMessage().contains("cannot be written"), error.getMessage());
            assertTrue(new File(folder, "trying.partial").delete());
            factory.assertNothingIsLeftOpen(full == Rung.CPU ? 1 : 2);
        }
        factory.everOpened.clear();
        allWork();
        assertTrue(new File(folder, "decided.partial").mkdir());
        assertThrows(EdgeException.class, () -> climb(ALL));
        factory.assertNothingIsLeftOpen(2);
    }

    /** What the disk holds when a process ends within a climb, whatever ended it. */
    private void processEndsWhile(Rung rung) {
        store().begin(rung);
    }

    @Test
    void aRungOnWhichTwoProcessesInARowEndedIsNotTriedAgainUntilAskedTo() {
        allWork();
        processEndsWhile(Rung.NPU_STRICT);
        processEndsWhile(Rung.NPU_STRICT);
        factory.behaviours.put(Rung.NPU_STRICT, rung -> { throw new AssertionError("tried again"); });
        LadderReport report = climb(ALL).report;
        assertEquals(Verdict.CRASHED_BEFORE, report.step(Rung.NPU_STRICT).verdict);
        assertEquals(Rung.NPU_PARTIAL, report.used());
        assertEquals(Verdict.CRASHED_BEFORE, climb(ALL).report.firstFailure().verdict, "a later start says it too");

        factory.behaviours.put(Rung.NPU_STRICT, factory.works(1));
        store().forget();
        assertEquals(Rung.NPU_STRICT, climb(ALL).report.used());
    }

    /** Swiped away, or a phone short of memory: no crash, and the next climb shows it. */
    @Test
    void aProcessThatWasEndedWithinAClimbCostsNoRung() {
        allWork();
        for (int start = 0; start < 3; start++) {
            processEndsWhile(Rung.NPU_STRICT);
            assertEquals(Rung.NPU_STRICT, climb(ALL).report.used());
        }
        processEndsWhile(Rung.NPU_STRICT);
        processEndsWhile(Rung.GPU);
        assertEquals(Rung.NPU_STRICT, climb(ALL).report.used(), "not twice on one rung");
    }

    @Test
    void aCrashOfTheCpuIsSaidButTheCpuIsStillTried() {
        allWork();
        processEndsWhile(Rung.CPU);
        processEndsWhile(Rung.CPU);
        LadderReport report = climb(EnumSet.of(Accelerator.CPU)).report;
        assertTrue(report.step(Rung.CPU).reason.contains("the app ended on it"), report.toString());
    }

    @Test
    void aDecisionIsRememberedCheckedAgainAndForgottenWithItsSituation() {
        allWork();
        climb(ALL);
        factory.opens = 0;
        LadderReport report = climb(ALL).report;
        assertTrue(report.remembered());
        assertEquals(2, factory.opens, "the CPU, and what is measured against it");
        assertEquals(1.0, report.step(Rung.NPU_STRICT).medianMs, 0.0);
        assertTrue(factory.opened.get(Rung.CPU).closed);
        // Another library, another model, another phone: everything is measured again.
        LadderStore other = new LadderStore(folder, "another situation");
        assertNull(other.decision("npu, gpu, cpu"));
        // It no longer answers as it did: the whole climb again.
        factory.behaviours.put(Rung.NPU_STRICT, rung -> { throw refusal(); });
        LadderReport again = climb(ALL).report;
        assertFalse(again.remembered());
        assertEquals(Rung.NPU_PARTIAL, again.used());
    }

    /** A driver that an update took away: the library now runs the CPU under the remembered name. */
    @Test
    void aRememberedRungThatBecameTheCpuIsFound() {
        allWork();
        factory.behaviours.put(Rung.NPU_STRICT, rung -> { throw refusal(); });
        assertEquals(Rung.NPU_PARTIAL, climb(ALL).report.used());
        factory.behaviours.put(Rung.NPU_PARTIAL, factory.works(10));
        LadderReport report = climb(ALL).report;
        assertFalse(report.remembered());
        assertEquals(Verdict.NO_GAIN, report.step(Rung.NPU_PARTIAL).verdict);
        assertEquals(Rung.GPU, report.used());
    }

    @Test
    void whyNoBetterOneDidIsRememberedToo() {
        allWork();
        factory.behaviours.put(Rung.NPU_STRICT, rung -> { throw new IllegalStateException("no\n\tdelegate"); });
        factory.behaviours.put(Rung.NPU_PARTIAL, factory.works(10));
        LadderReport first = climb(ALL).report;
        LadderReport second = climb(ALL).report;
        assertTrue(second.remembered());
        for (Rung rung : new Rung[] {Rung.NPU_STRICT, Rung.NPU_PARTIAL}) {
            assertEquals(first.step(rung).verdict, second.step(rung).verdict);
        }
        assertEquals(Rung.NPU_STRICT, second.firstFailure().rung);
        assertTrue(second.firstFailure().reason.contains("no delegate"), second.firstFailure().reason);
        assertTrue(second.step(Rung.NPU_PARTIAL).reason.contains("probably it is the CPU"));
    }

    @Test
    void whatIsNotListedOrNotRequestedIsNotTried() {
        allWork();
        factory.listed = EnumSet.of(Accelerator.CPU, Accelerator.GPU);
        LadderReport report = climb(EnumSet.of(Accelerator.NPU)).report;
        assertEquals(Verdict.NOT_LISTED, report.step(Rung.NPU_STRICT).verdict);
        assertEquals(Verdict.NOT_REQUESTED, report.step(Rung.GPU).verdict);
        assertEquals(Rung.CPU, report.used());
        assertEquals(2, factory.opened.size() + 1, "only the CPU was opened");
    }

    @Test
    void withoutARightCpuNothingIsTrusted() {
        allWork();
        factory.behaviours.put(Rung.CPU, factory.answers(100, 10));
        EdgeException error = assertThrows(EdgeException.class, () -> climb(ALL));
        assertTrue(error.getMessage().contains("no accelerator of this device"), error.getMessage());
    }
}
