package org.tensorflow.lite;

/** What the engine names. */
public enum DataType {
    FLOAT32,
    UINT8
}
