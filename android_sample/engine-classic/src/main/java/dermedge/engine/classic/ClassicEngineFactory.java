package dermedge.engine.classic;

import dermedge.core.Accelerator;
import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.EngineFactory;
import dermedge.core.ModelFile;
import dermedge.core.Rung;
import dermedge.core.TensorSpec;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.EnumSet;
import java.util.Set;
import org.tensorflow.lite.DataType;
import org.tensorflow.lite.Interpreter;
import org.tensorflow.lite.Tensor;
import org.tensorflow.lite.TensorFlowLite;

/** The classic `org.tensorflow.lite.Interpreter`, on the CPU: what an APK can be built with from Maven Central alone. */
public final class ClassicEngineFactory implements EngineFactory {
    @Override
    public String runtime() {
        return "tensorflow-lite " + TensorFlowLite.runtimeVersion();
    }

    @Override
    public Set<Accelerator> available() {
        return EnumSet.of(Accelerator.CPU);
    }

    @Override
    public Engine open(ModelFile model, Rung rung) {
        if (rung != Rung.CPU) {
            throw new EdgeException(
                    EdgeException.Code.INTERPRETER_BROKEN, "the classic engine has the CPU alone", rung.toString(), "cpu", "");
        }
        return new ClassicEngine(model, runtime());
    }

    private static final class ClassicEngine implements Engine {
        private final String runtime;
        private final Interpreter interpreter;
        private final TensorSpec input;
        private final TensorSpec output;

        ClassicEngine(ModelFile model, String runtime) {
            this.runtime = runtime;
            // Direct, because the interpreter reads constants in place; it keeps the buffer alive.
            ByteBuffer data = ByteBuffer.allocateDirect(model.data().length).order(ByteOrder.nativeOrder());
            data.put(model.data());
            data.rewind();
            interpreter = new Interpreter(data, new Interpreter.Options().setNumThreads(2));
            boolean opened = false;
            try {
                input = spec(interpreter.getInputTensor(0));
                output = spec(interpreter.getOutputTensor(0));
                opened = true;
            } finally {
                if (!opened) {
                    interpreter.close();
                }
            }
        }

        private static TensorSpec spec(Tensor tensor) {
            DataType type = tensor.dataType();
            String dtype = type == DataType.FLOAT32 ? "float32" : type == DataType.UINT8 ? "uint8" : type.name().toLowerCase(java.util.Locale.ROOT);
            Tensor.QuantizationParams quantization = tensor.quantizationParams();
            return new TensorSpec(tensor.shape(), dtype, quantization.getScale(), quantization.getZeroPoint());
        }

        @Override
        public String name() {
            return runtime;
        }

        @Override
        public String kernels() {
            return runtime + " " + System.getProperty("os.arch");
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
            ByteBuffer in = ByteBuffer.allocateDirect(inputTensor.length).order(ByteOrder.nativeOrder());
            in.put(inputTensor);
            in.rewind();
            ByteBuffer out = ByteBuffer.allocateDirect(output.nbytes()).order(ByteOrder.nativeOrder());
            interpreter.run(in, out);
            out.rewind();
            byte[] outputTensor = new byte[output.nbytes()];
            out.get(outputTensor);
            return outputTensor;
        }

        @Override
        public void close() {
            interpreter.close();
        }
    }
}
