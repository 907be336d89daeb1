package dermedge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PublicKey;
import java.security.Signature;
import java.util.Arrays;
import java.util.Base64;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ModelSignatureTest {
    /** RFC 8032, section 7.1: tests 1 to 3. */
    @ParameterizedTest
    @CsvSource({
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a, '', "
                + "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c, 72, "
                + "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025, af82, "
                + "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    })
    void theVectorsOfTheStandardVerify(String key, String message, String signature) {
        assertTrue(Ed25519.verify(hex(key), hex(message), hex(signature)));
        assertFalse(Ed25519.verify(hex(key), hex(message + "00"), hex(signature)));
        byte[] large = hex(signature);
        // The same number modulo the group's order, which a verifier must not take.
        BigInteger order = BigInteger.ONE.shiftLeft(252).add(new BigInteger("27742317777372353535851937790883648493"));
        byte[] s = reversed(Arrays.copyOfRange(large, 32, 64));
        byte[] more = new BigInteger(1, s).add(order).toByteArray();
        Arrays.fill(large, 32, 64, (byte) 0);
        for (int i = 0; i < more.length; i++) {
            large[32 + i] = more[more.length - 1 - i];
        }
        assertFalse(Ed25519.verify(hex(key), hex(message), large));
    }

    @Test
    void theJavaPlatformAgrees() throws GeneralSecurityException {
        Random chance = new Random(20261130);
        KeyPair pair = KeyPairGenerator.getInstance("Ed25519").generateKeyPair();
        byte[] key = raw(pair.getPublic());
        int accepted = 0;
        for (int i = 0; i < 300; i++) {
            byte[] message = new byte[chance.nextInt(100)];
            chance.nextBytes(message);
            byte[] signature = signed(pair, message);
            if (i % 3 > 0) {
                signature[chance.nextInt(64)] ^= (byte) (1 << chance.nextInt(8));
            }
            boolean expected = false;
            try {
                Signature verifier = Signature.getInstance("Ed25519");
                verifier.initVerify(pair.getPublic());
                verifier.update(message);
                expected = verifier.verify(signature);
            } catch (GeneralSecurityException error) {
                // Not a point, or too large a number.
            }
            assertEquals(expected, Ed25519.verify(key, message, signature));
            accepted += expected ? 1 : 0;
        }
        assertEquals(100, accepted);
    }

    @Test
    void aSignedModelOpensAndOthersAreRefused() throws Exception {
        KeyPair pair = KeyPairGenerator.getInstance("Ed25519").generateKeyPair();
        byte[] pem = pem(pair.getPublic());
        byte[] model = TestModels.bytes("tiny_uint8.tflite");
        byte[] statement = statement(pair, model, "tiny_uint8", "3");
        for (String oldest : new String[] {null, "3", "0", "tiny_uint8:3"}) {
            assertEquals("tiny_uint8", open(model, statement, pem, oldest).contract().modelId());
        }
        open(model, signed(pair, model), pem, null);
        assertCode(EdgeException.Code.MODEL_OUTDATED, model, statement, pem, "4");
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, statement, pem, "other:3");
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, statement(pair, model, "other", "3"), pem, null);
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, statement(pair, model, "tiny_uint8\nname x", "3"), pem, null);
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, statement(pair, new byte[5], "tiny_uint8", "3"), pem, null);
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, signed(pair, model), pem, "0");
        assertCode(EdgeException.Code.MODEL_UNSIGNED, "not a model".getBytes(), statement, pem, null);
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, new byte[0], pem, null);
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, new byte[100000], pem, null);
        assertCode(EdgeException.Code.USAGE, model, statement, new byte[100000], null);
        assertCode(EdgeException.Code.USAGE, model, statement, pem, "1.2");
        KeyPair other = KeyPairGenerator.getInstance("Ed25519").generateKeyPair();
        assertCode(EdgeException.Code.MODEL_UNSIGNED, model, statement, pem(other.getPublic()), null);
        KeyPair rsa = KeyPairGenerator.getInstance("RSA").generateKeyPair();
        assertCode(EdgeException.Code.USAGE, model, statement, pem(rsa.getPublic()), null);
    }

    @Test
    void textsOfAFileAreEscapedInMessages() {
        EdgeException error = new EdgeException(EdgeException.Code.USAGE, "a\nb", "\u001b[2J\ud800\u202e", "\ud55c", "");
        assertEquals("a\\x0ab (got \\x1b[2J\\ud800\\u202e, expected \ud55c).", error.getMessage());
    }

    private static ModelFile open(byte[] model, byte[] signature, byte[] pem, String oldest) {
        return ModelFile.openSigned(model, signature, pem, oldest, "model");
    }

    private static void assertCode(
            EdgeException.Code code, byte[] model, byte[] signature, byte[] pem, String oldest) {
        assertEquals(code, assertThrows(EdgeException.class, () -> open(model, signature, pem, oldest)).code());
    }

    private static byte[] statement(KeyPair pair, byte[] model, String name, String version) throws Exception {
        String text = "dermedge-signature 1\nname " + name + "\nversion " + version + "\nsha256 " + Bytes.sha256(model) + "\n";
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(text.getBytes(StandardCharsets.UTF_8));
        out.write(signed(pair, text.getBytes(StandardCharsets.UTF_8)));
        return out.toByteArray();
    }

    private static byte[] signed(KeyPair pair, byte[] message) throws GeneralSecurityException {
        Signature signer = Signature.getInstance("Ed25519");
        signer.initSign(pair.getPrivate());
        signer.update(message);
        return signer.sign();
    }

    private static byte[] raw(PublicKey key) {
        byte[] encoded = key.getEncoded();
        return Arrays.copyOfRange(encoded, encoded.length - 32, encoded.length);
    }

    private static byte[] pem(PublicKey key) {
        String base64 = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key.getEncoded());
        return ("-----BEGIN PUBLIC KEY-----\n" + base64 + "\n-----END PUBLIC KEY-----\n").getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] hex(String text) {
        byte[] data = new byte[text.length() / 2];
        for (int i = 0; i < data.length; i++) {
            data[i] = (byte) Integer.parseInt(text.substring(2 * i, 2 * i + 2), 16);
        }
        return data;
    }

    private static byte[] reversed(byte[] data) {
        byte[] turned = new byte[data.length];
        for (int i = 0; i < data.length; i++) {
            turned[i] = data[data.length - 1 - i];
        }
        return turned;
    }
}
