package dermedge.core;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The main path; `classifier.py` in Java. Read this file first.
 *
 * <pre>photo -> decode -> crop -> resize -> input tensor -> inference -> scores -> decision</pre>
 *
 * Not thread-safe: one classifier a thread.
 */
public final class Classifier {
    private final ModelFile model;
    private final Engine engine;
    private final Preprocess preprocess;

    /** An engine that runs this model, and a decoder for JPEG, WebP and BMP (null: PNG only). */
    public Classifier(ModelFile model, Engine engine, Photo.PlatformDecoder decoder) {
        this(model, engine, new Preprocess(model.contract(), decoder));
    }

    /** With steps of one's own: for the tests of the parity harness. */
    public Classifier(ModelFile model, Engine engine, Preprocess preprocess) {
        TensorSpec.check(model.contract(), engine.input(), engine.output(), model.name());
        this.model = model;
        this.engine = engine;
        this.preprocess = preprocess;
    }

    public ModelFile model() {
        return model;
    }

    public Engine engine() {
        return engine;
    }

    public Preprocess preprocess() {
        return preprocess;
    }

    /** Classifies one photo; `name` stands for it in the answer and in errors. */
    public Prediction classify(byte[] photo, String name) {
        Stopwatch watch = new Stopwatch();
        RgbImage image = preprocess.decodeRgb(photo, name);
        Suitability.requireSize(image, model.contract(), name);
        watch.lap("decode");
        image = preprocess.crop(image);
        watch.lap("crop");
        RgbImage resized = preprocess.resize(image);
        Suitability.requireContents(resized, name);
        byte[] pixelsU8 = resized.rgb;
        watch.lap("resize");
        byte[] inputTensor = inputTensor(pixelsU8);
        watch.lap("input");
        byte[] rawOutput = engine.run(inputTensor);
        watch.lap("inference");
        return new Prediction(
                name, model.contract(), Scores.scoresFrom(rawOutput, engine.output()), watch.result());
    }

    /** The bytes of the input tensor, from heightPx * widthPx * 3 RGB bytes. */
    public byte[] inputTensor(byte[] pixelsU8) {
        return preprocess.inputBytes(pixelsU8, engine.input());
    }

    /** Milliseconds between laps. */
    private static final class Stopwatch {
        private final long start = System.nanoTime();
        private final Map<String, Double> laps = new LinkedHashMap<String, Double>();
        private long last = start;

        void lap(String stage) {
            long now = System.nanoTime();
            laps.put(stage, milliseconds(last, now));
            last = now;
        }

        Map<String, Double> result() {
            laps.put("total", milliseconds(start, System.nanoTime()));
            return laps;
        }

        private static double milliseconds(long from, long to) {
            return Math.round((to - from) / 1e3) / 1e3;
        }
    }
}
