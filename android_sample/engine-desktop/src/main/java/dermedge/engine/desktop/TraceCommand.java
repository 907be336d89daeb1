package dermedge.engine.desktop;

import dermedge.core.Classifier;
import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.Json;
import dermedge.core.ModelFile;
import dermedge.core.ParityTrace;
import dermedge.core.Preprocess;
import dermedge.core.Rung;
import dermedge.core.SelfCheck;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Classifies and traces every PNG of a folder: one JSON line a photo, for the Python side of the parity test.
 *
 * <pre>TraceCommand LIBRARY MODEL FOLDER MISTAKE</pre>
 */
public final class TraceCommand {
    private TraceCommand() {}

    /** MISTAKE is none, crop, filter, rounding or labels. */
    public static void main(String[] arguments) throws IOException {
        ModelFile model = ModelFile.open(Files.readAllBytes(new File(arguments[1]).toPath()), arguments[1]);
        Engine engine = new DesktopEngineFactory(new File(arguments[0])).open(model, Rung.CPU);
        Preprocess preprocess = Tampered.of(arguments[3], model.contract());
        Classifier classifier = new Classifier(model, engine, preprocess);
        if (!model.contract().golden().isEmpty()) {
            Preprocess exact = Tampered.of("none", model.contract());
            System.err.println(SelfCheck.run(new Classifier(model, engine, exact)));
        }
        String[] names = new File(arguments[2]).list();
        Arrays.sort(names);
        for (String name : names) {
            System.out.println(Json.write(line(classifier, new File(arguments[2], name), arguments[3])));
        }
        engine.close();
    }

    private static Map<String, Object> line(Classifier classifier, File file, String mistake) throws IOException {
        byte[] photo = Files.readAllBytes(file.toPath());
        Map<String, Object> line = new LinkedHashMap<String, Object>();
        line.put("photo", file.getName());
        try {
            line.put("prediction", classifier.classify(photo, file.getName()).toMap());
            Map<String, Object> trace = ParityTrace.trace(classifier, photo, file.getName(), "0.2.0");
            if (mistake.equals("labels")) {
                Map<?, ?> stages = (Map<?, ?>) trace.get("stages");
                Collections.reverse((List<?>) ((Map<?, ?>) stages.get("scores")).get("codes"));
            }
            line.put("trace", trace);
        } catch (EdgeException error) {
            line.put("error", error.code().toString());
            line.put("message", error.getMessage());
        }
        return line;
    }
}
