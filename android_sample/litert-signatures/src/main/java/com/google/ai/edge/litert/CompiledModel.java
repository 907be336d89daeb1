package com.google.ai.edge.litert;

import java.util.List;

/** Signature. */
public final class CompiledModel implements AutoCloseable {
    /** Signature. */
    public static final class Options {
        public Options(Accelerator... accelerators) {
            throw new UnsupportedOperationException();
        }
    }

    private CompiledModel() {}

    public static CompiledModel create(String filePath, Options options, Environment environment)
            throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    public List<TensorBuffer> createInputBuffers() throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    public List<TensorBuffer> createOutputBuffers() throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    public void run(List<TensorBuffer> inputs, List<TensorBuffer> outputs) throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    @Override
    public void close() {
        throw new UnsupportedOperationException();
    }
}
