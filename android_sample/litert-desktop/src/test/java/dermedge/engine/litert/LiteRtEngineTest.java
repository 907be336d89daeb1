package dermedge.engine.litert;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.ai.edge.litert.CompiledModel;
import com.google.ai.edge.litert.Environment.Option;
import com.google.ai.edge.litert.Environment;
import dermedge.core.Accelerator;
import dermedge.core.EdgeException;
import dermedge.core.Engine;
import dermedge.core.Ladder;
import dermedge.core.LadderReport.Verdict;
import dermedge.core.LadderReport;
import dermedge.core.LadderStore;
import dermedge.core.ModelFile;
import dermedge.core.Rung;
import dermedge.engine.desktop.DesktopEngineFactory;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.EnumSet;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The phone's engine, its own compiled code, with the real library below LiteRT's signatures. */
class LiteRtEngineTest {
    @TempDir File folder;

    private DesktopEngineFactory desktop;
    private LiteRtEngineFactory factory;

    @BeforeEach
    void open() {
        String library = System.getProperty("dermedge.litert", "");
        assumeTrue(!library.isEmpty(), "NOT RUN: no LiteRT. Run make test-android");
        desktop = new DesktopEngineFactory(new File(library));
        CompiledModel.library = desktop;
        Environment.listed =
                EnumSet.of(
                        com.google.ai.edge.litert.Accelerator.NPU,
                        com.google.ai.edge.litert.Accelerator.GPU,
                        com.google.ai.edge.litert.Accelerator.CPU);
        Environment.open = 0;
        factory = new LiteRtEngineFactory(folder, folder);
    }

    private static ModelFile model(String path) throws IOException {
        File file = new File(path);
        return ModelFile.open(Files.readAllBytes(file.toPath()), file.getName());
    }

    private static ModelFile fixture(String dtype) throws IOException {
        return model(System.getProperty("dermedge.fixtures") + "/tiny_" + dtype + ".tflite");
    }

    @ParameterizedTest
    @ValueSource(strings = {"uint8", "int8", "float32"})
    void theCpuRungGivesTheLibrarysBytes(String dtype) throws IOException {
        ModelFile model = fixture(dtype);
        Engine phone = factory.open(model, Rung.CPU);
        Engine straight = desktop.open(model, Rung.CPU);
        byte[] input = new byte[model.input().nbytes()];
        for (int seed = 0; seed < 3; seed++) {
            new Random(seed).nextBytes(input);
            if (dtype.equals("float32")) {
                // Exponents of random bytes are NaN now and then.
                for (int i = 3; i < input.length; i += 4) {
                    input[i] = 0x3E;
                }
            }
            assertArrayEquals(straight.run(input), phone.run(input));
        }
        assertThrows(EdgeException.class, () -> phone.run(new byte[1]), "too little would leave the last photo's rest");
        phone.close();
        phone.close();
        straight.close();
        assertEquals(0, Environment.open);
    }

    @Test
    void theWholeLadderEndsOnTheCpuWithTheTruthTold() throws IOException {
        ModelFile model = model(System.getProperty("dermedge.model"));
        // Every inference takes the same time: the CPU under two names must not differ by chance.
        long[] nanos = {0};
        LadderStore store = new LadderStore(folder, "test");
        Ladder ladder = new Ladder(model, factory, store, null, () -> nanos[0] += 1_000_000);
        Ladder.Result result = ladder.climb(EnumSet.allOf(Accelerator.class));
        LadderReport report = result.report;
        assertEquals(Rung.CPU, report.used());
        assertEquals(Verdict.REFUSED, report.step(Rung.NPU_STRICT).verdict, "a set without the CPU stays strict");
        assertTrue(report.step(Rung.NPU_STRICT).reason.contains("npu, strict"), report.toString());
        assertEquals(Verdict.NO_GAIN, report.step(Rung.NPU_PARTIAL).verdict);
        assertEquals(Verdict.REFUSED, report.step(Rung.GPU).verdict);
        result.classifier.engine().close();
        assertEquals(0, Environment.open, "a rung that is left frees its environment");
    }

    @Test
    void theLibrarysListIsAskedAndAVendorsLibraryIsPointedAt() throws IOException {
        Set<Accelerator> all = EnumSet.allOf(Accelerator.class);
        assertEquals(all, factory.available());
        assertTrue(Environment.lastOptions.isEmpty(), "no vendor's library, no folder to search");
        Environment.listed = EnumSet.of(com.google.ai.edge.litert.Accelerator.CPU);
        assertEquals(EnumSet.of(Accelerator.CPU), factory.available());
        assertTrue(new File(folder, "libLiteRtDispatch_Vendor.so").createNewFile());
        factory.available();
        assertEquals(folder.getPath(), Environment.lastOptions.get(Option.DispatchLibraryDir));
        assertEquals(folder.getPath(), Environment.lastOptions.get(Option.CompilerPluginLibraryDir));
        assertEquals(0, Environment.open);
    }
}
