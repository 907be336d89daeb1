"""Photos and labels to a trained run directory. Run `python -m train CONFIG.toml --workdir RUN`."""

import os

# tfmot quantizes Keras 2 models only; this must be set before TensorFlow's first import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Its start-up notes (no CUDA here, which CPU instructions) bury what a user should read.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow takes oneDNN's kernels by itself only where a processor has AVX512-VNNI; elsewhere too they halve a step.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
