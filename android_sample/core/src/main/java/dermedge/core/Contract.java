package dermedge.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * What a model says of itself; `contract.py` in Java, field by field. No field has a default: see ContractReader.
 */
public final class Contract {
    public static final long SCHEMA_VERSION = 1;
    public static final String ENTRY = "edge_contract.json";
    public static final String LABELS_ENTRY = "labels.txt";

    /** One output of the model, in output order. */
    public static final class Label {
        public final String code;
        public final String name;
        public final String group;

        Label(String code, String name, String group) {
            this.code = code;
            this.name = name;
            this.group = group;
        }
    }

    /** A threshold on one number of the prediction. */
    public static final class Rule {
        public static final String TOP_SCORE = "top_score";
        public static final String NORMALIZED_ENTROPY = "normalized_entropy";

        /** top_score fires below the threshold, normalized_entropy above it. */
        public final String measure;
        /** In [0, 1]. */
        public final double threshold;
        public final String source;

        Rule(String measure, double threshold, String source) {
            this.measure = measure;
            this.threshold = threshold;
            this.source = source;
        }
    }

    /** A picture inside the model file and the answer that it must get. */
    public static final class GoldenVector {
        public final String image;
        public final String imageSha256;
        public final String pixelsSha256;
        /** Raw output tensor: integers for a quantized model, probabilities for a float one. */
        public final double[] output;
        /** In the unit of `output`. */
        public final double tolerance;
        /** What made `output`. */
        public final String runtime;

        GoldenVector(
                String image,
                String imageSha256,
                String pixelsSha256,
                double[] output,
                double tolerance,
                String runtime) {
            this.image = image;
            this.imageSha256 = imageSha256;
            this.pixelsSha256 = pixelsSha256;
            this.output = output;
            this.tolerance = tolerance;
            this.runtime = runtime;
        }
    }

    String modelId;
    List<Label> labels;
    int heightPx;
    int widthPx;
    String decodeScaling;
    int decodeOversampling;
    String crop;
    double cropFraction;
    double mean;
    double std;
    /** Null says that the model has no such rule. */
    Rule refer;
    /** Null says that the model has no such rule. */
    Rule notALesion;
    String recipe;
    String dataName;
    String dataLicence;
    String modelLicence;
    String intendedUse;
    List<GoldenVector> golden;

    /** Filled by ContractReader alone. */
    Contract() {}

    public String modelId() {
        return modelId;
    }

    public List<Label> labels() {
        return Collections.unmodifiableList(labels);
    }

    /** The labels' codes, in output order. */
    public List<String> codes() {
        List<String> codes = new ArrayList<String>();
        for (Label label : labels) {
            codes.add(label.code);
        }
        return codes;
    }

    public int heightPx() {
        return heightPx;
    }

    public int widthPx() {
        return widthPx;
    }

    public Rule refer() {
        return refer;
    }

    public Rule notALesion() {
        return notALesion;
    }

    public String recipe() {
        return recipe;
    }

    public String dataName() {
        return dataName;
    }

    public String modelLicence() {
        return modelLicence;
    }

    public String intendedUse() {
        return intendedUse;
    }

    public List<GoldenVector> golden() {
        return Collections.unmodifiableList(golden);
    }
}
