package androidx.test.runner.lifecycle;

/** The values that Robolectric names. */
public enum ApplicationStage {
    PRE_ON_CREATE,
    CREATED
}
