package dermedge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ModelFileTest {
    @ParameterizedTest
    @CsvSource({"tiny_uint8.tflite, uint8", "tiny_int8.tflite, int8", "tiny_float32.tflite, float32"})
    void theContractComesOutOfTheModelItself(String name, String dtype) {
        ModelFile model = ModelFile.open(TestModels.bytes(name), name);
        assertEquals(dtype, model.input().dtype());
        Contract contract = model.contract();
        assertEquals(contract.labels().size(), model.output().shape()[1]);
        assertEquals(contract.heightPx(), model.input().shape()[1]);
        assertTrue(contract.intendedUse().length() > 0);
    }

    /** The bundled model, or the one inside an APK, whoever made it: its golden pictures give the pixels that it names. */
    @Test
    void theNamedModelOpensAndItsGoldenPicturesAreItsOwn() throws IOException {
        String path = System.getProperty("dermedge.model", "");
        assumeTrue(!path.isEmpty(), "NOT RUN: no model. Run make test-android");
        ModelFile model = ModelFile.open(Files.readAllBytes(new File(path).toPath()), path);
        Preprocess preprocess = new Preprocess(model.contract(), null);
        assertTrue(model.contract().golden().size() > 0);
        for (Contract.GoldenVector golden : model.contract().golden()) {
            byte[] pixels = preprocess.fitPixels(model.readEntry(golden.image), golden.image);
            assertEquals(golden.pixelsSha256, Bytes.sha256(pixels), golden.image);
        }
    }

    @Test
    void everyCutIsRefusedAndNothingElseIsThrown() {
        byte[] whole = TestModels.bytes("tiny_uint8.tflite");
        for (int length = 0; length < whole.length; length += 61) {
            byte[] cut = Arrays.copyOf(whole, length);
            assertThrows(EdgeException.class, () -> ModelFile.open(cut, "cut"), "cut at " + length);
        }
    }

    @Test
    void aFlippedByteIsRefusedOrHarmless() {
        byte[] whole = TestModels.bytes("tiny_uint8.tflite");
        int refused = 0;
        for (int at = 0; at < whole.length; at += 37) {
            byte[] flipped = whole.clone();
            flipped[at] ^= 0x5A;
            try {
                ModelFile.open(flipped, "flipped");
            } catch (EdgeException error) {
                refused++;
            }
        }
        assertTrue(refused > 20, "refused " + refused);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "\"schema_version\": 1 | \"schema_version\": 2 | CONTRACT_TOO_NEW",
                "\"filter\": \"bilinear\" | \"filter\": \"lanczos\" | CONTRACT_INVALID",
                "\"crop_fraction\" | \"crop_part\" | CONTRACT_INVALID",
                "\"std\": | \"std\": 0.0, \"x\": | CONTRACT_INVALID",
                "\"model_id\" | \"model_id\": \"a\", \"model_id\" | CONTRACT_INVALID",
            })
    void aBrokenContractIsRefused(String from, String to, EdgeException.Code code) {
        byte[] data = TestModels.bytes("tiny_uint8.tflite");
        String text = new String(new ZipTail(data, "t").read(Contract.ENTRY), StandardCharsets.UTF_8);
        assertTrue(text.contains(from), from);
        String broken = text.replace(from, to);
        EdgeException error = assertThrows(EdgeException.class, () -> ContractReader.read(broken, "t"));
        assertEquals(code, error.code());
    }

    @Test
    void allProblemsOfAContractAreReportedTogether() {
        byte[] data = TestModels.bytes("tiny_uint8.tflite");
        String text = new String(new ZipTail(data, "t").read(Contract.ENTRY), StandardCharsets.UTF_8);
        String broken = text.replace("\"crop_fraction\"", "\"crop_part\"").replace("\"mean\"", "\"average\"");
        EdgeException error = assertThrows(EdgeException.class, () -> ContractReader.read(broken, "t"));
        assertTrue(error.getMessage().contains("geometry.crop_fraction is missing"), error.getMessage());
        assertTrue(error.getMessage().contains("normalization.average is unknown"), error.getMessage());
    }

    @Test
    void jsonIsStrictBothWays() throws Json.Malformed {
        for (String bad : new String[] {"", "{", "[1,]", "01", "NaN", "{\"a\":1,\"a\":2}", "\"\u0001\"", "1 2", "tru"}) {
            assertThrows(Json.Malformed.class, () -> Json.parse(bad), bad);
        }
        Map<?, ?> parsed = (Map<?, ?>) Json.parse("{\"a\": [1, -2.5e1, \"\\u00e9\\n\"], \"b\": null}");
        assertEquals("{\"a\": [1, -25.0, \"\\u00e9\\u000a\"], \"b\": null}", Json.write(parsed));
    }

    @ParameterizedTest
    @CsvSource({"0.4964, 0.4964", "0.5, 0.5", "1e-05, 1e-05", "1000000, 1e+06", "0.12345678, 0.123457", "0, 0"})
    void numbersAreWrittenAsPythonWritesThem(double value, String expected) {
        assertEquals(expected, Json.general(value));
    }
}
