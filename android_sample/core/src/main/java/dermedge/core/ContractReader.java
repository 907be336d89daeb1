package dermedge.core;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;

/** Strict reading of a contract: an unknown or missing field is refused, all problems are reported together. */
final class ContractReader {
    private static final int MAX_SIDE_PX = 4096;
    private static final int MAX_LABELS = 10_000;
    private static final int MAX_OVERSAMPLING = 64;
    private static final int MAX_GOLDEN = 100;
    private static final String DIRECTION_MARKS =
            "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff";
    private static final double MIN_STD = 1e-3;
    private static final double MAX_STD = 1e6;
    private static final double MAX_MEAN = 1e6;
    private static final String FIX = "convert the model again with dermedge convert";

    private final List<String> problems = new ArrayList<String>();

    private ContractReader() {}

    static Contract read(String text, String where) {
        Object document;
        try {
            document = Json.parse(text);
        } catch (Json.Malformed error) {
            throw new EdgeException(
                    EdgeException.Code.CONTRACT_INVALID,
                    where + ": Invalid contract (schema " + Contract.SCHEMA_VERSION + "): not JSON",
                    error.getMessage(),
                    "a JSON object",
                    FIX,
                    error);
        }
        Object version = document instanceof Map ? ((Map<?, ?>) document).get("schema_version") : null;
        if (version instanceof BigInteger && ((BigInteger) version).signum() > 0
                || version instanceof Long && (Long) version > Contract.SCHEMA_VERSION) {
            throw new EdgeException(
                    EdgeException.Code.CONTRACT_TOO_NEW,
                    where + ": unsupported contract schema",
                    "schema_version " + version,
                    "at most " + Contract.SCHEMA_VERSION,
                    "update the app");
        }
        ContractReader reader = new ContractReader();
        Contract contract = reader.contract(new Fields(document, "", reader.problems));
        if (reader.problems.isEmpty()) {
            reader.check(contract);
        }
        if (!reader.problems.isEmpty()) {
            throw new EdgeException(
                    EdgeException.Code.CONTRACT_INVALID,
                    where + ": Invalid contract (schema " + Contract.SCHEMA_VERSION + ")",
                    join(reader.problems),
                    "every field of the schema, with a valid value",
                    FIX);
        }
        return contract;
    }

    private Contract contract(Fields root) {
        Contract contract = new Contract();
        if (root.integer("schema_version") < 1 && problems.isEmpty()) {
            problems.add("schema_version is less than 1");
        }
        contract.modelId = root.text("model_id");
        contract.labels = new ArrayList<Contract.Label>();
        for (Fields label : root.objects("labels")) {
            contract.labels.add(
                    new Contract.Label(label.text("code"), label.text("name"), label.text("group")));
            label.finish();
        }
        Fields input = root.object("input");
        contract.heightPx = input.integer("height_px");
        contract.widthPx = input.integer("width_px");
        input.oneOf("color_space", "RGB");
        input.oneOf("alpha", "over_white");
        input.finish();
        Fields geometry = root.object("geometry");
        contract.decodeScaling = geometry.oneOf("decode_scaling", "none", "jpeg_dct");
        contract.decodeOversampling = geometry.integer("decode_oversampling");
        geometry.oneOf("exif", "transpose");
        contract.crop = geometry.oneOf("crop", "center_square", "stretch");
        contract.cropFraction = geometry.real("crop_fraction");
        geometry.oneOf("filter", "bilinear");
        geometry.finish();
        Fields normalization = root.object("normalization");
        contract.mean = normalization.real("mean");
        contract.std = normalization.real("std");
        normalization.finish();
        Fields output = root.object("output");
        output.oneOf("activation", "softmax");
        output.finish();
        Fields calibration = root.object("calibration");
        calibration.oneOf("method", "none", "temperature");
        if (calibration.real("temperature") <= 0 && problems.isEmpty()) {
            problems.add("calibration.temperature is not positive");
        }
        calibration.finish();
        Fields decision = root.object("decision");
        contract.refer = rule(decision.objectOrNull("refer"));
        contract.notALesion = rule(decision.objectOrNull("not_a_lesion"));
        decision.finish();
        provenance(root.object("provenance"), contract);
        contract.intendedUse = root.text("intended_use");
        contract.golden = new ArrayList<Contract.GoldenVector>();
        for (Fields golden : root.objects("golden")) {
            contract.golden.add(golden(golden));
        }
        root.finish();
        return contract;
    }

    private static Contract.Rule rule(Fields fields) {
        if (fields == null) {
            return null;
        }
        String measure =
                fields.oneOf("measure", Contract.Rule.TOP_SCORE, Contract.Rule.NORMALIZED_ENTROPY);
        Contract.Rule rule =
                new Contract.Rule(measure, fields.real("threshold"), fields.text("source"));
        fields.finish();
        return rule;
    }

    private static void provenance(Fields fields, Contract contract) {
        fields.text("run_id");
        contract.recipe = fields.text("recipe");
        contract.dataName = fields.text("data_name");
        fields.text("data_manifest_sha256");
        contract.dataLicence = fields.text("data_licence");
        contract.modelLicence = fields.text("model_licence");
        fields.text("commit");
        fields.finish();
    }

    private static Contract.GoldenVector golden(Fields fields) {
        Contract.GoldenVector golden =
                new Contract.GoldenVector(
                        fields.text("image"),
                        fields.text("image_sha256"),
                        fields.text("pixels_sha256"),
                        fields.reals("output"),
                        fields.real("tolerance"),
                        fields.text("runtime"));
        fields.finish();
        return golden;
    }

    /** What types alone cannot say. */
    private void check(Contract contract) {
        int count = contract.labels.size();
        require(!contract.modelId.isEmpty(), "model_id is empty");
        require(count >= 2 && count <= MAX_LABELS, "labels has " + count + " entries, not 2 to " + MAX_LABELS);
        require(new HashSet<String>(contract.codes()).size() == count, "labels has a code twice");
        for (Contract.Label label : contract.labels) {
            require(
                    !label.code.isEmpty() && !label.name.isEmpty() && !label.group.isEmpty(),
                    "labels has an empty text");
        }
        requireWithin("input.height_px", contract.heightPx, 1, MAX_SIDE_PX);
        requireWithin("input.width_px", contract.widthPx, 1, MAX_SIDE_PX);
        requireWithin("geometry.decode_oversampling", contract.decodeOversampling, 1, MAX_OVERSAMPLING);
        require(
                contract.cropFraction > 0 && contract.cropFraction <= 1,
                "geometry.crop_fraction is " + contract.cropFraction + ", not in (0, 1]");
        requireWithin("normalization.mean", contract.mean, -MAX_MEAN, MAX_MEAN);
        requireWithin("normalization.std", contract.std, MIN_STD, MAX_STD);
        for (Contract.Rule rule : Arrays.asList(contract.refer, contract.notALesion)) {
            if (rule != null) {
                requireWithin("decision: a threshold", rule.threshold, 0, 1);
            }
        }
        require(
                contract.golden.size() <= MAX_GOLDEN,
                "golden has " + contract.golden.size() + " entries, not 0 to " + MAX_GOLDEN);
        for (Contract.GoldenVector golden : contract.golden) {
            require(
                    golden.output.length == count,
                    "golden.output has " + golden.output.length + " values for " + count + " labels");
            require(golden.tolerance >= 0, "golden.tolerance is negative");
        }
    }

    /** Whether text could move a cursor, turn the direction of what follows, or cannot be encoded. */
    static boolean hasControlCharacters(String text) {
        for (int i = 0; i < text.length(); i++) {
            char one = text.charAt(i);
            boolean paired = Character.isHighSurrogate(one)
                    ? i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))
                    : Character.isLowSurrogate(one) && i > 0 && Character.isHighSurrogate(text.charAt(i - 1));
            if (Character.isISOControl(one)
                    || DIRECTION_MARKS.indexOf(one) >= 0
                    || (Character.isSurrogate(one) && !paired)) {
                return true;
            }
        }
        return false;
    }

    private void require(boolean holds, String problem) {
        if (!holds) {
            problems.add(problem);
        }
    }

    private void requireWithin(String field, double value, double low, double high) {
        require(
                value >= low && value <= high,
                field + " is " + Json.general(value) + ", not " + Json.general(low) + " to " + Json.general(high));
    }

    static String join(Iterable<String> parts) {
        StringBuilder joined = new StringBuilder();
        for (String part : parts) {
            joined.append(joined.length() == 0 ? "" : "; ").append(part);
        }
        return joined.toString();
    }

    /** One JSON object; records which of its fields were read. Any value is safe after a problem was noted. */
    private static final class Fields {
        private final Map<?, ?> object;
        private final String path;
        private final List<String> problems;
        private final HashSet<String> asked = new HashSet<String>();

        Fields(Object value, String path, List<String> problems) {
            this.path = path;
            this.problems = problems;
            this.object = value instanceof Map ? (Map<?, ?>) value : null;
            if (object == null) {
                problems.add((path.isEmpty() ? "the document" : path) + " is " + kind(value) + ", not an object");
            }
        }

        String text(String key) {
            Object value = value(key);
            if (value instanceof String && hasControlCharacters((String) value)) {
                problems.add(name(key) + " holds a control character");
            }
            return value instanceof String ? (String) value : wrong(key, value, "str", "");
        }

        String oneOf(String key, String... allowed) {
            String value = text(key);
            if (object != null && object.get(key) instanceof String && !Arrays.asList(allowed).contains(value)) {
                problems.add(name(key) + " is '" + value + "', not one of " + Arrays.toString(allowed));
            }
            return value;
        }

        int integer(String key) {
            Object value = value(key);
            if (!(value instanceof Long) && !(value instanceof BigInteger)) {
                return wrong(key, value, "int", 0);
            }
            // Beyond an int it is beyond every range; saturating keeps it so.
            double real = ((Number) value).doubleValue();
            return (int) Math.max(Integer.MIN_VALUE, Math.min(Integer.MAX_VALUE, real));
        }

        double real(String key) {
            Object value = value(key);
            return value instanceof Number ? finite(name(key), (Number) value) : wrong(key, value, "float", 0.0);
        }

        double[] reals(String key) {
            List<?> list = list(key);
            double[] reals = new double[list.size()];
            for (int i = 0; i < reals.length; i++) {
                String name = name(key) + "[" + i + "]";
                if (list.get(i) instanceof Number) {
                    reals[i] = finite(name, (Number) list.get(i));
                } else {
                    problems.add(name + " is " + kind(list.get(i)) + ", not float");
                }
            }
            return reals;
        }

        Fields object(String key) {
            return new Fields(value(key), name(key), problems);
        }

        Fields objectOrNull(String key) {
            Object value = value(key);
            return value == null ? null : new Fields(value, name(key), problems);
        }

        List<Fields> objects(String key) {
            List<Fields> objects = new ArrayList<Fields>();
            for (Object item : list(key)) {
                objects.add(new Fields(item, name(key) + "[" + objects.size() + "]", problems));
            }
            return objects;
        }

        /** Every field that was not read is unknown. */
        void finish() {
            if (object != null) {
                for (Object key : object.keySet()) {
                    if (!asked.contains(key)) {
                        problems.add(name(key.toString()) + " is unknown");
                    }
                }
            }
        }

        private List<?> list(String key) {
            Object value = value(key);
            return value instanceof List ? (List<?>) value : wrong(key, value, "a list", new ArrayList<Object>());
        }

        private Object value(String key) {
            asked.add(key);
            if (object != null && !object.containsKey(key)) {
                problems.add(name(key) + " is missing");
            }
            return object == null ? null : object.get(key);
        }

        private <T> T wrong(String key, Object value, String expected, T instead) {
            if (object != null && object.containsKey(key)) {
                problems.add(name(key) + " is " + kind(value) + ", not " + expected);
            }
            return instead;
        }

        private double finite(String name, Number value) {
            double real = value.doubleValue();
            if (Double.isInfinite(real)) {
                problems.add(name + " is " + real + ", not a finite number");
            }
            return real;
        }

        private String name(String key) {
            return path.isEmpty() ? key : path + "." + key;
        }

        private static String kind(Object value) {
            return value == null ? "null" : value.getClass().getSimpleName();
        }
    }
}
