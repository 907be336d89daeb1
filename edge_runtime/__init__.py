"""DermEdge's runtime: a photo and a .tflite with its contract inside give a prediction.

    from edge_runtime import Classifier
    with Classifier("model.tflite") as classifier:
        prediction = classifier.classify("photo.jpg")
        print(prediction.label, prediction.score, prediction.decision)
        print(prediction.to_json())

Names are loaded on first use: importing the package imports neither Pillow nor an inference library.
"""

from __future__ import annotations

from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from edge_runtime.batch import classify_each
    from edge_runtime.classifier import Classifier
    from edge_runtime.contract import Label, ModelContract
    from edge_runtime.errors import EdgeError, ImageError, InterpreterError, ModelFileError, UsageError
    from edge_runtime.explain.explainer import Explainer, Explanation
    from edge_runtime.model.model_file import bundled_model_path
    from edge_runtime.result import Prediction, ScoredLabel

__version__ = "0.2.0"

__all__ = [
    "Classifier", "EdgeError", "Explainer", "Explanation", "ImageError", "InterpreterError", "Label", "ModelContract",
    "ModelFileError", "Prediction", "ScoredLabel", "UsageError", "__version__", "bundled_model_path", "classify_each",
]  # fmt: skip

_HOMES = {
    "batch": ("classify_each",),
    "classifier": ("Classifier",),
    "contract": ("Label", "ModelContract"),
    "errors": ("EdgeError", "ImageError", "InterpreterError", "ModelFileError", "UsageError"),
    "explain.explainer": ("Explainer", "Explanation"),
    "model.model_file": ("bundled_model_path",),
    "result": ("Prediction", "ScoredLabel"),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
