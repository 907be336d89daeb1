package dermedge.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** The request, what runs, and the result of every candidate: shown, copied, sent with an issue. */
public final class LadderReport {
    /** What became of a rung. */
    public enum Verdict {
        ACCEPTED,
        NOT_REQUESTED,
        /** The library does not list the accelerator. */
        NOT_LISTED,
        /** Two processes in a row ended on it. */
        CRASHED_BEFORE,
        LIBRARY_MISSING,
        /** The library opened no engine, or an inference failed. */
        REFUSED,
        WRONG_ANSWER,
        /** Not faster than the CPU: probably it is the CPU. */
        NO_GAIN,
        /** A better rung was accepted, or remembered. */
        NOT_NEEDED
    }

    /** One rung's story. */
    public static final class Step {
        public final Rung rung;
        public final Verdict verdict;
        /** A sentence. */
        public final String reason;
        /** Of warm inferences; NaN when none was measured. */
        public final double medianMs;

        Step(Rung rung, Verdict verdict, String reason, double medianMs) {
            this.rung = rung;
            this.verdict = verdict;
            this.reason = reason;
            this.medianMs = medianMs;
        }
    }

    private final String runtime;
    private final Set<Accelerator> requested;
    private final Map<Rung, Step> steps;
    private final boolean remembered;

    LadderReport(String runtime, Set<Accelerator> requested, Map<Rung, Step> steps, boolean remembered) {
        this.runtime = runtime;
        this.requested = requested;
        this.steps = steps;
        this.remembered = remembered;
    }

    /** Best rung first. */
    public List<Step> steps() {
        return Collections.unmodifiableList(new ArrayList<Step>(steps.values()));
    }

    public Step step(Rung rung) {
        return steps.get(rung);
    }

    /** The rung that runs. */
    public Rung used() {
        for (Step step : steps.values()) {
            if (step.verdict == Verdict.ACCEPTED) {
                return step.rung;
            }
        }
        throw new IllegalStateException("a climb that accepts nothing throws");
    }

    /** Whether an earlier climb's decision was taken, its answers and its speed proven again. */
    public boolean remembered() {
        return remembered;
    }

    /** The request, best first: `npu, gpu`. */
    public String requested() {
        return names(requested);
    }

    static String names(Set<Accelerator> accelerators) {
        StringBuilder names = new StringBuilder();
        for (Accelerator accelerator : Accelerator.values()) {
            if (accelerators.contains(accelerator)) {
                names.append(names.length() == 0 ? "" : ", ").append(accelerator);
            }
        }
        return names.toString();
    }

    /** What is known of the accelerator that runs, and nothing more. */
    public String usedText() {
        switch (used()) {
            case NPU_STRICT:
                return "npu or gpu, nothing on the cpu (LiteRT does not say which of the two)";
            case NPU_PARTIAL:
                return "npu with parts on the cpu (LiteRT does not say how much)";
            default:
                return used().toString();
        }
    }

    /** The best requested rung that was not accepted, null when the best one runs. */
    public Step firstFailure() {
        List<Step> failures = failures();
        return failures.isEmpty() ? null : failures.get(0);
    }

    /** The requested rungs above the one that runs, best first: tried, or for a reason not tried. */
    List<Step> failures() {
        List<Step> failures = new ArrayList<Step>();
        for (Step step : steps.values()) {
            if (step.verdict == Verdict.ACCEPTED) {
                break;
            }
            if (step.verdict != Verdict.NOT_REQUESTED && step.verdict != Verdict.NOT_NEEDED) {
                failures.add(step);
            }
        }
        return failures;
    }

    public Map<String, Object> toMap() {
        List<Object> list = new ArrayList<Object>();
        for (Step step : steps.values()) {
            Map<String, Object> map = new LinkedHashMap<String, Object>();
            map.put("rung", step.rung.toString());
            map.put("verdict", step.verdict.name().toLowerCase(java.util.Locale.ROOT));
            map.put("reason", step.reason);
            map.put("median_ms", Double.isNaN(step.medianMs) ? null : (Object) step.medianMs);
            list.add(map);
        }
        Map<String, Object> map = new LinkedHashMap<String, Object>();
        map.put("runtime", runtime);
        map.put("requested", requested());
        map.put("used", used().toString());
        map.put("remembered", remembered);
        map.put("rungs", list);
        return map;
    }

    /** A line a rung. */
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(runtime);
        text.append("\nrequested ").append(requested()).append(" -> used ").append(usedText());
        text.append(remembered ? " (remembered)\n" : "\n");
        for (Step step : steps.values()) {
            text.append("  ").append(step.rung).append(": ").append(step.reason);
            if (!Double.isNaN(step.medianMs)) {
                text.append(", ").append(Json.fixed(step.medianMs, 2)).append(" ms");
            }
            text.append('\n');
        }
        return text.toString();
    }
}
