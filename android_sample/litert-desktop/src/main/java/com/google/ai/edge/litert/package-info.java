/**
 * LiteRT's Kotlin API as far as engine-litert calls it, over the real libLiteRt.so: what its JNI layer does on a phone,
 * JNA does here. Of the rules of the Kotlin layer it has the two that the ladder stands on: a lone NPU gets the CPU
 * added, and nothing else is widened.
 */
package com.google.ai.edge.litert;
