package dermedge.engine.desktop;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dermedge.core.Accelerator;
import dermedge.core.Engine;
import dermedge.core.Ladder;
import dermedge.core.LadderReport;
import dermedge.core.LadderReport.Verdict;
import dermedge.core.LadderStore;
import dermedge.core.ModelFile;
import dermedge.core.Rung;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.EnumSet;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The real library on a machine without GPU and NPU: the very place where it silently takes the CPU instead. */
class RealLadderTest {
    @TempDir File folder;

    private DesktopEngineFactory factory;
    private ModelFile model;

    @BeforeEach
    void open() throws IOException {
        String library = System.getProperty("dermedge.litert", "");
        assumeTrue(!library.isEmpty(), "NOT RUN: no LiteRT. Run make test-android");
        factory = new DesktopEngineFactory(new File(library));
        File file = new File(System.getProperty("dermedge.model"));
        model = ModelFile.open(Files.readAllBytes(file.toPath()), file.getName());
    }

    /** Bits: 1 CPU, 2 GPU, 4 NPU. Every request ends on the CPU, and the report says why. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4, 5, 6, 7})
    void everyRequestEndsOnTheCpuWithTheTruthTold(int request) {
        Set<Accelerator> requested = EnumSet.noneOf(Accelerator.class);
        for (Accelerator accelerator : Accelerator.values()) {
            if ((request >> 2 - accelerator.ordinal() & 1) == 1) {
                requested.add(accelerator);
            }
        }
        // A clock by which every inference takes the same time: whether the CPU under two names differs by chance is
        // not the question.
        long[] nanos = {0};
        LadderStore store = new LadderStore(folder, "test");
        Ladder.Result result = new Ladder(model, factory, store, null, () -> nanos[0] += 1_000_000).climb(requested);
        LadderReport report = result.report;
        result.classifier.engine().close();
        assertEquals(Rung.CPU, report.used());
        boolean npu = requested.contains(Accelerator.NPU);
        boolean gpu = requested.contains(Accelerator.GPU);
        assertEquals(npu ? Verdict.REFUSED : Verdict.NOT_REQUESTED, report.step(Rung.NPU_STRICT).verdict);
        assertEquals(npu ? Verdict.NO_GAIN : Verdict.NOT_REQUESTED, report.step(Rung.NPU_PARTIAL).verdict);
        assertEquals(gpu ? Verdict.REFUSED : Verdict.NOT_REQUESTED, report.step(Rung.GPU).verdict);
        if (npu) {
            String reason = report.step(Rung.NPU_PARTIAL).reason;
            assertTrue(reason.contains("probably it is the CPU") && reason.contains("CPU's bit for bit"), reason);
            assertTrue(report.step(Rung.NPU_STRICT).reason.contains("status 504"), report.toString());
        }
    }

    /** What the ladder is for: the library opens "NPU" without an NPU and answers with the CPU's bits. */
    @Test
    void askedForTheNpuTheLibrarySilentlyTakesTheCpu() {
        Engine partial = factory.open(model, Rung.NPU_PARTIAL);
        Engine cpu = factory.open(model, Rung.CPU);
        byte[] input = new byte[cpu.input().nbytes()];
        assertArrayEquals(cpu.run(input), partial.run(input));
        partial.close();
        cpu.close();
        cpu.close();
    }
}
