package androidx.test.runner.lifecycle;

import android.app.Activity;
import java.util.Collection;

/** What Robolectric calls of androidx.test; does nothing here. */
public interface ActivityLifecycleMonitor {
    Collection<Activity> getActivitiesInStage(Stage stage);
}
