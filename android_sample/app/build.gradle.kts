plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "dermedge.app"
    compileSdk = 36

    defaultConfig {
        applicationId = "dermedge.app"
        minSdk = 24
        targetSdk = 36
        versionCode = 1
        versionName = "0.2.0"
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    sourceSets {
        // The other one, src/classic, is tools/build_apk.sh's.
        getByName("main").java.directories.add("src/litert/java")
        getByName("debug").manifest.srcFile("src/gradle/AndroidManifest.xml")
        getByName("release").manifest.srcFile("src/gradle/AndroidManifest.xml")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    androidResources {
        noCompress += "tflite"
    }

    packaging {
        jniLibs {
            // LiteRT looks for an NPU's libraries by their path in a folder, so they must lie in one.
            useLegacyPackaging = true
        }
    }
}

dependencies {
    implementation(project(":core"))
    implementation(project(":engine-litert"))
    runtimeOnly(libs.litert.gpu)
}
