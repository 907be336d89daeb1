/**
 * What Java sees of LiteRT 2.3.0's Kotlin API, as far as engine-litert calls it: names, types, exceptions, no bodies.
 * Read from `litert/kotlin` of google-ai-edge/LiteRT; a name that is wrong here shows at the first real build.
 */
package com.google.ai.edge.litert;
