package dermedge.core;

import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.Deflater;

/**
 * What every stage made of one photo, in the format of `parity.py`: a trace written on a phone is compared on a desktop
 * with `python -m edge_runtime.diagnostics.parity compare`.
 */
public final class ParityTrace {
    static final long VERSION = 1;
    private static final int GRID = 8;

    private ParityTrace() {}

    /**
     * Runs one photo and writes down every stage: decoded, cropped, resized, input_tensor, raw_output, scores.
     *
     * @param version this app's, for the trace's `runtime`
     */
    public static Map<String, Object> trace(Classifier classifier, byte[] photo, String name, String version) {
        Preprocess preprocess = classifier.preprocess();
        Contract contract = classifier.model().contract();
        RgbImage decoded = preprocess.decodeRgb(photo, name);
        RgbImage cropped = preprocess.crop(decoded);
        RgbImage resized = preprocess.resize(cropped);
        byte[] inputTensor = classifier.inputTensor(resized.rgb);
        byte[] rawOutput = classifier.engine().run(inputTensor);
        TensorSpec source = classifier.engine().input();
        TensorSpec sink = classifier.engine().output();

        Map<String, Object> pixels = new LinkedHashMap<String, Object>();
        pixels.put("size", size(resized));
        pixels.put("dtype", "uint8");
        pixels.put("scale", 0.0);
        pack(pixels, resized.rgb);
        Map<String, Object> input = tensor(source);
        pack(input, inputTensor);
        Map<String, Object> output = tensor(sink);
        output.put("values", list(sink.rawValues(rawOutput)));
        Map<String, Object> scores = new LinkedHashMap<String, Object>();
        scores.put("dtype", sink.dtype());
        scores.put("codes", contract.codes());
        scores.put("values", list(Scores.scoresFrom(rawOutput, sink)));

        Map<String, Object> stages = new LinkedHashMap<String, Object>();
        stages.put("decoded", picture(decoded));
        stages.put("cropped", picture(cropped));
        stages.put("resized", pixels);
        stages.put("input_tensor", input);
        stages.put("raw_output", output);
        stages.put("scores", scores);

        Map<String, Object> trace = new LinkedHashMap<String, Object>();
        trace.put("trace_version", VERSION);
        trace.put("photo", pair("name", name, "sha256", Bytes.sha256(photo)));
        trace.put("model", pair("id", contract.modelId, "sha256", classifier.model().sha256()));
        Map<String, Object> runtime =
                pair("engine", classifier.engine().name(), "kernels", classifier.engine().kernels());
        runtime.put("dermedge", version);
        trace.put("runtime", runtime);
        trace.put("stages", stages);
        return trace;
    }

    private static Map<String, Object> tensor(TensorSpec spec) {
        Map<String, Object> stage = new LinkedHashMap<String, Object>();
        List<Integer> size = new ArrayList<Integer>();
        for (int side : spec.shape()) {
            size.add(side);
        }
        stage.put("size", size);
        stage.put("dtype", spec.dtype());
        stage.put("scale", spec.scale());
        stage.put("zero_point", spec.zeroPoint());
        return stage;
    }

    private static Map<String, Object> picture(RgbImage image) {
        Map<String, Object> stage = new LinkedHashMap<String, Object>();
        stage.put("size", size(image));
        stage.put("sha256", Bytes.sha256(image.rgb));
        List<Integer> grid = new ArrayList<Integer>();
        for (byte mean : PillowResize.resize(image, GRID, GRID, PillowResize.Filter.BOX).rgb) {
            grid.add(mean & 0xFF);
        }
        stage.put("grid", grid);
        return stage;
    }

    private static List<Integer> size(RgbImage image) {
        List<Integer> size = new ArrayList<Integer>();
        size.add(image.heightPx);
        size.add(image.widthPx);
        return size;
    }

    private static void pack(Map<String, Object> stage, byte[] data) {
        stage.put("sha256", Bytes.sha256(data));
        Deflater deflater = new Deflater();
        deflater.setInput(data);
        deflater.finish();
        ByteArrayOutputStream deflated = new ByteArrayOutputStream();
        byte[] part = new byte[8192];
        while (!deflater.finished()) {
            deflated.write(part, 0, deflater.deflate(part));
        }
        deflater.end();
        stage.put("deflated", Bytes.base64(deflated.toByteArray()));
    }

    private static List<Double> list(double[] values) {
        List<Double> list = new ArrayList<Double>();
        for (double value : values) {
            list.add(value);
        }
        return list;
    }

    private static Map<String, Object> pair(String key, String value, String otherKey, String otherValue) {
        Map<String, Object> pair = new LinkedHashMap<String, Object>();
        pair.put(key, value);
        pair.put(otherKey, otherValue);
        return pair;
    }
}
