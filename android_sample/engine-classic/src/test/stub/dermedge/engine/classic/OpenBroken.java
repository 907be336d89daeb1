package dermedge.engine.classic;

import dermedge.core.ModelFile;
import dermedge.core.Rung;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import org.tensorflow.lite.Interpreter;

/**
 * Opens a model with the stub beside it, for `tests/android/test_classic_engine.py`: what is said, and how much stays open.
 *
 * <pre>OpenBroken MODEL</pre>
 */
public final class OpenBroken {
    private OpenBroken() {}

    public static void main(String[] arguments) throws IOException {
        ModelFile model = ModelFile.open(Files.readAllBytes(new File(arguments[0]).toPath()), "model");
        try {
            new ClassicEngineFactory().open(model, Rung.CPU);
        } catch (IllegalStateException told) {
            System.out.println(told.getMessage() + ", open: " + Interpreter.open);
        }
    }
}
