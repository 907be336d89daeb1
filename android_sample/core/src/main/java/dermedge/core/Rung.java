package dermedge.core;

import java.util.Collections;
import java.util.EnumSet;
import java.util.Set;

/** A candidate of the accelerator fallback, best first. */
public enum Rung {
    /** NPU or GPU and nothing on the CPU: a set without the CPU that LiteRT does not widen by itself. */
    NPU_STRICT("npu, strict", Accelerator.NPU, EnumSet.of(Accelerator.NPU, Accelerator.GPU)),
    /** NPU with the CPU for what it cannot do. LiteRT then also succeeds wholly on the CPU, without a word. */
    NPU_PARTIAL("npu, partial", Accelerator.NPU, EnumSet.of(Accelerator.NPU, Accelerator.CPU)),
    /** GPU and nothing on the CPU. */
    GPU("gpu", Accelerator.GPU, EnumSet.of(Accelerator.GPU)),
    /** The CPU, which always works. */
    CPU("cpu", Accelerator.CPU, EnumSet.of(Accelerator.CPU));

    private final String text;
    private final Accelerator aim;
    private final Set<Accelerator> asked;

    Rung(String text, Accelerator aim, Set<Accelerator> asked) {
        this.text = text;
        this.aim = aim;
        this.asked = Collections.unmodifiableSet(asked);
    }

    /** What the rung is for. */
    public Accelerator aim() {
        return aim;
    }

    /** Accelerators requested from the library. */
    public Set<Accelerator> asked() {
        return asked;
    }

    /** As a bit mask of LiteRT's C API: CPU 1, GPU 2, NPU 4. */
    public int mask() {
        return (asked.contains(Accelerator.CPU) ? 1 : 0)
                | (asked.contains(Accelerator.GPU) ? 2 : 0)
                | (asked.contains(Accelerator.NPU) ? 4 : 0);
    }

    @Override
    public String toString() {
        return text;
    }
}
