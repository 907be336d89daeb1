package dermedge.core;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Strict JSON in and out, because a contract must be read alike everywhere. Objects become LinkedHashMap, arrays
 * ArrayList, whole numbers Long (or BigInteger beyond it), others Double. A key that stands twice is refused: another
 * reader might take the other one.
 */
public final class Json {
    private static final int MAX_DEPTH = 100;

    /** The text is not JSON. */
    public static final class Malformed extends Exception {
        private static final long serialVersionUID = 1L;

        Malformed(String message) {
            super(message);
        }
    }

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** Parses one document. */
    public static Object parse(String text) throws Malformed {
        Json json = new Json(text);
        Object value = json.value(0);
        json.space();
        if (json.at != text.length()) {
            throw json.malformed("extra text");
        }
        return value;
    }

    private Object value(int depth) throws Malformed {
        if (depth > MAX_DEPTH) {
            throw malformed("nested too deeply");
        }
        space();
        if (at >= text.length()) {
            throw malformed("the text ends");
        }
        char next = text.charAt(at);
        switch (next) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Map<String, Object> object(int depth) throws Malformed {
        Map<String, Object> object = new LinkedHashMap<String, Object>();
        at++;
        if (take('}')) {
            return object;
        }
        do {
            space();
            if (at >= text.length() || text.charAt(at) != '"') {
                throw malformed("a key was expected");
            }
            String key = string();
            need(':');
            if (object.containsKey(key)) {
                throw malformed("duplicate key '" + key + "'");
            }
            object.put(key, value(depth + 1));
        } while (take(','));
        need('}');
        return object;
    }

    private List<Object> array(int depth) throws Malformed {
        List<Object> array = new ArrayList<Object>();
        at++;
        if (take(']')) {
            return array;
        }
        do {
            array.add(value(depth + 1));
        } while (take(','));
        need(']');
        return array;
    }

    private String string() throws Malformed {
        StringBuilder string = new StringBuilder();
        at++;
        while (at < text.length()) {
            char next = text.charAt(at++);
            if (next == '"') {
                return string.toString();
            }
            if (next < ' ') {
                throw malformed("a control character in a string");
            }
            string.append(next == '\\' ? escaped() : next);
        }
        throw malformed("a string does not end");
    }

    private char escaped() throws Malformed {
        char kind = at < text.length() ? text.charAt(at++) : ' ';
        int index = "\"\\/bfnrt".indexOf(kind);
        if (index >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(index);
        }
        if (kind != 'u' || at + 4 > text.length()) {
            throw malformed("an unknown escape");
        }
        int code = 0;
        for (int end = at + 4; at < end; at++) {
            int digit = Character.digit(text.charAt(at), 16);
            if (digit < 0 || text.charAt(at) > 'f') {
                throw malformed("an unknown escape");
            }
            code = code * 16 + digit;
        }
        return (char) code;
    }

    private Object number() throws Malformed {
        int start = at;
        boolean whole = true;
        take0('-');
        int first = at;
        digits();
        if (at - first > 1 && text.charAt(first) == '0') {
            throw malformed("a number with a leading zero");
        }
        if (take0('.')) {
            whole = false;
            digits();
        }
        if (take0('e') || take0('E')) {
            whole = false;
            if (!take0('+')) {
                take0('-');
            }
            digits();
        }
        String number = text.substring(start, at);
        if (!whole) {
            return Double.valueOf(number);
        }
        BigInteger integer = new BigInteger(number);
        if (integer.bitLength() < 64) {
            return Long.valueOf(integer.longValue());
        }
        return integer;
    }

    private void digits() throws Malformed {
        int first = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        if (at == first) {
            throw malformed("a digit was expected");
        }
    }

    private Object word(String word, Object value) throws Malformed {
        if (!text.startsWith(word, at)) {
            throw malformed("an unknown word");
        }
        at += word.length();
        return value;
    }

    private void space() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private boolean take0(char wanted) {
        if (at < text.length() && text.charAt(at) == wanted) {
            at++;
            return true;
        }
        return false;
    }

    private boolean take(char wanted) {
        space();
        return take0(wanted);
    }

    private void need(char wanted) throws Malformed {
        if (!take(wanted)) {
            throw malformed("'" + wanted + "' was expected");
        }
    }

    private Malformed malformed(String problem) {
        return new Malformed(problem + " at character " + at);
    }

    /** Writes maps, iterables, strings, numbers, booleans and null on one line, in ASCII. */
    public static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    private static void write(Object value, StringBuilder out) {
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof Map) {
            String separator = "{";
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                out.append(separator);
                write(String.valueOf(entry.getKey()), out);
                out.append(": ");
                write(entry.getValue(), out);
                separator = ", ";
            }
            out.append(((Map<?, ?>) value).isEmpty() ? "{}" : "}");
        } else if (value instanceof Iterable) {
            String separator = "";
            out.append('[');
            for (Object item : (Iterable<?>) value) {
                out.append(separator);
                write(item, out);
                separator = ", ";
            }
            out.append(']');
        } else if (value instanceof Number) {
            writeNumber((Number) value, out);
        } else {
            writeString(value.toString(), out);
        }
    }

    private static void writeNumber(Number number, StringBuilder out) {
        double real = number.doubleValue();
        if (Double.isNaN(real) || Double.isInfinite(real)) {
            throw new IllegalArgumentException("JSON has no " + real);
        }
        // A float becomes the double of the same value, as Python's struct gives it.
        out.append(number instanceof Float ? Double.toString(real) : number.toString());
    }

    private static void writeString(String string, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < string.length(); i++) {
            char next = string.charAt(i);
            if (next == '"' || next == '\\') {
                out.append('\\').append(next);
            } else if (next >= ' ' && next < 0x7F) {
                out.append(next);
            } else {
                out.append("\\u").append(Integer.toHexString(0x10000 | next).substring(1));
            }
        }
        out.append('"');
    }

    /** A number as Python's `:g` writes it: six significant digits, no trailing zeros. */
    static String general(double value) {
        if (value == 0 || Double.isNaN(value) || Double.isInfinite(value)) {
            return value == 0 ? "0" : Double.toString(value);
        }
        BigDecimal rounded =
                new BigDecimal(value).round(new java.math.MathContext(6, java.math.RoundingMode.HALF_EVEN));
        int exponent = rounded.precision() - rounded.scale() - 1;
        if (exponent >= -4 && exponent < 6) {
            return rounded.stripTrailingZeros().toPlainString();
        }
        String mantissa = rounded.movePointLeft(exponent).stripTrailingZeros().toPlainString();
        String digits = Integer.toString(Math.abs(exponent));
        return mantissa + (exponent < 0 ? "e-" : "e+") + (digits.length() < 2 ? "0" : "") + digits;
    }

    /** A number as Python's `:.Nf` writes it. */
    static String fixed(double value, int decimals) {
        return new BigDecimal(value).setScale(decimals, java.math.RoundingMode.HALF_EVEN).toPlainString();
    }
}
