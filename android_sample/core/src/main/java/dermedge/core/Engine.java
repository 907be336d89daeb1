package dermedge.core;

/** One model, loaded and ready to run. Not thread-safe: one engine a thread. */
public interface Engine {
    /** Engine and version: `litert-c 2.3.0`. */
    String name();

    /** What computes, for the parity harness: `litert 2.3.0 x86_64`; equal names owe equal integers. */
    String kernels();

    TensorSpec input();

    TensorSpec output();

    /** One inference: exactly input().nbytes() bytes in, output().nbytes() bytes out, little-endian. */
    byte[] run(byte[] inputTensor);

    /** Frees the native memory; a second call does nothing. */
    void close();
}
