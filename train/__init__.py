"""Photos and labels to a trained run directory. Run `python -m train CONFIG.toml --workdir RUN`."""

import os

# tfmot quantizes Keras 2 models only; this must be set before TensorFlow's first import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Its start-up notes (no CUDA here, which CPU instructions) bury what a user should read.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
