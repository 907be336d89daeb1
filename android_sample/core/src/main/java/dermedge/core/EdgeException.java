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
        NO_INTERPRETER("no-interpreter"),
        INTERPRETER_BROKEN("interpreter-broken"),
        SELF_CHECK_FAILED("self-check-failed"),
        IMAGE_NOT_FOUND("image-not-found"),
        IMAGE_UNREADABLE("image-unreadable"),
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
        this.what = what;
    }

    /** The same, with its cause. */
    public EdgeException(
            Code code, String what, String found, String expected, String fix, Throwable cause) {
        super(line(what, found, expected, fix), cause);
        this.code = code;
        this.what = what;
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
        return line.toString();
    }
}
