package dermedge.core;

/** An error that says what failed, what was found, what was expected and what to do; `errors.py` in Java. */
public class EdgeException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** The codes of `errors.py` that a phone can meet. */
    public enum Code {
        MODEL_TOO_LARGE("model-too-large"),
        NOT_A_TFLITE("not-a-tflite"),
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

    /** The same, with what led to it. */
    public EdgeException(
            Code code, String what, String found, String expected, String fix, Throwable cause) {
        super(line(what, found, expected, fix), cause);
        this.code = code;
        this.what = what;
    }

    public final Code code() {
        return code;
    }

    /** What failed and where, without the rest of the message. */
    public final String what() {
        return what;
    }

    private static String line(String what, String found, String expected, String fix) {
        StringBuilder line = new StringBuilder(what);
        if (!found.isEmpty()) {
            line.append("; found: ").append(found);
        }
        if (!expected.isEmpty()) {
            line.append("; expected: ").append(expected);
        }
        if (!fix.isEmpty()) {
            line.append("; what to do: ").append(fix);
        }
        return line.toString();
    }
}
