package dermedge.core;

import java.math.BigDecimal;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Output bytes to scores, groups and a decision; the functions of `result.py` in Java. */
final class Scores {
    private static final double FLOAT_SUM_TOLERANCE = 1e-3;

    private Scores() {}

    /** Scores that sum to 1; a quantized softmax is divided by its sum. */
    static double[] scoresFrom(byte[] raw, TensorSpec spec) {
        double[] values = spec.dequantize(raw);
        double total = exactSum(values);
        double tolerance = spec.quantized() ? spec.scale() * values.length : FLOAT_SUM_TOLERANCE;
        double least = Double.POSITIVE_INFINITY;
        double most = Double.NEGATIVE_INFINITY;
        boolean inRange = true;
        for (double value : values) {
            // Written so that a NaN fails.
            inRange &= value >= -tolerance && value <= 1 + tolerance;
            least = Math.min(least, value);
            most = Math.max(most, value);
        }
        if (!(inRange && Math.abs(total - 1) <= Math.max(tolerance, FLOAT_SUM_TOLERANCE) && total > 0)) {
            throw new EdgeException(
                    EdgeException.Code.INTERPRETER_BROKEN,
                    "the model's output is not a softmax",
                    "sum " + total + ", smallest " + least + ", largest " + most,
                    "values in [0, 1] that sum to 1",
                    "convert the model again; if it was not altered, report the runtime and its version");
        }
        for (int i = 0; i < values.length; i++) {
            values[i] = Math.max(0.0, values[i]);
        }
        total = exactSum(values);
        for (int i = 0; i < values.length; i++) {
            values[i] /= total;
        }
        return values;
    }

    /** Correctly rounded, as Python's math.fsum; NaN when any value is not finite. */
    static double exactSum(double[] values) {
        BigDecimal sum = BigDecimal.ZERO;
        for (double value : values) {
            if (Double.isNaN(value) || Double.isInfinite(value)) {
                return Double.NaN;
            }
            sum = sum.add(new BigDecimal(value));
        }
        return sum.doubleValue();
    }

    /** The sum of each group's labels, groups in order of first appearance. */
    static Map<String, Double> groupScores(List<Contract.Label> labels, double[] scores) {
        Map<String, Double> groups = new LinkedHashMap<String, Double>();
        for (Contract.Label label : labels) {
            if (!groups.containsKey(label.group)) {
                double[] members = new double[scores.length];
                for (int i = 0; i < members.length; i++) {
                    members[i] = labels.get(i).group.equals(label.group) ? scores[i] : 0.0;
                }
                groups.put(label.group, Math.min(1.0, exactSum(members)));
            }
        }
        return groups;
    }

    /** The number that a rule looks at, in [0, 1]. */
    static double measure(String name, double[] scores) {
        double top = 0;
        double[] terms = new double[scores.length];
        for (int i = 0; i < scores.length; i++) {
            top = Math.max(top, scores[i]);
            terms[i] = scores[i] > 0 ? scores[i] * Math.log(scores[i]) : 0.0;
        }
        return name.equals(Contract.Rule.TOP_SCORE) ? top : Math.abs(exactSum(terms)) / Math.log(scores.length);
    }
}
