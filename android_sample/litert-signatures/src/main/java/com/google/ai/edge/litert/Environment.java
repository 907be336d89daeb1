package com.google.ai.edge.litert;

import java.util.Map;
import java.util.Set;

/** Signature. */
public final class Environment implements AutoCloseable {
    /** Signature. */
    public enum Option {
        CompilerPluginLibraryDir,
        DispatchLibraryDir
    }

    private Environment() {}

    public static Environment create(Map<Option, String> options) throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    public Set<Accelerator> getAvailableAccelerators() throws LiteRtException {
        throw new UnsupportedOperationException();
    }

    @Override
    public void close() {
        throw new UnsupportedOperationException();
    }
}
