package dermedge.core;

/** An error with a problem, what was found and expected, and a fix; `errors.py` in Java. */
public class EdgeException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** The codes of `errors.py` that a phone can meet. */
    public enum Code {
        MODEL_TOO_LARGE("model-too-large"),
        NOT_A_TFLITE("not-a-tflite"),
        MODEL_UNSUPPORTED("model-unsupported"),
        CONTRACT_MISSING("contract-missing"),
        CONTRACT_INVALID("contract-invalid"),
        CONTRACT_TOO_NEW("contract-too-new"),
        MODEL_MISMATCH("model-mismatch"),
        MODEL_UNSIGNED("model-unsigned"),
        MODEL_OUTDATED("model-outdated"),
        NO_INTERPRETER("no-interpreter"),
        INTERPRETER_BROKEN("interpreter-broken"),
        SELF_CHECK_FAILED("self-check-failed"),
        IMAGE_NOT_FOUND("image-not-found"),
        IMAGE_UNREADABLE("image-unreadable"),
        IMAGE_UNSUPPORTED("image-unsupported"),
        IMAGE_UNSUITABLE("image-unsuitable"),
        IMAGE_TOO_LARGE("image-too-large"),
        USAGE("usage");

        private final String text;

        Code(String text) {
            this.text = text;
        }

        /** As in the JSON of `edge-classify`. */
        @Override
        public String toString() {
            return text;
        }
    }

    private final Code code;
    private final String what;

    /** Any of found, expected and fix may be empty. */
    public EdgeException(Code code, String what, String found, String expected, String fix) {
        super(line(what, found, expected, fix));
        this.code = code;
        this.what = escaped(what);
    }

    /** The same, with its cause. */
    public EdgeException(
            Code code, String what, String found, String expected, String fix, Throwable cause) {
        super(line(what, found, expected, fix), cause);
        this.code = code;
        this.what = escaped(what);
    }

    public final Code code() {
        return code;
    }

    /** Object and problem, without the rest of the message. */
    public final String what() {
        return what;
    }

    private static String line(String what, String found, String expected, String fix) {
        StringBuilder line = new StringBuilder(what);
        String between = " (";
        if (!found.isEmpty()) {
            line.append(between).append("got ").append(found);
            between = ", ";
        }
        if (!expected.isEmpty()) {
            line.append(between).append("expected ").append(expected);
            between = ", ";
        }
        line.append(between.equals(", ") ? ")." : ".");
        if (!fix.isEmpty()) {
            line.append(' ').append(Character.toUpperCase(fix.charAt(0))).append(fix.substring(1)).append('.');
        }
        return escaped(line.toString());
    }

    /** Control characters, line breaks, bidi marks and surrogates as Python's escapes: a file may hold them. */
    private static String escaped(String text) {
        StringBuilder shown = new StringBuilder();
        for (int at = 0, point; at < text.length(); at += Character.charCount(point)) {
            point = text.codePointAt(at);
            int type = Character.getType(point);
            boolean plain = type != Character.CONTROL && type != Character.FORMAT && type != Character.SURROGATE
                    && type != Character.LINE_SEPARATOR && type != Character.PARAGRAPH_SEPARATOR;
            if (plain) {
                shown.appendCodePoint(point);
            } else {
                shown.append(String.format(point < 0x100 ? "\\x%02x" : point < 0x10000 ? "\\u%04x" : "\\U%08x", point));
            }
        }
        return shown.toString();
    }
}
