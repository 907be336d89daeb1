"""Photos and labels to a trained run directory. Run `python -m train CONFIG.toml --workdir RUN`."""

import os

# tfmot quantizes Keras 2 models only; this must be set before TensorFlow's first import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
