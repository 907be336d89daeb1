package dermedge.core;

import java.math.BigInteger;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/**
 * Verifies Ed25519 signatures, RFC 8032, section 5.1.7. Android has no provider for them before API 33. All that it
 * handles is public, so its time need not be constant.
 */
final class Ed25519 {
    static final int KEY_BYTES = 32;
    static final int SIGNATURE_BYTES = 64;
    private static final BigInteger ONE = BigInteger.ONE;
    private static final BigInteger TWO = BigInteger.valueOf(2);
    private static final BigInteger P = ONE.shiftLeft(255).subtract(BigInteger.valueOf(19));
    private static final BigInteger ORDER =
            ONE.shiftLeft(252).add(new BigInteger("27742317777372353535851937790883648493"));
    /** Without a negative constant: enjarify, by which the shipped bytes are tested, reads one as unsigned. */
    private static final BigInteger D =
            BigInteger.valueOf(121665).negate().multiply(BigInteger.valueOf(121666).modInverse(P)).mod(P);
    private static final BigInteger ROOT_OF_MINUS_ONE = TWO.modPow(P.shiftRight(2), P);
    private static final BigInteger[] ZERO = {BigInteger.ZERO, ONE, ONE, BigInteger.ZERO};
    private static final BigInteger[] BASE =
            point(BigInteger.valueOf(4).multiply(BigInteger.valueOf(5).modInverse(P)).mod(P), false);

    private Ed25519() {}

    static boolean verify(byte[] key, byte[] message, byte[] signature) {
        if (key.length != KEY_BYTES || signature.length != SIGNATURE_BYTES) {
            return false;
        }
        BigInteger y = number(key, 0, KEY_BYTES);
        BigInteger[] publicPoint = point(y.clearBit(255), y.testBit(255));
        BigInteger s = number(signature, KEY_BYTES, KEY_BYTES);
        if (publicPoint == null || s.compareTo(ORDER) >= 0) {
            return false;
        }
        BigInteger hash = number(sha512(signature, key, message), 0, 64).mod(ORDER);
        BigInteger[] minus = {publicPoint[0].negate(), publicPoint[1], ONE, publicPoint[3].negate()};
        BigInteger[] sum = ZERO;
        for (int bit = 255; bit >= 0; bit--) {
            sum = add(sum, sum);
            sum = s.testBit(bit) ? add(sum, BASE) : sum;
            sum = hash.testBit(bit) ? add(sum, minus) : sum;
        }
        BigInteger inverse = sum[2].modInverse(P);
        BigInteger found = sum[1].multiply(inverse).mod(P);
        if (sum[0].multiply(inverse).mod(P).testBit(0)) {
            found = found.setBit(255);
        }
        return found.equals(number(signature, 0, KEY_BYTES));
    }

    /** The point of the curve with this y, in extended coordinates; null when there is none. */
    private static BigInteger[] point(BigInteger y, boolean oddX) {
        BigInteger square = y.multiply(y);
        BigInteger wanted = square.subtract(ONE).multiply(D.multiply(square).add(ONE).modInverse(P)).mod(P);
        BigInteger x = wanted.modPow(P.add(BigInteger.valueOf(3)).shiftRight(3), P);
        if (!x.multiply(x).mod(P).equals(wanted)) {
            x = x.multiply(ROOT_OF_MINUS_ONE).mod(P);
        }
        if (!x.multiply(x).mod(P).equals(wanted) || (x.signum() == 0 && oddX)) {
            return null;
        }
        x = x.testBit(0) == oddX ? x : P.subtract(x);
        return new BigInteger[] {x, y, ONE, x.multiply(y).mod(P)};
    }

    /** The sum of two points, also of one with itself. */
    private static BigInteger[] add(BigInteger[] p, BigInteger[] q) {
        BigInteger a = p[1].subtract(p[0]).multiply(q[1].subtract(q[0]));
        BigInteger b = p[1].add(p[0]).multiply(q[1].add(q[0]));
        BigInteger c = p[3].multiply(TWO).multiply(D).mod(P).multiply(q[3]);
        BigInteger d = p[2].multiply(TWO).multiply(q[2]);
        BigInteger e = b.subtract(a).mod(P);
        BigInteger f = d.subtract(c).mod(P);
        BigInteger g = d.add(c).mod(P);
        BigInteger h = b.add(a).mod(P);
        return new BigInteger[] {
            e.multiply(f).mod(P), g.multiply(h).mod(P), f.multiply(g).mod(P), e.multiply(h).mod(P)
        };
    }

    private static byte[] sha512(byte[] signature, byte[] key, byte[] message) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-512");
            digest.update(signature, 0, KEY_BYTES);
            digest.update(key);
            return digest.digest(message);
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java platform has SHA-512", error);
        }
    }

    /** A number whose first byte is the lowest. */
    private static BigInteger number(byte[] data, int first, int length) {
        byte[] turned = new byte[length];
        for (int i = 0; i < length; i++) {
            turned[i] = data[first + length - 1 - i];
        }
        return new BigInteger(1, turned);
    }
}
