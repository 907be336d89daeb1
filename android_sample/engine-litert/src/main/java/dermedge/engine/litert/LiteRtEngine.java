package dermedge.engine.litert;

import com.google.ai.edge.litert.Accelerator;
import com.google.ai.edge.litert.CompiledModel;
import com.google.ai.edge.litert.Environment;
import com.google.ai.edge.litert.LiteRtException;
import com.google.ai.edge.litert.TensorBuffer;
import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.ModelFile;
import dermedge.core.Rung;
import dermedge.core.TensorSpec;
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/** One CompiledModel on one rung. Buffers are made once and used for every photo. */
final class LiteRtEngine implements Engine {
    private final Rung rung;
    private final TensorSpec input;
    private final TensorSpec output;
    private final Environment environment;
    private CompiledModel compiled;
    private List<TensorBuffer> inputs;
    private List<TensorBuffer> outputs;

    /** Owns the environment from here on, and frees it when the model does not open. */
    LiteRtEngine(Environment environment, File file, ModelFile model, Rung rung) throws LiteRtException {
        this.rung = rung;
        // From the file: LiteRT's Kotlin API has no type for uint8 and throws.
        this.input = model.input();
        this.output = model.output();
        this.environment = environment;
        boolean opened = false;
        try {
            compiled = CompiledModel.create(file.getPath(), new CompiledModel.Options(asked(rung)), environment);
            inputs = compiled.createInputBuffers();
            outputs = compiled.createOutputBuffers();
            if (inputs.size() != 1 || outputs.size() != 1) {
                throw new EdgeException(
                        EdgeException.Code.MODEL_MISMATCH,
                        model.name() + ": the model has other tensors than a classifier",
                        inputs.size() + " inputs, " + outputs.size() + " outputs",
                        "one of each",
                        "convert the model again with dermedge convert");
            }
            opened = true;
        } finally {
            if (!opened) {
                close();
            }
        }
    }

    /**
     * Exactly what the rung asks for. LiteRT itself adds the CPU to a lone NPU; a set without the CPU that has two
     * members stays as it is, and then an operator that neither of them runs is an error.
     */
    private static Accelerator[] asked(Rung rung) {
        Accelerator[] asked = new Accelerator[rung.asked().size()];
        int count = 0;
        for (dermedge.core.Accelerator accelerator : rung.asked()) {
            asked[count++] = LiteRtEngineFactory.litert(accelerator);
        }
        return asked;
    }

    @Override
    public String name() {
        return "litert-compiled " + LiteRtEngineFactory.VERSION + " (" + rung + ")";
    }

    @Override
    public String kernels() {
        return "litert " + LiteRtEngineFactory.VERSION + " " + rung + " " + System.getProperty("os.arch");
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
        // LiteRT refuses too much and takes too little without a word: the rest would be the last photo's.
        if (compiled == null || inputTensor.length != input.nbytes()) {
            throw new EdgeException(
                    EdgeException.Code.INTERPRETER_BROKEN,
                    "the engine is closed, or the input has the wrong length",
                    inputTensor.length + " bytes",
                    input.nbytes() + " bytes",
                    "");
        }
        try {
            write(inputs.get(0), inputTensor);
            compiled.run(inputs, outputs);
            byte[] outputTensor = read(outputs.get(0));
            // Throws when its length is wrong.
            output.rawValues(outputTensor);
            return outputTensor;
        } catch (LiteRtException failed) {
            throw LiteRtEngineFactory.broken("LiteRT fails while it runs on " + rung, failed);
        }
    }

    /** uint8 uses the int8 methods, which copy bytes regardless of sign. */
    private void write(TensorBuffer buffer, byte[] tensor) throws LiteRtException {
        if (input.quantized()) {
            buffer.writeInt8(tensor);
            return;
        }
        float[] values = new float[input.size()];
        ByteBuffer.wrap(tensor).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
        buffer.writeFloat(values);
    }

    private byte[] read(TensorBuffer buffer) throws LiteRtException {
        if (output.quantized()) {
            return buffer.readInt8();
        }
        float[] values = buffer.readFloat();
        ByteBuffer tensor = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        tensor.asFloatBuffer().put(values);
        return tensor.array();
    }

    /** Buffers before the model, the model before the environment. */
    @Override
    public void close() {
        close(inputs);
        close(outputs);
        inputs = outputs = null;
        if (compiled != null) {
            compiled.close();
        }
        compiled = null;
        environment.close();
    }

    private static void close(List<TensorBuffer> buffers) {
        if (buffers != null) {
            for (TensorBuffer buffer : buffers) {
                buffer.close();
            }
        }
    }
}
