"""Run directory to .tflite with its contract inside. Importing this makes tf_keras TensorFlow's Keras, no more."""

import os

# Must stand before TensorFlow's first import: tensorflow-model-optimization works on tf_keras only.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# As in train: the kernels that TensorFlow takes by itself only on newer processors.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
