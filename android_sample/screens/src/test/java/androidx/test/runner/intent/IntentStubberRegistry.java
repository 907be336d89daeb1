package androidx.test.runner.intent;

/** What Robolectric calls of androidx.test; does nothing here. */
public final class IntentStubberRegistry {
    private IntentStubberRegistry() {}

    public static boolean isLoaded() {
        return false;
    }

    public static IntentStubber getInstance() {
        return null;
    }
}
