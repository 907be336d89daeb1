package dermedge.engine.classic;

import dermedge.core.Classifier;
import dermedge.core.Engine;
import dermedge.core.Json;
import dermedge.core.ModelFile;
import dermedge.core.Photo;
import dermedge.core.Rung;
import dermedge.core.SelfCheck;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.Map;

/**
 * The classic engine in a JVM, for `tests/android/test_android_classic.py`: its self check, then one JSON line for each
 * PNG of a folder.
 *
 * <pre>ClassicAnswers MODEL FOLDER</pre>
 */
public final class ClassicAnswers {
    private ClassicAnswers() {}

    public static void main(String[] arguments) throws IOException {
        File file = new File(arguments[0]);
        ModelFile model = ModelFile.open(Files.readAllBytes(file.toPath()), file.getName());
        Engine engine = new ClassicEngineFactory().open(model, Rung.CPU);
        Classifier classifier = new Classifier(model, engine, (Photo.PlatformDecoder) null);
        System.out.println(Json.write(SelfCheck.run(classifier).toString()));
        File[] photos = new File(arguments[1]).listFiles();
        Arrays.sort(photos);
        for (File photo : photos) {
            Map<String, Object> line =
                    classifier.classify(Files.readAllBytes(photo.toPath()), photo.getName()).toMap();
            line.put("engine", engine.name());
            System.out.println(Json.write(line));
        }
        engine.close();
    }
}
