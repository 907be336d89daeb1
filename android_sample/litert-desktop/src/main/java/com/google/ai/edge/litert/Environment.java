package com.google.ai.edge.litert;

import java.util.EnumSet;
import java.util.Map;
import java.util.Set;

/** Lists what a test says. */
public final class Environment implements AutoCloseable {
    /** Where a vendor's libraries are. */
    public enum Option {
        CompilerPluginLibraryDir,
        DispatchLibraryDir
    }

    /** What the next environments list. LiteRT has listed NPUs that then failed, so all of them by default. */
    public static Set<Accelerator> listed = EnumSet.of(Accelerator.NPU, Accelerator.GPU, Accelerator.CPU);

    /** Of the last environment that was created. */
    public static Map<Option, String> lastOptions;

    /** Environments that nobody closed yet. */
    public static int open;

    private boolean closed;

    private Environment() {}

    public static Environment create(Map<Option, String> options) throws LiteRtException {
        lastOptions = options;
        open++;
        return new Environment();
    }

    public Set<Accelerator> getAvailableAccelerators() throws LiteRtException {
        return listed;
    }

    @Override
    public void close() {
        open -= closed ? 0 : 1;
        closed = true;
    }
}
