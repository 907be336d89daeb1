package dermedge.app;

import android.content.Context;
import dermedge.core.EngineFactory;
import dermedge.engine.classic.ClassicEngineFactory;

/** What this build infers with: the classic interpreter, which knows the CPU alone. The build of tools/build_apk.sh. */
final class Engines {
    private Engines() {}

    static EngineFactory create(Context context) {
        return new ClassicEngineFactory();
    }
}
