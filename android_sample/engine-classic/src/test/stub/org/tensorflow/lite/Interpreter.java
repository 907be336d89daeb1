package org.tensorflow.lite;

import java.nio.ByteBuffer;

/** A library that opens a model and then cannot say what its output is. Counts what is open. */
public final class Interpreter implements AutoCloseable {
    /** As the real one's. */
    public static final class Options {
        public Options setNumThreads(int count) {
            return this;
        }
    }

    public static int open;

    public Interpreter(ByteBuffer model, Options options) {
        open++;
    }

    public Tensor getInputTensor(int index) {
        return new Tensor();
    }

    public Tensor getOutputTensor(int index) {
        throw new IllegalStateException("no output");
    }

    public void run(Object input, Object output) {
        throw new IllegalStateException("no output");
    }

    @Override
    public void close() {
        open--;
    }
}
