package androidx.test.runner.lifecycle;

/** What Robolectric calls of androidx.test; does nothing here. */
public interface ActivityLifecycleCallback {}
