package dermedge.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Which operators a model file may hold, and what each may be given; `operators.py` in Java. The lines are those of
 * edge_runtime/model/operators.txt, in {@link OperatorTable}.
 */
final class Operators {
    static final long MAX_MULTIPLY_ADDS = 100000000000L;
    static final int MAX_RANK = 6;
    private static final double MAX_SCALE_RATIO = 8192;
    private static final double MAX_SQUARE_RATIO = 4096;
    private static final String[] ONE_TYPE = {"f32", "u8", "i8", "i16"};
    private static final Map<String, String> SHORT = new HashMap<String, String>();
    private static final Map<Integer, String> DTYPES = new HashMap<Integer, String>();
    private static final Map<Integer, Integer> BITS = new HashMap<Integer, Integer>();
    private static final Map<Integer, Kind> KINDS = new HashMap<Integer, Kind>();

    static {
        String[] names = {"f32 float32", "f16 float16", "i4 int4", "i8 int8", "u8 uint8", "i16 int16", "i32 int32",
            "i64 int64"};
        for (String pair : names) {
            SHORT.put(pair.substring(0, pair.indexOf(' ')), pair.substring(pair.indexOf(' ') + 1));
        }
        String[] types = {"0 float32 32", "1 float16 16", "2 int32 32", "3 uint8 8", "4 int64 64", "6 bool 8",
            "7 int16 16", "8 complex64 64", "9 int8 8", "10 float64 64", "11 complex128 128", "12 uint64 64",
            "15 uint32 32", "16 uint16 16", "17 int4 4", "18 bfloat16 16"};
        for (String line : types) {
            String[] words = line.split(" ");
            DTYPES.put(Integer.valueOf(words[0]), words[1]);
            BITS.put(Integer.valueOf(words[0]), Integer.valueOf(words[2]));
        }
        for (String line : OperatorTable.LINES) {
            String[] words = line.split(" ");
            KINDS.put(Integer.valueOf(words[0]), new Kind(words));
        }
    }

    private Operators() {}

    /** Name of a tensor type's number, null of one that has no place in a classifier. */
    static String dtype(int number) {
        return DTYPES.get(number);
    }

    static int bits(int number) {
        return BITS.get(number);
    }

    /** Checks one node of the graph and returns its multiply-adds. Inputs that are left out are null. */
    static long check(
            String name, int number, Operand[] inputs, Operand[] outputs, FlatTable options, int optionType) {
        Kind kind = KINDS.get(number);
        if (kind == null) {
            String[] known = OperatorTable.NAMES.split(" ");
            String what = number < known.length ? known[number] : "OPERATOR_" + number;
            throw new Unsupported(name + " is " + what + ", which image classifiers do not have");
        }
        try {
            return new OperatorNode(kind, inputs, outputs, options).check(optionType);
        } catch (Unsupported problem) {
            throw new Unsupported(name + ", " + kind.name + ": " + problem.getMessage());
        }
    }

    /** Refuses where LiteRT aborts: a sum's scale far below an input's; int16 of powers of two, which it does not broadcast. */
    static void requireFittingScales(Operand first, Operand second, Operand output, boolean squared) {
        double larger = Math.max(first.scale, second.scale);
        if (squared ? larger * larger >= MAX_SQUARE_RATIO * output.scale : larger > MAX_SCALE_RATIO * output.scale) {
            throw new Unsupported("the output's scale is far below an input's");
        }
        boolean powers = true;
        for (double scale : new double[] {first.scale, second.scale, output.scale}) {
            double log = Math.log(scale) / Math.log(2);
            powers &= Math.abs(log - Math.rint(log)) < 0.002;
        }
        if (first.dtype.equals("int16") && !Arrays.equals(first.shape, second.shape) && powers) {
            throw new Unsupported("int16 is broadcast with scales that are powers of two");
        }
    }

    /** The reason why a model is not supported. */
    static final class Unsupported extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Unsupported(String reason) {
            super(reason);
        }
    }

    /** A tensor as an operator sees it. */
    static final class Operand {
        final int[] shape;
        final String dtype;
        /** A constant's first sixteen words; null of what an operator computes. */
        final int[] content;
        final long sizeBytes;
        /** 0 without a scale, or with one for each channel. */
        final double scale;

        Operand(int[] shape, String dtype, int[] content, long sizeBytes, double scale) {
            this.scale = scale;
            this.shape = shape;
            this.dtype = dtype;
            this.content = content;
            this.sizeBytes = sizeBytes;
        }

        /** Whether kernels divide by its scale. */
        boolean isQuantized() {
            return dtype.equals("uint8") || dtype.equals("int8") || dtype.equals("int16");
        }

        /** The values of an int32 constant; `count` is how many there must be, -1 for any. */
        int[] integers(int count) {
            if (content == null) {
                throw new Unsupported("a shape or an axis is computed, not constant");
            }
            if (sizeBytes > 8 * MAX_RANK || (count >= 0 && content.length != count)) {
                throw new Unsupported(content.length + " numbers for a shape or an axis");
            }
            return content;
        }
    }

    /** A line of the table. */
    static final class Kind {
        final String name;
        final String rule;
        final int optionType;
        final boolean optionsOptional;
        final int fewest;
        final int most;
        final int mostOutputs;
        /** Each the types of the inputs, then that of the output. */
        final List<String[]> types = new ArrayList<String[]>();

        Kind(String[] words) {
            name = words[1];
            rule = words[2];
            optionsOptional = words[3].endsWith("?") || words[3].equals("-");
            optionType = words[3].equals("-") ? 0 : Integer.parseInt(words[3].replace("?", ""));
            String[] inputs = words[4].split("\\.\\.");
            fewest = Integer.parseInt(inputs[0]);
            most = Integer.parseInt(inputs[inputs.length - 1]);
            String[] outputs = words[5].split("\\.\\.");
            mostOutputs = Integer.parseInt(outputs[outputs.length - 1]);
            for (int i = 6; i < words.length; i++) {
                for (String one : words[i].contains("T") ? ONE_TYPE : new String[] {""}) {
                    String[] names = words[i].replace("T", one).replace('>', ',').split(",");
                    for (int j = 0; j < names.length; j++) {
                        names[j] = SHORT.get(names[j]);
                    }
                    types.add(names);
                }
            }
        }

        /** Whether an input may have a scale for each channel. */
        boolean isFilter(int input) {
            List<String> filtered = Arrays.asList("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL");
            return input == 1 ? filtered.contains(name) : input == 0 && name.equals("DEQUANTIZE");
        }

        boolean takes(Operand[] inputs, Operand[] outputs) {
            for (String[] one : types) {
                boolean fits = true;
                for (int i = 0; i < inputs.length; i++) {
                    String wanted = one[Math.min(i, one.length - 2)];
                    fits &= inputs[i] == null || inputs[i].dtype.equals(wanted);
                }
                for (Operand output : outputs) {
                    fits &= output.dtype.equals(one[one.length - 1]);
                }
                if (fits) {
                    return true;
                }
            }
            return false;
        }
    }
}
