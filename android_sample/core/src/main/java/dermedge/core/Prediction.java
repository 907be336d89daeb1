package dermedge.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The answer to one photo, with the fields of a line of `edge-classify --json`. */
public final class Prediction {
    /** A label and its score. */
    public static final class ScoredLabel {
        public final Contract.Label label;
        /** In [0, 1]. */
        public final double score;

        ScoredLabel(Contract.Label label, double score) {
            this.label = label;
            this.score = score;
        }
    }

    private final String image;
    private final Contract contract;
    private final double[] scores;
    private final Decision decision;
    private final Map<String, Double> elapsedMs;

    Prediction(String image, Contract contract, double[] scores, Map<String, Double> elapsedMs) {
        this.image = image;
        this.contract = contract;
        this.scores = scores;
        this.decision = Decision.decide(contract, scores);
        this.elapsedMs = elapsedMs;
    }

    /** The `count` best labels, best first; equals stay in output order. */
    public List<ScoredLabel> top(int count) {
        List<ScoredLabel> sorted = new ArrayList<ScoredLabel>();
        for (int i = 0; i < scores.length; i++) {
            sorted.add(new ScoredLabel(contract.labels.get(i), scores[i]));
        }
        // Stable, so that equals keep their order.
        Collections.sort(
                sorted,
                new Comparator<ScoredLabel>() {
                    @Override
                    public int compare(ScoredLabel one, ScoredLabel other) {
                        return Double.compare(other.score, one.score);
                    }
                });
        return sorted.subList(0, Math.min(count, sorted.size()));
    }

    public ScoredLabel best() {
        return top(1).get(0);
    }

    public Decision decision() {
        return decision;
    }

    /** Each group's score, in order of first appearance. */
    public Map<String, Double> groups() {
        return Scores.groupScores(contract.labels, scores);
    }

    /** Milliseconds by stage, and `total`. */
    public Map<String, Double> elapsedMs() {
        return Collections.unmodifiableMap(elapsedMs);
    }

    /** The object of `--json`, without `runtime`. */
    public Map<String, Object> toMap() {
        Map<String, Double> byCode = new LinkedHashMap<String, Double>();
        for (int i = 0; i < scores.length; i++) {
            byCode.put(contract.labels.get(i).code, scores[i]);
        }
        Map<String, Object> map = new LinkedHashMap<String, Object>();
        map.put("image", image);
        map.put("model", contract.modelId);
        map.put("label", best().label.code);
        map.put("name", best().label.name);
        map.put("score", best().score);
        map.put("scores", byCode);
        map.put("groups", groups());
        map.put("decision", decision.outcome().toString());
        map.put("reason", decision.reason());
        map.put("elapsed_ms", elapsedMs);
        return map;
    }
}
