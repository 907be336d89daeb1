package com.google.ai.edge.litert;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Bytes; as in LiteRT, too much is refused and too little is not. */
public final class TensorBuffer implements AutoCloseable {
    final byte[] bytes;

    TensorBuffer(int size) {
        bytes = new byte[size];
    }

    public void writeInt8(byte[] data) throws LiteRtException {
        if (data.length > bytes.length) {
            throw new LiteRtException(1, "too much data");
        }
        System.arraycopy(data, 0, bytes, 0, data.length);
    }

    public byte[] readInt8() throws LiteRtException {
        return bytes.clone();
    }

    public void writeFloat(float[] data) throws LiteRtException {
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().put(data);
    }

    public float[] readFloat() throws LiteRtException {
        float[] values = new float[bytes.length / 4];
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
        return values;
    }

    @Override
    public void close() {}
}
