#!/usr/bin/env bash
# Builds, aligns, signs and verifies an installable APK without Android's SDK: tools from Debian, the rest from Maven
# Central. Usage: build_apk.sh MODEL.tflite OUT.apk [--prove]
# --prove builds it a second time elsewhere and compares the bytes, then turns the shipped DEX back into classes and runs
# the core's tests on them.
set -euo pipefail

sample="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
model="$(realpath "$1")"
out="$(realpath -m "$2")"
build="$sample/../build/android"
work="${APK_WORK:-$build/apk}"
min_sdk=24
target_sdk=36
version=0.2.0

# API 24: an android.* that a minSdk of 24 does not have does not compile. API 33: the newest resources that Debian's aapt2 can read.
platform=org.robolectric:android-all:7.0.0_r1-robolectric-r1
resources=org.robolectric:android-all:13-robolectric-9030017
dexer=com.jakewharton.android.repackaged:dalvik-dx:16.0.1
runtime=org.tensorflow:tensorflow-lite:2.16.1:aar
runtime_api=org.tensorflow:tensorflow-lite-api:2.16.1:aar

[ -f "$model" ] || { echo "error: $model: no such file. Name one .tflite that dermedge convert wrote." >&2; exit 1; }
for tool in java javac keytool mvn aapt2 zipalign apksigner zip unzip; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is missing. Run apt-get install openjdk-17-jdk-headless maven aapt zipalign apksigner dexdump zip unzip" >&2
    exit 1
  }
done

# artefact GROUP:NAME:VERSION[:TYPE]: its path in Maven's own store, fetched when it is not there.
artefact() {
  local group name v type path
  IFS=: read -r group name v type <<<"$1"
  path="${MAVEN_STORE:-$HOME/.m2/repository}/${group//.//}/$name/$v/$name-$v.${type:-jar}"
  [ -f "$path" ] || mvn -q -B dependency:get -Dtransitive=false \
    -Dartifact="$group:$name:$v:${type:-jar}" >&2
  echo "$path"
}

android_jar="$(artefact $platform)"
framework="$(artefact $resources)"
dx="$(artefact $dexer)"
aar="$(artefact $runtime)"
api_aar="$(artefact $runtime_api)"

rm -rf "$work"
mkdir -p "$work"/{aar,api,gen,classes,dex,assets/model,framework} "$(dirname "$out")"
cp "$model" "$work/assets/model/"
unzip -q "$aar" classes.jar 'jni/arm64-v8a/*' 'jni/x86_64/*' -d "$work/aar"
unzip -q "$api_aar" classes.jar -d "$work/api"
# aapt2 cannot open a zip of more than 65,535 entries, so it gets the two that it needs.
unzip -q "$framework" resources.arsc AndroidManifest.xml -d "$work/framework"
(cd "$work/framework" && zip -q -0 -X ../framework.apk resources.arsc AndroidManifest.xml)

# AGP takes the package from the Gradle files and refuses it here; aapt2 wants it in the manifest.
sed 's|^<manifest |<manifest package="dermedge.app" android:versionCode="1" android:versionName="'$version'" |' \
  "$sample/app/src/main/AndroidManifest.xml" >"$work/AndroidManifest.xml"
aapt2 compile --dir "$sample/app/src/main/res" -o "$work/res.zip"
# It is older than <queries>: that it does not know the element is a warning, not an error.
aapt2 link -I "$work/framework.apk" --manifest "$work/AndroidManifest.xml" --java "$work/gen" -A "$work/assets" \
  -0 .tflite --auto-add-overlay --warn-manifest-validation --min-sdk-version $min_sdk --target-sdk-version $target_sdk \
  -o "$work/unaligned.apk" "$work/res.zip"

# compile INTO FOLDER...: every Java file of these folders and the generated R, against API 24 and the classic runtime.
# android-all holds android.* alone; java.* is Java 8's.
compile() {
  local into="$1"
  shift
  find "$@" "$work/gen" -name '*.java' | LC_ALL=C sort >"$into.sources"
  javac -nowarn -Xlint:-options -encoding UTF-8 --release 8 -g:source,lines \
    -cp "$android_jar:$work/aar/classes.jar:$work/api/classes.jar" -d "$into" @"$into.sources"
}
compile "$work/classes" "$sample"/{core,engine-classic,app}/src/main/java "$sample/app/src/classic/java"
# What Android Studio builds instead, for the compiler's judgement alone.
compile "$work/studio" "$sample"/{core,engine-litert,litert-signatures,app}/src/main/java "$sample/app/src/litert/java"
java -Xmx768m -cp "$dx" com.android.dx.command.Main --dex --min-sdk-version=$min_sdk --output="$work/dex/classes.dex" \
  "$work/classes" "$work/aar/classes.jar" "$work/api/classes.jar"

mkdir -p "$work/package/lib"
cp "$work/dex/classes.dex" "$work/package/"
cp -r "$work/aar/jni/." "$work/package/lib/"
find "$work/package" -exec touch -d '1980-01-02 00:00 UTC' {} +
(cd "$work/package" && find . -type f | sed 's|^\./||' | LC_ALL=C sort | TZ=UTC zip -q -X ../unaligned.apk -@)
zipalign -f -p 4 "$work/unaligned.apk" "$work/aligned.apk"

# A debug key is no secret; kept, so that two builds are equal and one installs over the other.
key="$build/debug.p12"
[ -f "$key" ] || keytool -genkeypair -keystore "$key" -storetype PKCS12 -storepass android -keypass android -alias debug \
  -keyalg RSA -keysize 2048 -validity 10000 -dname CN=debug 2>/dev/null
apksigner sign --ks "$key" --ks-pass pass:android --min-sdk-version $min_sdk --v2-signing-enabled true \
  --v3-signing-enabled true --out "$work/signed.apk" "$work/aligned.apk"

verified="$(apksigner verify --verbose "$work/signed.apk")"
badging="$(aapt2 dump badging "$work/signed.apk")"
# require TEXT PATTERN WHAT
require() {
  grep -q -- "$2" <<<"$1" || { echo "error: the APK is wrong: $3" >&2; exit 1; }
}
require "$verified" 'v2 scheme.*: true' 'no v2 signature'
require "$verified" 'v3 scheme.*: true' 'no v3 signature'
require "$badging" "sdkVersion:'$min_sdk'" "min SDK is not $min_sdk"
require "$badging" "targetSdkVersion:'$target_sdk'" "target SDK is not $target_sdk"
require "$(unzip -lv "$work/signed.apk" "assets/model/$(basename "$model")")" 'Stored' 'the model is compressed'
if grep 'uses-permission' <<<"$badging"; then
  echo "error: the APK is wrong: it asks for permissions" >&2
  exit 1
fi
zipalign -c 4 "$work/signed.apk"
size=$(stat -c %s "$work/signed.apk")
[ "$size" -lt 15000000 ] || { echo "error: the APK is too large: $size bytes, at most 15,000,000" >&2; exit 1; }

if [ "${3:-}" = --prove ]; then
  command -v enjarify >/dev/null || { echo "error: enjarify is missing. Run apt-get install enjarify" >&2; exit 1; }
  APK_WORK="$build/apk-again" "${BASH_SOURCE[0]}" "$model" "$build/again.apk" >/dev/null
  cmp "$work/signed.apk" "$build/again.apk" || { echo "error: two builds differ" >&2; exit 1; }
  echo "a second build in another folder: the same $size bytes"
  # enjarify must find Debian's own Python.
  PATH="/usr/bin:$PATH" enjarify "$work/dex/classes.dex" -f -o "$work/back.jar" >"$work/enjarify.log"
  mkdir -p "$work/back"
  unzip -q "$work/back.jar" 'dermedge/core/*' -d "$work/back"
  unzip -q "$work/signed.apk" 'assets/model/*' -d "$work/shipped"
  mvn -q -B -f "$sample/pom.xml" -pl core test-compile surefire:test -Ddermedge.classes="$work/back" \
    -Ddermedge.model="$work/shipped/assets/model/$(basename "$model")"
  echo "round trip: the core's tests pass on the shipped bytes, which open the shipped model"
fi
mv "$work/signed.apk" "$out"
echo "$out: $size bytes, v2 and v3 signed, min $min_sdk, target $target_sdk, no permission"
