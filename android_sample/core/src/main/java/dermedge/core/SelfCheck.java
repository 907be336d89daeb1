package dermedge.core;

import java.util.ArrayList;
import java.util.List;

/** Runs the model's self-test vectors on this engine; `self_check.py` in Java, and the best label too. */
public final class SelfCheck {
    private final int count;
    private final double largestDifference;
    private final double tolerance;
    private final List<byte[]> outputs;
    private final List<byte[]> inputs;

    private SelfCheck(List<byte[]> inputs, List<byte[]> outputs, double largestDifference, double tolerance) {
        this.count = outputs.size();
        this.inputs = inputs;
        this.outputs = outputs;
        this.largestDifference = largestDifference;
        this.tolerance = tolerance;
    }

    /**
     * Runs every self-test vector of the model.
     *
     * @throws EdgeException the model has none, a picture or its pixels are not those of the contract, an output
     *     differs by more than its tolerance, or another label is best. All failures are listed.
     */
    public static SelfCheck run(Classifier classifier) {
        List<Contract.GoldenVector> golden = classifier.model().contract().golden;
        if (golden.isEmpty()) {
            throw new EdgeException(
                    EdgeException.Code.SELF_CHECK_FAILED,
                    classifier.model().name() + ": the model cannot be checked",
                    "no self-test vectors in its contract",
                    "at least one",
                    "convert the model with dermedge convert");
        }
        List<String> problems = new ArrayList<String>();
        List<byte[]> inputs = new ArrayList<byte[]>();
        List<byte[]> outputs = new ArrayList<byte[]>();
        double largest = 0;
        double tolerance = 0;
        for (Contract.GoldenVector vector : golden) {
            byte[] photo = classifier.model().readEntry(vector.image);
            if (!Bytes.sha256(photo).equals(vector.imageSha256)) {
                problems.add(vector.image + " is not the picture of the contract");
                continue;
            }
            byte[] pixelsU8 = classifier.preprocess().fitPixels(photo, vector.image);
            if (!Bytes.sha256(pixelsU8).equals(vector.pixelsSha256)) {
                problems.add(vector.image + ": preprocessing gives other pixels");
                continue;
            }
            byte[] input = classifier.inputTensor(pixelsU8);
            byte[] output = classifier.engine().run(input);
            inputs.add(input);
            outputs.add(output);
            double difference = compare(vector, classifier.engine().output().rawValues(output), problems);
            largest = Math.max(largest, difference);
            tolerance = Math.max(tolerance, vector.tolerance);
        }
        if (!problems.isEmpty()) {
            throw new EdgeException(
                    EdgeException.Code.SELF_CHECK_FAILED,
                    classifier.model().name() + ": the self-test failed ("
                            + classifier.engine().name() + ")",
                    ContractReader.join(problems),
                    "the outputs of " + golden.get(0).runtime,
                    "do not trust this runtime with this model");
        }
        return new SelfCheck(inputs, outputs, largest, tolerance);
    }

    private static double compare(Contract.GoldenVector vector, double[] output, List<String> problems) {
        double difference = 0;
        for (int i = 0; i < output.length; i++) {
            // Math.max keeps a NaN, and a NaN fails below.
            difference = Math.max(difference, Math.abs(output[i] - vector.output[i]));
        }
        if (!(difference <= vector.tolerance)) {
            problems.add(
                    vector.image + ": outputs differ by " + Json.general(difference) + ", tolerance "
                            + Json.general(vector.tolerance));
        } else if (!bestAgrees(vector, output)) {
            problems.add(vector.image + ": another label is best");
        }
        return difference;
    }

    /** Whether the best label is one that the tolerance lets be best: two that are close may change places. */
    private static boolean bestAgrees(Contract.GoldenVector vector, double[] output) {
        return vector.output[best(output)] >= vector.output[best(vector.output)] - 2 * vector.tolerance;
    }

    private static int best(double[] values) {
        int best = 0;
        for (int i = 1; i < values.length; i++) {
            best = values[i] > values[best] ? i : best;
        }
        return best;
    }

    /** Self-test vectors that were run. */
    public int count() {
        return count;
    }

    /** Of any output, in the unit of the output tensor. */
    public double largestDifference() {
        return largestDifference;
    }

    /** The largest that was accepted. */
    public double tolerance() {
        return tolerance;
    }

    /** The input tensors that were run. */
    List<byte[]> inputs() {
        return inputs;
    }

    /** The raw outputs. */
    List<byte[]> outputs() {
        return outputs;
    }

    @Override
    public String toString() {
        return "self-test passed: " + count + " vectors, largest difference "
                + Json.general(largestDifference) + " (tolerance " + Json.general(tolerance) + ")";
    }
}
