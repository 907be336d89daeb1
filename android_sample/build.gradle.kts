// For Android Studio. Never run by its authors; tests/android/test_android_build.py reads it, nothing more.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.android.library) apply false
}
