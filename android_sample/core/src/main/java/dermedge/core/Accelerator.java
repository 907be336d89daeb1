package dermedge.core;

/** What may run a model's operators. */
public enum Accelerator {
    NPU("npu"),
    GPU("gpu"),
    CPU("cpu");

    private final String text;

    Accelerator(String text) {
        this.text = text;
    }

    @Override
    public String toString() {
        return text;
    }
}
