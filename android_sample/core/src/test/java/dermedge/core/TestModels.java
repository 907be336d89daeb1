package dermedge.core;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Arrays;

/** The repository's tiny models, and the bundled one where it was named. */
final class TestModels {
    private TestModels() {}

    static byte[] bytes(String name) {
        try {
            return Files.readAllBytes(new File(System.getProperty("dermedge.fixtures"), name).toPath());
        } catch (IOException error) {
            throw new IllegalStateException("run by Maven, which names the fixtures", error);
        }
    }

    static ModelFile tiny() {
        return ModelFile.open(bytes("tiny_uint8.tflite"), "tiny_uint8.tflite");
    }

    /** An engine that answers each golden picture with its golden output, plus `error` steps on every label. */
    static final class Fake implements Engine {
        private final ModelFile model;
        private final Runnable beforeRun;
        private final int error;
        boolean closed;

        Fake(ModelFile model, int error, Runnable beforeRun) {
            this.model = model;
            this.error = error;
            this.beforeRun = beforeRun;
        }

        @Override
        public String name() {
            return "fake";
        }

        @Override
        public String kernels() {
            return "fake";
        }

        @Override
        public TensorSpec input() {
            return model.input();
        }

        @Override
        public TensorSpec output() {
            return model.output();
        }

        @Override
        public byte[] run(byte[] inputTensor) {
            beforeRun.run();
            Preprocess preprocess = new Preprocess(model.contract(), null);
            for (Contract.GoldenVector golden : model.contract().golden()) {
                byte[] pixels = preprocess.fitPixels(model.readEntry(golden.image), golden.image);
                if (Arrays.equals(preprocess.inputBytes(pixels, model.input()), inputTensor)) {
                    byte[] output = new byte[golden.output.length];
                    for (int i = 0; i < output.length; i++) {
                        output[i] = (byte) (int) (golden.output[i] + error);
                    }
                    return output;
                }
            }
            throw new IllegalStateException("an input that is no golden picture");
        }

        @Override
        public void close() {
            closed = true;
        }
    }
}
