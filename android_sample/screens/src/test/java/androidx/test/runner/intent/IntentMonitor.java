package androidx.test.runner.intent;

/** What Robolectric calls of androidx.test; does nothing here. */
public interface IntentMonitor {}
