package dermedge.app;

import dermedge.core.EdgeException;

/** What went wrong: a sentence in the user's language, and the details, which are English everywhere. */
final class Failure {
    /** A string resource. */
    final int sentence;
    final String detail;

    private Failure(int sentence, String detail) {
        this.sentence = sentence;
        this.detail = detail;
    }

    static Failure of(Throwable error) {
        if (error instanceof EdgeException) {
            return new Failure(Words.of(((EdgeException) error).code()), error.getMessage());
        }
        boolean full = error instanceof OutOfMemoryError;
        return new Failure(full ? R.string.out_of_memory : R.string.error_unexpected, error.toString());
    }
}
