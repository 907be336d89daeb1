package dermedge.core;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** Little-endian reading, hashes and base64: Android has java.util.Base64 only since API 26. */
final class Bytes {
    private static final String BASE64 =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    private Bytes() {}

    static int u16(byte[] data, int at) {
        return data[at] & 0xFF | (data[at + 1] & 0xFF) << 8;
    }

    static int i32(byte[] data, int at) {
        return u16(data, at) | u16(data, at + 2) << 16;
    }

    static long u32(byte[] data, int at) {
        return i32(data, at) & 0xFFFFFFFFL;
    }

    static boolean startsWith(byte[] data, int at, String latin) {
        if (at < 0 || at + latin.length() > data.length) {
            return false;
        }
        for (int i = 0; i < latin.length(); i++) {
            if ((data[at + i] & 0xFF) != latin.charAt(i)) {
                return false;
            }
        }
        return true;
    }

    static String sha256(byte[] data) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(data);
            StringBuilder hex = new StringBuilder();
            for (byte b : digest) {
                hex.append(Character.forDigit(b >> 4 & 0xF, 16)).append(Character.forDigit(b & 0xF, 16));
            }
            return hex.toString();
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java platform has SHA-256", error);
        }
    }

    /** The value of a base64 digit; 0 beyond the end. */
    static int sextet(String text, int at) {
        return at < text.length() ? BASE64.indexOf(text.charAt(at)) : 0;
    }

    static String base64(byte[] data) {
        StringBuilder out = new StringBuilder((data.length + 2) / 3 * 4);
        for (int i = 0; i < data.length; i += 3) {
            int left = Math.min(3, data.length - i);
            int bits = (data[i] & 0xFF) << 16;
            bits |= left > 1 ? (data[i + 1] & 0xFF) << 8 : 0;
            bits |= left > 2 ? data[i + 2] & 0xFF : 0;
            for (int sextet = 0; sextet < 4; sextet++) {
                out.append(sextet > left ? '=' : BASE64.charAt(bits >> 18 - 6 * sextet & 0x3F));
            }
        }
        return out.toString();
    }
}
