package dermedge.engine.desktop;

import com.sun.jna.Memory;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.LongByReference;
import com.sun.jna.ptr.PointerByReference;
import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.ModelFile;
import dermedge.core.TensorSpec;

/** The real LiteRT library in a JVM: the same code that a phone's CPU rung runs, compiled for the desktop. */
final class DesktopEngine implements Engine {
    private static final int MODEL_ALIGNMENT = 64;

    private final LiteRtLibrary library;
    private final String version;
    private final Memory modelMemory;
    private final TensorSpec input;
    private final TensorSpec output;
    private Pointer environment;
    private Pointer model;
    private Pointer options;
    private Pointer compiled;
    private Pointer inputBuffer;
    private Pointer outputBuffer;

    DesktopEngine(LiteRtLibrary library, String version, ModelFile file, int acceleratorMask) {
        this.library = library;
        this.version = version;
        // LiteRT reads constants in place and expects the flatbuffer's alignment to hold in memory.
        modelMemory = new Memory(file.data().length + MODEL_ALIGNMENT).align(MODEL_ALIGNMENT);
        modelMemory.write(0, file.data(), 0, file.data().length);
        try {
            PointerByReference made = new PointerByReference();
            check("LiteRtCreateEnvironment", library.LiteRtCreateEnvironment(0, null, made));
            environment = made.getValue();
            check(
                    "LiteRtCreateModelFromBuffer",
                    library.LiteRtCreateModelFromBuffer(environment, modelMemory, file.data().length, made));
            model = made.getValue();
            check("LiteRtCreateOptions", library.LiteRtCreateOptions(made));
            options = made.getValue();
            check(
                    "LiteRtSetOptionsHardwareAccelerators",
                    library.LiteRtSetOptionsHardwareAccelerators(options, acceleratorMask));
            check(
                    "LiteRtCreateCompiledModel with the accelerators of mask " + acceleratorMask,
                    library.LiteRtCreateCompiledModel(environment, model, options, made));
            compiled = made.getValue();
            Memory type = new Memory(LiteRtLibrary.TENSOR_TYPE_BYTES);
            input = describe(true, type);
            inputBuffer = createBuffer(true, type, input);
            output = describe(false, type);
            outputBuffer = createBuffer(false, type, output);
        } catch (RuntimeException error) {
            close();
            throw error;
        }
    }

    @Override
    public String name() {
        return "litert-jna " + version;
    }

    @Override
    public String kernels() {
        // As `kernels_of` in parity.py says it: the library, its release, the processor family.
        String family = System.getProperty("os.arch");
        return "litert " + version + " " + (family.equals("amd64") ? "x86_64" : family);
    }

    @Override
    public TensorSpec input() {
        return input;
    }

    @Override
    public TensorSpec output() {
        return output;
    }

    @Override
    public byte[] run(byte[] inputTensor) {
        if (compiled == null || inputTensor.length != input.nbytes()) {
            throw broken("the engine is closed, or the input has the wrong length", inputTensor.length + " bytes");
        }
        PointerByReference address = new PointerByReference();
        lock(inputBuffer, address, LiteRtLibrary.LOCK_WRITE);
        address.getValue().write(0, inputTensor, 0, inputTensor.length);
        check("LiteRtUnlockTensorBuffer", library.LiteRtUnlockTensorBuffer(inputBuffer));
        check(
                "LiteRtRunCompiledModel",
                library.LiteRtRunCompiledModel(
                        compiled, 0, 1, new Pointer[] {inputBuffer}, 1, new Pointer[] {outputBuffer}));
        lock(outputBuffer, address, LiteRtLibrary.LOCK_READ);
        byte[] outputTensor = address.getValue().getByteArray(0, output.nbytes());
        check("LiteRtUnlockTensorBuffer", library.LiteRtUnlockTensorBuffer(outputBuffer));
        return outputTensor;
    }

    /** LiteRT wants buffers gone before models, and models before the environment. */
    @Override
    public void close() {
        if (inputBuffer != null) {
            library.LiteRtDestroyTensorBuffer(inputBuffer);
        }
        if (outputBuffer != null) {
            library.LiteRtDestroyTensorBuffer(outputBuffer);
        }
        if (compiled != null) {
            library.LiteRtDestroyCompiledModel(compiled);
        }
        if (options != null) {
            library.LiteRtDestroyOptions(options);
        }
        if (model != null) {
            library.LiteRtDestroyModel(model);
        }
        if (environment != null) {
            library.LiteRtDestroyEnvironment(environment);
        }
        inputBuffer = outputBuffer = compiled = options = model = environment = null;
    }

    private void lock(Pointer buffer, PointerByReference address, int mode) {
        check("LiteRtLockTensorBuffer", library.LiteRtLockTensorBuffer(buffer, address, mode));
    }

    /** The first input or output; its type is left in `type`. */
    private TensorSpec describe(boolean isInput, Memory type) {
        PointerByReference found = new PointerByReference();
        check("LiteRtGetModelSignature", library.LiteRtGetModelSignature(model, 0, found));
        Pointer signature = found.getValue();
        check(
                "LiteRtGetSignatureTensorByIndex",
                isInput
                        ? library.LiteRtGetSignatureInputTensorByIndex(signature, 0, found)
                        : library.LiteRtGetSignatureOutputTensorByIndex(signature, 0, found));
        Pointer tensor = found.getValue();
        check("LiteRtGetRankedTensorType", library.LiteRtGetRankedTensorType(tensor, type));
        Memory kind = new Memory(4);
        check("LiteRtGetQuantizationTypeId", library.LiteRtGetQuantizationTypeId(tensor, kind));
        double scale = 0;
        int zeroPoint = 0;
        if (kind.getInt(0) == LiteRtLibrary.PER_TENSOR) {
            Memory quantization = new Memory(LiteRtLibrary.QUANTIZATION_BYTES);
            check(
                    "LiteRtGetPerTensorQuantization",
                    library.LiteRtGetPerTensorQuantization(tensor, quantization));
            scale = quantization.getFloat(0);
            zeroPoint = (int) quantization.getLong(8);
        }
        int[] shape = type.getIntArray(8, type.getInt(4) & 0x7F);
        return new TensorSpec(shape, dtype(type.getInt(0)), scale, zeroPoint);
    }

    private static String dtype(int elementType) {
        switch (elementType) {
            case 1:
                return "float32";
            case 3:
                return "uint8";
            case 9:
                return "int8";
            default:
                return "type " + elementType;
        }
    }

    private Pointer createBuffer(boolean isInput, Memory type, TensorSpec spec) {
        PointerByReference made = new PointerByReference();
        check(
                "LiteRtGetCompiledModelBufferRequirements",
                isInput
                        ? library.LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, made)
                        : library.LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, made));
        check(
                "LiteRtCreateManagedTensorBufferFromRequirements",
                library.LiteRtCreateManagedTensorBufferFromRequirements(
                        environment, type, made.getValue(), made));
        LongByReference bytes = new LongByReference();
        check(
                "LiteRtGetTensorBufferPackedSize",
                library.LiteRtGetTensorBufferPackedSize(made.getValue(), bytes));
        if (bytes.getValue() != spec.nbytes()) {
            library.LiteRtDestroyTensorBuffer(made.getValue());
            throw broken("a buffer does not fit its tensor", bytes.getValue() + " bytes for " + spec);
        }
        return made.getValue();
    }

    private static void check(String function, int status) {
        if (status != 0) {
            throw broken("LiteRT cannot run the model: " + function + " failed", "status " + status);
        }
    }

    private static EdgeException broken(String what, String found) {
        return new EdgeException(EdgeException.Code.INTERPRETER_BROKEN, what, found, "status 0", "");
    }
}
