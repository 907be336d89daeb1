package dermedge.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** Shape, dtype and quantization of an input or output tensor; `tensors.py` in Java. */
public final class TensorSpec {
    private final int[] shape;
    private final String dtype;
    private final double scale;
    private final int zeroPoint;

    /**
     * @param shape its sides
     * @param dtype `uint8`, `int8`, `float32`; others are named but refused
     * @param scale real = scale * (raw - zeroPoint); 0 when the tensor is not quantized
     * @param zeroPoint in the range of the dtype
     */
    public TensorSpec(int[] shape, String dtype, double scale, int zeroPoint) {
        this.shape = shape.clone();
        this.dtype = dtype;
        this.scale = scale;
        this.zeroPoint = zeroPoint;
    }

    public int[] shape() {
        return shape.clone();
    }

    public String dtype() {
        return dtype;
    }

    public double scale() {
        return scale;
    }

    public int zeroPoint() {
        return zeroPoint;
    }

    /** Number of elements. */
    public int size() {
        int size = 1;
        for (int side : shape) {
            size *= side;
        }
        return size;
    }

    /** Bytes of the whole tensor. */
    public int nbytes() {
        return size() * (quantized() ? 1 : 4);
    }

    /** Whether raw values are integers with a scale. */
    public boolean quantized() {
        return !dtype.equals("float32");
    }

    /** The elements as they stand: integers for a quantized tensor. Little-endian. */
    public double[] rawValues(byte[] raw) {
        if (raw.length != nbytes()) {
            throw new EdgeException(
                    EdgeException.Code.INTERPRETER_BROKEN,
                    "a tensor has the wrong length",
                    raw.length + " bytes",
                    nbytes() + " bytes: " + this,
                    "");
        }
        double[] values = new double[size()];
        ByteBuffer buffer = ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < values.length; i++) {
            values[i] = !quantized() ? buffer.getFloat() : dtype.equals("uint8") ? raw[i] & 0xFF : raw[i];
        }
        return values;
    }

    /** The real values: scale * (raw - zeroPoint), or the floats themselves. */
    public double[] dequantize(byte[] raw) {
        double[] values = rawValues(raw);
        for (int i = 0; quantized() && i < values.length; i++) {
            values[i] = scale * (values[i] - zeroPoint);
        }
        return values;
    }

    /** Holds the tensors of a model or an engine against the contract; all problems are listed. */
    static void check(Contract contract, TensorSpec input, TensorSpec output, String where) {
        StringBuilder problems = new StringBuilder();
        input.check("input", new int[] {1, contract.heightPx, contract.widthPx, 3}, problems);
        output.check("output", new int[] {1, contract.labels.size()}, problems);
        if (problems.length() > 0) {
            throw new EdgeException(
                    EdgeException.Code.MODEL_MISMATCH,
                    where + ": the contract and the tensors of the model disagree",
                    problems.toString(),
                    "tensors as the contract describes them",
                    "convert the model again with dermedge convert");
        }
    }

    private void check(String role, int[] wanted, StringBuilder problems) {
        if (!Arrays.equals(shape, wanted)) {
            problems.append(role).append(" shape ").append(Arrays.toString(shape));
            problems.append(", the contract says ").append(Arrays.toString(wanted)).append("; ");
        }
        int low = dtype.equals("int8") ? -128 : 0;
        if (!dtype.equals("uint8") && !dtype.equals("int8") && !dtype.equals("float32")) {
            problems.append(role).append(" dtype ").append(dtype).append("; ");
        } else if (quantized() && !(scale > 0 && scale < Double.POSITIVE_INFINITY)) {
            problems.append(role).append(" is ").append(dtype).append(" with scale ").append(scale).append("; ");
        } else if (quantized() && (zeroPoint < low || zeroPoint > low + 255)) {
            problems.append(role).append(" has zero point ").append(zeroPoint).append("; ");
        }
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof TensorSpec && toString().equals(other.toString());
    }

    @Override
    public int hashCode() {
        return toString().hashCode();
    }

    @Override
    public String toString() {
        String text = dtype + " " + Arrays.toString(shape);
        return scale == 0 ? text : text + " with scale " + scale + " and zero point " + zeroPoint;
    }
}
