package dermedge.app;

import android.content.Context;
import dermedge.core.EngineFactory;
import dermedge.engine.litert.LiteRtEngineFactory;
import java.io.File;

/** What this build infers with: LiteRT, which knows NPU and GPU. The build for Android Studio. */
final class Engines {
    private Engines() {}

    static EngineFactory create(Context context) {
        File libraries = new File(context.getApplicationInfo().nativeLibraryDir);
        return new LiteRtEngineFactory(context.getCacheDir(), libraries);
    }
}
