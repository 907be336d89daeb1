plugins {
    alias(libs.plugins.android.library)
}

android {
    namespace = "dermedge.engine.litert"
    compileSdk = 36

    defaultConfig {
        minSdk = 24
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

dependencies {
    api(project(":core"))
    implementation(libs.litert)
}
