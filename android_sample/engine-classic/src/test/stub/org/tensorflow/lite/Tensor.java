package org.tensorflow.lite;

/** 1 x 2 bytes. */
public final class Tensor {
    /** As the real one's. */
    public static final class QuantizationParams {
        public float getScale() {
            return 1;
        }

        public int getZeroPoint() {
            return 0;
        }
    }

    public DataType dataType() {
        return DataType.UINT8;
    }

    public int[] shape() {
        return new int[] {1, 2};
    }

    public QuantizationParams quantizationParams() {
        return new QuantizationParams();
    }
}
