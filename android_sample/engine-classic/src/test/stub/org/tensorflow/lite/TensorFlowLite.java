package org.tensorflow.lite;

/** Its version. */
public final class TensorFlowLite {
    private TensorFlowLite() {}

    public static String runtimeVersion() {
        return "stub";
    }
}
