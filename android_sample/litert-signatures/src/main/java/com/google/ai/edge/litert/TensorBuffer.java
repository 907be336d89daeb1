package com.google.ai.edge.litert;

/** Signature. */
public final class TensorBuffer implements AutoCloseable {
    private TensorBuffer() {}

    public void writeInt8(byte[] data) throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    public byte[] readInt8() throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    public void writeFloat(float[] data) throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    public float[] readFloat() throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    @Override
    public void close() {
        throw new UnsupportedOperationException();
    }
}
