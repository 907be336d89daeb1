package dermedge.engine.litert;

import com.google.ai.edge.litert.Environment;
import com.google.ai.edge.litert.LiteRtException;
import dermedge.core.Accelerator;
import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.EngineFactory;
import dermedge.core.ModelFile;
import dermedge.core.Rung;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.Map;
import java.util.Set;

/** LiteRT's CompiledModel: NPU, GPU and CPU of a phone. No android.* in here, so that a JVM can run it. */
public final class LiteRtEngineFactory implements EngineFactory {
    /** The release in gradle/libs.versions.toml. */
    public static final String VERSION = "2.3.0";

    private static final String DISPATCH_PREFIX = "libLiteRtDispatch_";

    private final File folder;
    private final File libraries;

    /**
     * @param folder private to the app; the model is written there, because LiteRT wants a path
     * @param libraries where the app's native libraries lie; an NPU's are looked for there
     */
    public LiteRtEngineFactory(File folder, File libraries) {
        this.folder = folder;
        this.libraries = libraries;
    }

    @Override
    public String runtime() {
        return "litert " + VERSION;
    }

    /** An app without the library gets null here, and the reason from the rung that it tries. */
    @Override
    public Set<Accelerator> available() {
        Environment environment = null;
        try {
            environment = createEnvironment();
            Set<Accelerator> known = EnumSet.noneOf(Accelerator.class);
            for (Accelerator accelerator : Accelerator.values()) {
                if (environment.getAvailableAccelerators().contains(litert(accelerator))) {
                    known.add(accelerator);
                }
            }
            return known;
        } catch (LiteRtException doesNotSay) {
            return null;
        } catch (LinkageError missing) {
            return null;
        } finally {
            if (environment != null) {
                environment.close();
            }
        }
    }

    @Override
    public Engine open(ModelFile model, Rung rung) {
        try {
            return new LiteRtEngine(createEnvironment(), write(model), model, rung);
        } catch (LiteRtException refused) {
            throw broken("LiteRT does not open the model on " + rung, refused);
        }
    }

    /** Knows an NPU only when the app carries its dispatch library: LiteRT then loads the vendor's. */
    private Environment createEnvironment() throws LiteRtException {
        Map<Environment.Option, String> options = new EnumMap<Environment.Option, String>(Environment.Option.class);
        String[] names = libraries.list();
        for (String name : names == null ? new String[0] : names) {
            if (name.startsWith(DISPATCH_PREFIX)) {
                options.put(Environment.Option.DispatchLibraryDir, libraries.getPath());
                options.put(Environment.Option.CompilerPluginLibraryDir, libraries.getPath());
            }
        }
        return Environment.create(options);
    }

    private File write(ModelFile model) {
        File file = new File(folder, model.sha256() + ".tflite");
        if (file.length() == model.data().length) {
            return file;
        }
        File partial = new File(file.getPath() + ".partial");
        try {
            FileOutputStream out = new FileOutputStream(partial);
            try {
                out.write(model.data());
            } finally {
                out.close();
            }
        } catch (IOException cause) {
            throw unwritable(file, cause);
        }
        if (!partial.renameTo(file)) {
            throw unwritable(file, null);
        }
        return file;
    }

    private static EdgeException unwritable(File file, Throwable cause) {
        return new EdgeException(
                EdgeException.Code.USAGE,
                file + ": the model cannot be written",
                cause == null ? "" : String.valueOf(cause.getMessage()),
                "enough free storage",
                "free some storage",
                cause);
    }

    static EdgeException broken(String what, Throwable cause) {
        return new EdgeException(
                EdgeException.Code.INTERPRETER_BROKEN, what, String.valueOf(cause.getMessage()), "", "", cause);
    }

    static com.google.ai.edge.litert.Accelerator litert(Accelerator accelerator) {
        switch (accelerator) {
            case NPU:
                return com.google.ai.edge.litert.Accelerator.NPU;
            case GPU:
                return com.google.ai.edge.litert.Accelerator.GPU;
            default:
                return com.google.ai.edge.litert.Accelerator.CPU;
        }
    }
}
