package androidx.test.runner.intent;

import android.app.Instrumentation.ActivityResult;
import android.content.Intent;

/** What Robolectric calls of androidx.test; does nothing here. */
public interface IntentStubber {
    ActivityResult getActivityResultForIntent(Intent intent);
}
