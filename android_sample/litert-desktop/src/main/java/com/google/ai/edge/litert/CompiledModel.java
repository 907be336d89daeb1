package com.google.ai.edge.litert;

import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.ModelFile;
import dermedge.engine.desktop.DesktopEngineFactory;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** A model compiled by the real library. */
public final class CompiledModel implements AutoCloseable {
    /** What may run it. */
    public static final class Options {
        final Set<Accelerator> accelerators;

        public Options(Accelerator... accelerators) {
            this.accelerators = EnumSet.noneOf(Accelerator.class);
            Collections.addAll(this.accelerators, accelerators);
        }
    }

    /** The real library; a test sets it. */
    public static DesktopEngineFactory library;

    private final Engine engine;

    private CompiledModel(Engine engine) {
        this.engine = engine;
    }

    public static CompiledModel create(String filePath, Options options, Environment environment)
            throws LiteRtException {
        Set<Accelerator> asked = EnumSet.copyOf(options.accelerators);
        if (asked.equals(EnumSet.of(Accelerator.NPU))) {
            asked.add(Accelerator.CPU);
        }
        int mask =
                (asked.contains(Accelerator.CPU) ? 1 : 0)
                        | (asked.contains(Accelerator.GPU) ? 2 : 0)
                        | (asked.contains(Accelerator.NPU) ? 4 : 0);
        try {
            byte[] data = Files.readAllBytes(new File(filePath).toPath());
            return new CompiledModel(library.open(ModelFile.open(data, filePath), mask));
        } catch (IOException | EdgeException cause) {
            throw new LiteRtException(504, cause.getMessage());
        }
    }

    public List<TensorBuffer> createInputBuffers() throws LiteRtException {
        return Collections.singletonList(new TensorBuffer(engine.input().nbytes()));
    }

    public List<TensorBuffer> createOutputBuffers() throws LiteRtException {
        return Collections.singletonList(new TensorBuffer(engine.output().nbytes()));
    }

    public void run(List<TensorBuffer> inputs, List<TensorBuffer> outputs) throws LiteRtException {
        byte[] output = engine.run(inputs.get(0).bytes);
        System.arraycopy(output, 0, outputs.get(0).bytes, 0, output.length);
    }

    @Override
    public void close() {
        engine.close();
    }
}
