package dermedge.engine.desktop;

import com.sun.jna.Native;
import dermedge.core.Accelerator;
import dermedge.core.Engine;
import dermedge.core.EngineFactory;
import dermedge.core.ModelFile;
import dermedge.core.Rung;
import java.io.File;
import java.util.Set;

/** Opens engines of the `libLiteRt.so` that the Python package ai-edge-litert carries. */
public final class DesktopEngineFactory implements EngineFactory {
    /** The release whose C ABI LiteRtLibrary describes. */
    public static final String PROVEN_VERSION = "2.3.0";

    private final LiteRtLibrary library;

    /** @param path of libLiteRt.so, of release PROVEN_VERSION: its dist-info folder beside its package says so */
    public DesktopEngineFactory(File path) {
        File site = path.getAbsoluteFile().getParentFile().getParentFile();
        if (!new File(site, "ai_edge_litert-" + PROVEN_VERSION + ".dist-info").isDirectory()) {
            throw new IllegalArgumentException(
                    path + ": not of ai-edge-litert " + PROVEN_VERSION + "; other releases have another ABI");
        }
        library = Native.load(path.getAbsolutePath(), LiteRtLibrary.class);
    }

    @Override
    public String runtime() {
        return "litert " + PROVEN_VERSION;
    }

    /** Not queried: the fallback must detect it by itself. */
    @Override
    public Set<Accelerator> available() {
        return null;
    }

    @Override
    public Engine open(ModelFile model, Rung rung) {
        return open(model, rung.mask());
    }

    /** With LiteRT's own bit mask: CPU 1, GPU 2, NPU 4. */
    public Engine open(ModelFile model, int acceleratorMask) {
        return new DesktopEngine(library, PROVEN_VERSION, model, acceleratorMask);
    }
}
