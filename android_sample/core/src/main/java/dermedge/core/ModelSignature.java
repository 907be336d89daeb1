package dermedge.core;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A statement of name, version and SHA-256 under an Ed25519 signature; `signature.py` in Java. */
final class ModelSignature {
    private static final int MAX_STATEMENT_BYTES = 1024;
    private static final int MAX_KEY_BYTES = 65536;
    private static final String VERSION = "[0-9]{1,9}";
    private static final Pattern STATEMENT = Pattern.compile(
            "dermedge-signature 1\nname ([^\\x00-\\x1f]{1,256})\nversion (" + VERSION + ")\nsha256 ([0-9a-f]{64})\n");
    /** The 12 bytes before every Ed25519 key are 16 characters of its PEM file, the 32 of the key 43 more. */
    private static final Pattern KEY = Pattern.compile("-----BEGIN PUBLIC KEY-----\\s+MCowBQYDK2VwAyEA"
            + "([A-Za-z0-9+/]{43})=\\s+-----END PUBLIC KEY-----\\s*");

    private ModelSignature() {}

    /**
     * Refuses a file that is not signed as wanted, without parsing it.
     *
     * @return the model's name in the statement; null for the older form, a signature of the bytes alone
     */
    static String verify(byte[] data, byte[] content, byte[] pem, String minVersion, String where) {
        int colon = minVersion == null ? -1 : minVersion.lastIndexOf(':');
        String wanted = colon < 0 ? "" : minVersion.substring(0, colon);
        if (minVersion != null && !minVersion.substring(colon + 1).matches(VERSION)) {
            throw new EdgeException(EdgeException.Code.USAGE, "invalid version", minVersion, "N or NAME:N", "");
        }
        byte[] key = key(pem);
        int length = content.length - Ed25519.SIGNATURE_BYTES;
        if (length < 0 || length > MAX_STATEMENT_BYTES) {
            throw unsigned(where, "a signature of " + content.length + " bytes");
        }
        byte[] statement = Arrays.copyOf(content, length);
        if (!Ed25519.verify(key, length == 0 ? data : statement, Arrays.copyOfRange(content, length, content.length))) {
            throw unsigned(where, "a signature that does not fit this file and this key");
        }
        if (length == 0) {
            if (minVersion != null) {
                throw unsigned(where, "a signature of the model's bytes alone, without a version");
            }
            return null;
        }
        Matcher fields = STATEMENT.matcher(new String(statement, StandardCharsets.ISO_8859_1));
        if (!fields.matches()) {
            throw unsigned(where, "a statement of another form");
        }
        if (!fields.group(3).equals(Bytes.sha256(data))) {
            throw unsigned(where, "a signature of another file");
        }
        String name = new String(fields.group(1).getBytes(StandardCharsets.ISO_8859_1), StandardCharsets.UTF_8);
        if (!wanted.isEmpty() && !name.equals(wanted)) {
            throw unsigned(where, "a signature of the model " + name + ", not " + wanted);
        }
        if (minVersion != null
                && Integer.parseInt(fields.group(2)) < Integer.parseInt(minVersion.substring(colon + 1))) {
            throw new EdgeException(
                    EdgeException.Code.MODEL_OUTDATED,
                    where + ": the model is older than required",
                    "version " + fields.group(2),
                    "version " + minVersion.substring(colon + 1) + " or newer",
                    "get the newest model");
        }
        return name;
    }

    static EdgeException unsigned(String where, String found) {
        return new EdgeException(
                EdgeException.Code.MODEL_UNSIGNED,
                where + ": the model is not signed with the required key",
                found,
                "its Ed25519 signature",
                "get model and signature again from where the key is from");
    }

    private static byte[] key(byte[] pem) {
        String text = pem.length > MAX_KEY_BYTES ? "" : new String(pem, StandardCharsets.ISO_8859_1);
        Matcher found = KEY.matcher(text);
        if (!found.matches()) {
            String expected = "an Ed25519 public key in PEM form";
            throw new EdgeException(
                    EdgeException.Code.USAGE, "the key cannot be used", pem.length + " bytes", expected, "");
        }
        byte[] key = new byte[Ed25519.KEY_BYTES];
        for (int i = 0; i < key.length; i++) {
            int at = i * 8 / 6;
            int bits = Bytes.sextet(found.group(1), at) << 6 | Bytes.sextet(found.group(1), at + 1);
            key[i] = (byte) (bits >> 4 - i * 8 % 6);
        }
        return key;
    }
}
