"""The one way to open a Keras file: what it says that it consists of is read, and code refused, before tf_keras does.

A configuration may hold marshalled functions (Lambda), name any function of any module, or a vocabulary's path; a HDF5
file may link to others. Allowed are the public layers, initializers, regularizers, constraints and activations of
tf_keras without these, as tf_keras and Keras 3 spell them. tf_keras and its h5py, imported when a file is opened.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_runtime.errors import ModelHoldsCode
from train.artifacts.bounded import MAX_TEXT_BYTES, require_arrays, require_small_archive

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
MAX_OBJECTS = 100_000
"""Groups and arrays of a HDF5 file."""
# They hold code, or read files.
REFUSED = {"Lambda", "StringLookup", "IntegerLookup", "TextVectorization", "TFSMLayer"}
# Beside the public classes: models, numbers, and TensorFlow's own functions as layers.
FURTHER = {
    "Functional", "Sequential", "Model", "DTypePolicy", "Policy", "TFOpLambda", "SlicingOpLambda", "TensorShape",
    "__keras_tensor__", "__tuple__", "__ellipsis__", "__numpy__", "__tensor__",
}  # fmt: skip
MODULES = {
    None, "builtins", "keras", "keras.activations", "keras.constraints", "keras.initializers", "keras.layers",
    "keras.mixed_precision", "keras.models", "keras.regularizers", "keras.src.models.functional",
    "keras.src.models.sequential", "tf_keras.src.engine.functional", "tf_keras.src.engine.sequential",
    "tf_keras.src.engine.training", "tf_keras.src.layers.core.tf_op_layer",
}  # fmt: skip
# Of TensorFlow's functions: those that compute and do nothing else.
FUNCTION_MODULES = ("__operators__.", "math.", "nn.")
FUNCTIONS = {
    "cast", "clip_by_value", "concat", "expand_dims", "identity", "image.resize", "ones_like", "pad", "repeat",
    "reshape", "reverse", "shape", "slice", "split", "squeeze", "stack", "tile", "transpose", "unstack", "zeros_like",
}  # fmt: skip


def load_keras(path: Path) -> Any:
    """Load a model of tf_keras, not compiled.

    Raises:
        ModelHoldsCode: It holds code, names functions of other modules or files; nothing of it was run.
        OSError, ValueError, TypeError, LookupError, ImportError, AttributeError, DAMAGED_ZIP: It cannot be loaded.
    """
    require_no_code(path)
    import tf_keras
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    with SafeModeScope(True):
        return tf_keras.models.load_model(path, compile=False)


def require_no_code(path: Path) -> None:
    """Refuse a Keras file that holds code, whatever its name; errors as `load_keras`."""
    # What tf_keras itself reads with.
    from tf_keras.src.saving.legacy.hdf5_format import h5py

    if not path.is_file():
        raise ValueError("not a .keras or .h5 file")
    is_zip, is_hdf5 = zipfile.is_zipfile(path), h5py.is_hdf5(path)
    if is_zip == is_hdf5:
        # Both at once would be read as one here and as the other by Keras.
        raise ValueError("not a .keras or .h5 file" if not is_zip else "two files in one: zip and HDF5")
    if is_zip:
        require_small_archive(path)
        with zipfile.ZipFile(path) as archive:
            if further := sorted(set(archive.namelist()) - MEMBERS):
                raise unsafe(path, f"the member {further[0]}")
            if archive.getinfo(CONFIG).file_size > MAX_TEXT_BYTES:
                raise ValueError(f"{CONFIG}: more than {MAX_TEXT_BYTES:,} bytes")
            config = json.loads(archive.read(CONFIG))
            weights = io.BytesIO(archive.read(WEIGHTS))
        if isinstance(config, dict):
            # Loss, metrics and optimizer, which are not loaded.
            config.pop("compile_config", None)
        with h5py.File(weights, "r") as file:
            _require_plain_arrays(file, path)
    else:
        with h5py.File(path, "r") as file:
            _require_plain_arrays(file, path)
            config = json.loads(file.attrs["model_config"])
    if problem := next(_unsafe_parts(config), ""):
        raise unsafe(path, problem)


def unsafe(path: Path, found: str, fix: str = "save it without them, from its own source") -> ModelHoldsCode:
    """Return the error for a model that would do more than compute."""
    return ModelHoldsCode(
        "the model holds more than a network, and was not loaded",
        where=str(path),
        found=found,
        expected="layers and operators that compute, without code, files or Python",
        fix=fix,
    )


def _require_plain_arrays(file: Any, path: Path) -> None:
    """Refuse arrays in other files, and more bytes than `bounded` allows however well they are packed."""
    from tf_keras.src.saving.legacy.hdf5_format import h5py

    open_groups, seen, declared = [file], {h5py.h5o.get_info(file.id).addr}, 0
    while open_groups:
        group = open_groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise unsafe(path, f"a link {name} to another place or file")
            found = group[name]
            if (address := h5py.h5o.get_info(found.id).addr) in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_OBJECTS:
                raise ValueError(f"more than {MAX_OBJECTS:,} groups and arrays")
            if isinstance(found, h5py.Group):
                open_groups.append(found)
            elif isinstance(found, h5py.Dataset):
                if found.is_virtual or found.external or found.dtype.kind not in "biuf":
                    raise unsafe(path, f"{name}, an array in another file or of {found.dtype}")
                declared += found.size * found.dtype.itemsize if found.size else 0
    require_arrays(declared)


def _unsafe_parts(config: Any) -> Iterator[str]:
    """Yield what is not allowed in a model's configuration."""
    import tf_keras

    spaces = (tf_keras.layers, tf_keras.initializers, tf_keras.regularizers, tf_keras.constraints)
    classes = {name for space in spaces for name, found in vars(space).items() if isinstance(found, type)}
    classes = (classes | FURTHER) - REFUSED
    activations = {name for name, found in vars(tf_keras.activations).items() if callable(found)}
    waiting = [config]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += found.values()
            if "class_name" in found:
                inside = found.get("config")
                kind = found["class_name"]
                named = inside if kind == "function" else kind
                known = activations if kind == "function" else classes
                if not isinstance(named, str) or named not in known:
                    yield f"{kind} {named}" if kind == "function" else f"{kind}"
                elif found.get("module") not in MODULES:
                    yield f"{named} of module {found['module']}"
                elif found.get("registered_name") not in (None, named, kind):
                    yield f"{named}, registered as {found['registered_name']}"
                elif kind == "TFOpLambda" and not _computes(inside):
                    yield f"TensorFlow's function {inside.get('function') if isinstance(inside, dict) else inside}"
        elif isinstance(found, list):
            waiting += found


def _computes(config: Any) -> bool:
    name = config.get("function") if isinstance(config, dict) else None
    return isinstance(name, str) and (name in FUNCTIONS or name.startswith(FUNCTION_MODULES))
