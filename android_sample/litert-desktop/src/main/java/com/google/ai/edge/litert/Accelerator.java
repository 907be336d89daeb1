package com.google.ai.edge.litert;

/** Signature. */
public enum Accelerator {
    NONE,
    CPU,
    GPU,
    NPU
}
