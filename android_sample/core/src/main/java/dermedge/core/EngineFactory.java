package dermedge.core;

import java.util.Set;

/** Opens engines of one inference library. */
public interface EngineFactory {
    /** Library and version, part of a remembered decision's key: `litert 2.3.0`. */
    String runtime();

    /**
     * What the library says it can use. Necessary, never sufficient: LiteRT has listed an NPU and then failed on it.
     *
     * @return null when the library does not say
     */
    Set<Accelerator> available();

    /**
     * Loads the model on exactly this rung.
     *
     * @throws EdgeException the library refuses
     * @throws LinkageError a native library is missing
     */
    Engine open(ModelFile model, Rung rung);
}
