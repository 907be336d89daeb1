package dermedge.core;

import java.util.Arrays;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.Map;
import java.util.Set;

/**
 * Finds the fastest accelerator that passes the self-test, and reports what ran.
 *
 * <p>A rung is accepted, in each climb anew, when the library opens it, the model's self-test passes, and a warm inference is
 * faster than the CPU's. LiteRT runs a model wholly on the CPU, without an error, when the requested set contains the
 * CPU (LiteRT #7891, #8093), so opening alone is no evidence.
 */
public final class Ladder {
    /** Less than this gain over the CPU is within a phone's noise, or the CPU itself under another name. */
    static final double LEAST_GAIN = 1.2;

    static final int WARM_UP_RUNS = 3;
    static final int TIMED_RUNS = 11;

    /** Of the timed pairs; two of eleven may meet something else that the phone does. */
    static final int PAIRS_TO_LOSE = 2;

    private static final String DIED = "the app ended on it the last two times that it was tried";

    /** System.nanoTime, or a test's own. */
    public interface Clock {
        long nanoTime();
    }

    /** An engine that passed, and how it was found. */
    public static final class Result {
        public final Classifier classifier;
        public final LadderReport report;

        Result(Classifier classifier, LadderReport report) {
            this.classifier = classifier;
            this.report = report;
        }
    }

    /** A rung that opened and answered. */
    private static final class Open {
        final Classifier classifier;
        final SelfCheck check;
        double medianMs = Double.NaN;

        Open(Classifier classifier, SelfCheck check) {
            this.classifier = classifier;
            this.check = check;
        }
    }

    private final ModelFile model;
    private final EngineFactory factory;
    private final LadderStore store;
    private final Photo.PlatformDecoder decoder;
    private final Clock clock;
    private final Map<Rung, LadderReport.Step> steps = new EnumMap<Rung, LadderReport.Step>(Rung.class);

    /** @param decoder for the classifier; null where only PNG is needed */
    public Ladder(
            ModelFile model, EngineFactory factory, LadderStore store, Photo.PlatformDecoder decoder, Clock clock) {
        this.model = model;
        this.factory = factory;
        this.store = store;
        this.decoder = decoder;
        this.clock = clock;
    }

    /**
     * Climbs down from the best requested rung to the first that passes; the CPU stands below every request.
     *
     * @throws EdgeException the self-test fails on the CPU, too
     */
    public Result climb(Set<Accelerator> requested) {
        steps.clear();
        Open cpu = openCpu();
        Open accepted = null;
        try {
            LadderStore.Decided before = store.decision(LadderReport.names(requested));
            boolean tryIt = before != null && before.rung != Rung.CPU && !store.crashedOn(before.rung);
            accepted = tryIt ? climbRemembered(requested, before, cpu) : null;
            boolean remembered = accepted != null;
            if (!remembered) {
                accepted = climbAll(requested, cpu);
            }
            Result result = finish(requested, accepted, remembered);
            cpu = accepted == cpu ? null : cpu;
            accepted = null;
            return result;
        } finally {
            // What is still held here runs nothing: a disk that is full, an error of any kind, must not keep it open.
            close(accepted == cpu ? null : accepted);
            close(cpu);
        }
    }

    private Result finish(Set<Accelerator> requested, Open accepted, boolean remembered) {
        LadderReport report =
                new LadderReport(
                        factory.runtime(), requested, new EnumMap<Rung, LadderReport.Step>(steps), remembered);
        if (!remembered) {
            store.decide(report.requested(), report.used(), report.failures());
        }
        store.survived();
        return new Result(accepted.classifier, report);
    }

    private static void close(Open open) {
        if (open != null) {
            open.classifier.engine().close();
        }
    }

    /**
     * The rung that passed before has to pass again, the race too: a driver that was taken away leaves the CPU in its
     * place, with the CPU's answers, and a time from an earlier day says nothing of a phone that is busy now.
     */
    private Open climbRemembered(Set<Accelerator> requested, LadderStore.Decided before, Open cpu) {
        for (Rung other : Rung.values()) {
            boolean wanted = other == Rung.CPU || requested.contains(other.aim());
            note(
                    other,
                    wanted ? LadderReport.Verdict.NOT_NEEDED : LadderReport.Verdict.NOT_REQUESTED,
                    wanted ? "not tried: an earlier decision is remembered" : "not requested",
                    Double.NaN);
        }
        for (LadderReport.Step step : before.failed) {
            note(step.rung, step.verdict, step.reason, Double.NaN);
        }
        Open open = tryAndRace(before.rung, cpu);
        if (open != null) {
            note(Rung.CPU, LadderReport.Verdict.NOT_NEEDED, "the measure of the gain", cpu.medianMs);
            return open;
        }
        steps.clear();
        return null;
    }

    private Open climbAll(Set<Accelerator> requested, Open cpu) {
        Set<Accelerator> listed = factory.available();
        for (Rung rung : EnumSet.complementOf(EnumSet.of(Rung.CPU))) {
            if (!requested.contains(rung.aim())) {
                note(rung, LadderReport.Verdict.NOT_REQUESTED, "not requested", Double.NaN);
            } else if (listed != null && !listed.contains(rung.aim())) {
                note(rung, LadderReport.Verdict.NOT_LISTED, "the library lists no " + rung.aim(), Double.NaN);
            } else if (store.crashedOn(rung)) {
                note(rung, LadderReport.Verdict.CRASHED_BEFORE, DIED, Double.NaN);
            } else {
                Open open = tryAndRace(rung, cpu);
                if (open != null) {
                    note(Rung.CPU, LadderReport.Verdict.NOT_NEEDED, "the measure of the gain", cpu.medianMs);
                    skipBelow(rung);
                    return open;
                }
            }
        }
        String before = store.crashedOn(Rung.CPU) ? "; " + DIED : "";
        note(Rung.CPU, LadderReport.Verdict.ACCEPTED, cpu.check + before, cpu.medianMs);
        return cpu;
    }

    private void skipBelow(Rung accepted) {
        for (Rung rung : Rung.values()) {
            if (!steps.containsKey(rung)) {
                note(rung, LadderReport.Verdict.NOT_NEEDED, "not tried: " + accepted + " was accepted", Double.NaN);
            }
        }
    }

    /** An open rung that passed everything; null, a note, and nothing open, when it did not. */
    private Open tryAndRace(Rung rung, Open cpu) {
        Open open = tryRung(rung);
        boolean worthIt = false;
        try {
            worthIt = open != null && isWorthIt(rung, open, cpu);
        } finally {
            if (!worthIt) {
                close(open);
            }
        }
        return worthIt ? open : null;
    }

    /** The CPU comes first: every other candidate is compared with its outputs and speed. */
    private Open openCpu() {
        Open cpu = tryRung(Rung.CPU);
        boolean timed = false;
        try {
            timed = cpu != null && timeCpu(cpu);
        } finally {
            if (!timed) {
                close(cpu);
            }
        }
        if (!timed) {
            throw new EdgeException(
                    EdgeException.Code.INTERPRETER_BROKEN,
                    "no accelerator of this device passes the model's self-test",
                    "cpu: " + steps.get(Rung.CPU).reason,
                    "the self-test outputs on the CPU",
                    "report the runtime and its version: " + factory.runtime());
        }
        return cpu;
    }

    /** Opens a candidate and runs the self-test; null, and a note, when that fails. */
    private Open tryRung(Rung rung) {
        store.begin(rung);
        Engine engine = null;
        LadderReport.Verdict verdict = LadderReport.Verdict.REFUSED;
        String reason;
        try {
            engine = factory.open(model, rung);
            Classifier classifier = new Classifier(model, engine, decoder);
            Open open = new Open(classifier, SelfCheck.run(classifier));
            store.end();
            engine = null;
            return open;
        } catch (EdgeException error) {
            boolean wrong = error.code() == EdgeException.Code.SELF_CHECK_FAILED;
            verdict = wrong ? LadderReport.Verdict.WRONG_ANSWER : verdict;
            reason = error.getMessage();
        } catch (RuntimeException error) {
            reason = error.toString();
        } catch (LinkageError error) {
            verdict = LadderReport.Verdict.LIBRARY_MISSING;
            reason = "a library is missing: " + error;
        } catch (OutOfMemoryError error) {
            reason = "out of memory";
        } finally {
            try {
                if (engine != null) {
                    engine.close();
                }
            } finally {
                // Not reached when the process dies, which is what the marker is for.
                store.end();
            }
        }
        note(rung, verdict, reason, Double.NaN);
        return null;
    }

    /** Whether an open rung is enough faster than the CPU. */
    private boolean isWorthIt(Rung rung, Open open, Open cpu) {
        String same = sameBits(open, cpu) ? ", and its outputs equal the CPU's bit for bit" : "";
        double[] cpuMs = new double[TIMED_RUNS];
        double[] rungMs = new double[TIMED_RUNS];
        if (!race(rung, open, cpu, rungMs, cpuMs)) {
            return false;
        }
        boolean faster = isFaster(rungMs, cpuMs);
        open.medianMs = median(rungMs);
        cpu.medianMs = median(cpuMs);
        if (faster) {
            note(rung, LadderReport.Verdict.ACCEPTED, open.check.toString() + same, open.medianMs);
            return true;
        }
        note(
                rung,
                LadderReport.Verdict.NO_GAIN,
                "not faster than the CPU: probably it is the CPU" + same,
                open.medianMs);
        return false;
    }

    /** Runs the CPU and the rung in turns, so that what else the phone does slows both down. */
    private boolean race(Rung rung, Open open, Open cpu, double[] rungMs, double[] cpuMs) {
        byte[] input = open.check.inputs().get(0);
        store.begin(rung);
        try {
            for (int i = -WARM_UP_RUNS; i < TIMED_RUNS; i++) {
                double onCpu = timed(cpu.classifier.engine(), input);
                double onRung = timed(open.classifier.engine(), input);
                if (i >= 0) {
                    cpuMs[i] = onCpu;
                    rungMs[i] = onRung;
                }
            }
            return true;
        } catch (RuntimeException | LinkageError | OutOfMemoryError error) {
            return failedLater(rung, error);
        } finally {
            store.end();
        }
    }

    private boolean failedLater(Rung rung, Throwable error) {
        note(rung, LadderReport.Verdict.REFUSED, "it ran once and then failed: " + error, Double.NaN);
        return false;
    }

    /**
     * Faster in nearly every pair, and at its best faster than the CPU at its best: load slows runs down at random and
     * speeds none up. Timed one after the other and held against each other by their medians, the CPU under the name of
     * an NPU passed in 9 climbs of 40 on a machine with eight tasks a core; in pairs it passed in none of 60
     * (2026-11-24).
     */
    private static boolean isFaster(double[] rungMs, double[] cpuMs) {
        int lost = 0;
        double bestRungMs = Double.POSITIVE_INFINITY;
        double bestCpuMs = Double.POSITIVE_INFINITY;
        for (int i = 0; i < rungMs.length; i++) {
            lost += cpuMs[i] >= LEAST_GAIN * rungMs[i] ? 0 : 1;
            bestRungMs = Math.min(bestRungMs, rungMs[i]);
            bestCpuMs = Math.min(bestCpuMs, cpuMs[i]);
        }
        return lost <= PAIRS_TO_LOSE && bestCpuMs >= LEAST_GAIN * bestRungMs;
    }

    private double timed(Engine engine, byte[] input) {
        long start = clock.nanoTime();
        engine.run(input);
        return (clock.nanoTime() - start) / 1e6;
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }

    private static boolean sameBits(Open one, Open other) {
        for (int i = 0; i < one.check.outputs().size(); i++) {
            if (!Arrays.equals(one.check.outputs().get(i), other.check.outputs().get(i))) {
                return false;
            }
        }
        return true;
    }

    /** The CPU's median of warm inferences; false, and a note, when one of them fails. */
    private boolean timeCpu(Open cpu) {
        double[] milliseconds = new double[TIMED_RUNS];
        store.begin(Rung.CPU);
        try {
            for (int i = -WARM_UP_RUNS; i < TIMED_RUNS; i++) {
                double elapsedMs = timed(cpu.classifier.engine(), cpu.check.inputs().get(0));
                if (i >= 0) {
                    milliseconds[i] = elapsedMs;
                }
            }
        } catch (RuntimeException | LinkageError | OutOfMemoryError error) {
            return failedLater(Rung.CPU, error);
        } finally {
            store.end();
        }
        cpu.medianMs = median(milliseconds);
        return true;
    }

    private void note(Rung rung, LadderReport.Verdict verdict, String reason, double medianMs) {
        steps.put(rung, new LadderReport.Step(rung, verdict, reason, medianMs));
    }
}
