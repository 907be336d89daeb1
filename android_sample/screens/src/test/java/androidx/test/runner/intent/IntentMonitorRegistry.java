package androidx.test.runner.intent;

/** What Robolectric calls of androidx.test; does nothing here. */
public final class IntentMonitorRegistry {
    private IntentMonitorRegistry() {}

    public static void registerInstance(IntentMonitor monitor) {}
}
