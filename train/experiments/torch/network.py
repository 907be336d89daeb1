"""A Keras network as a PyTorch module that computes the same, and its weights there and back. PyTorch.

Every network of train/networks/registry.py is flat: a list of layers, each with the names of those that it reads.
That list, as
Keras writes it, is all that is needed here, so no network is written down twice. Keras pads unevenly where a stride
does not divide the side, PyTorch evenly: what is missing is padded by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edge_runtime.errors import RunInvalid

Array = npt.NDArray[np.float32]
FORMAT = torch.channels_last


class KerasNetwork(nn.Module):
    """A flat functional Keras model, from normalized pixels to logits.

    Args:
        keras_json: What `model.to_json()` gave.
        weights: What `model.get_weights()` gave.

    Raises:
        RunInvalid: A layer of a kind that is not known here, or weights of another network.
    """

    def __init__(self, keras_json: str, weights: Sequence[Array]) -> None:
        super().__init__()
        described = json.loads(keras_json)["config"]
        self.names: list[str] = [layer["config"]["name"] for layer in described["layers"]]
        self.reads = [
            [self.names.index(entry[0]) for node in layer["inbound_nodes"] for entry in node]
            for layer in described["layers"]
        ]
        # What is read for the last time at each layer: kept longer, a batch's activations would all stay in memory.
        last_read = {read: i for i, reads in enumerate(self.reads) for read in reads}
        self.released = [
            [read for read in set(reads) if last_read[read] == i] for i, reads in enumerate(self.reads)
        ]
        given = iter(weights)
        self.steps = nn.ModuleList([_layer(layer, given) for layer in described["layers"]])
        if left := len(list(given)):
            raise RunInvalid("weights of another network", found=f"{left} too many", expected="none left")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[n, 3, size_px, size_px] normalized -> [n, classes] float32."""
        values: dict[int, torch.Tensor] = {}
        for i, (step, reads) in enumerate(zip(self.steps, self.reads, strict=True)):
            values[i] = step(*(values[read] for read in reads)) if reads else pixels
            for read in self.released[i]:
                del values[read]
        return values[len(self.steps) - 1].float()

    def first_trained(self, trains: str, frozen: str) -> int:
        """Index of the first layer that a stage trains: see StageConfig."""
        if not frozen:
            return len(self.names) - 1 if trains == "head" else 0
        named = [i for i, name in enumerate(self.names) if frozen in name]
        if not named or named[-1] == len(self.names) - 1:
            raise RunInvalid(
                "frozen names no layer, or the last", found=repr(frozen), expected="a part of a layer's name"
            )
        return named[-1] + 1

    def train_from(self, first: int, whole: bool) -> None:
        """Train layers from `first` on; the others keep weights and statistics. Not `whole`: all keep statistics."""
        self.train(whole)
        for i, step in enumerate(self.steps):
            step.requires_grad_(i >= first)
            if i < first:
                step.eval()

    def keras_weights(self) -> list[Array]:
        """The weights in Keras' order and layout."""
        return [array for step in self.steps if isinstance(step, _Weighted) for array in step.keras_weights()]


class _Weighted(nn.Module):
    """A layer with weights."""

    def keras_weights(self) -> list[Array]:
        """As `layer.get_weights()`."""
        raise NotImplementedError


class _Convolution(_Weighted):
    """Conv2D, or DepthwiseConv2D with one filter a channel."""

    def __init__(self, config: dict[str, Any], given: Any, *, depthwise: bool) -> None:
        super().__init__()
        self.depthwise = depthwise
        kernel = torch.from_numpy(np.array(next(given), np.float32))
        self.kernel = nn.Parameter(
            kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)).contiguous(memory_format=FORMAT)
        )
        self.bias = (
            nn.Parameter(torch.from_numpy(np.array(next(given), np.float32))) if config["use_bias"] else None
        )
        self.size = kernel.shape[0], kernel.shape[1]
        self.stride = tuple(config["strides"])
        self.same = config["padding"] == "same"
        self.relu = config.get("activation") == "relu"
        self.groups = kernel.shape[2] if depthwise else 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads = [
            _padding(x.shape[2 + i], self.size[i], self.stride[i]) if self.same else (0, 0) for i in (0, 1)
        ]
        even = all(before == after for before, after in pads)
        if not even:
            x = functional.pad(x, (*pads[1], *pads[0]))
        padding = [before if even else 0 for before, _ in pads]
        x = functional.conv2d(x, self.kernel, self.bias, self.stride, padding, 1, self.groups)
        return functional.relu(x) if self.relu else x

    def keras_weights(self) -> list[Array]:
        kernel = self.kernel.detach().permute((2, 3, 0, 1) if self.depthwise else (2, 3, 1, 0))
        return [_array(kernel)] + ([_array(self.bias)] if self.bias is not None else [])


class _Norm(_Weighted):
    """BatchNormalization over the channels; Keras' momentum is what stays, PyTorch's what changes."""

    def __init__(self, config: dict[str, Any], given: Any) -> None:
        super().__init__()
        scale = torch.from_numpy(np.array(next(given), np.float32)) if config["scale"] else None
        shift = torch.from_numpy(np.array(next(given), np.float32))
        mean, variance = (torch.from_numpy(np.array(next(given), np.float32)) for _ in range(2))
        self.scaled = scale is not None
        self.norm = nn.BatchNorm2d(len(shift), eps=config["epsilon"], momentum=1 - config["momentum"])
        with torch.no_grad():
            if scale is not None:
                self.norm.weight.copy_(scale)
            self.norm.bias.copy_(shift)
            self.norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            self.norm.running_var.copy_(variance)  # type: ignore[union-attr]

    def requires_grad_(self, requires_grad: bool = True) -> _Norm:
        super().requires_grad_(requires_grad)
        self.norm.weight.requires_grad_(requires_grad and self.scaled)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(x)
        return normed

    def keras_weights(self) -> list[Array]:
        norm = self.norm
        scale = [_array(norm.weight)] if self.scaled else []
        return [*scale, _array(norm.bias), _array(norm.running_mean), _array(norm.running_var)]


class _Dense(_Weighted):
    def __init__(self, config: dict[str, Any], given: Any) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.from_numpy(np.array(next(given), np.float32)).T.contiguous())
        self.bias = (
            nn.Parameter(torch.from_numpy(np.array(next(given), np.float32))) if config["use_bias"] else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.kernel, self.bias)

    def keras_weights(self) -> list[Array]:
        return [_array(self.kernel.detach().T)] + ([_array(self.bias)] if self.bias is not None else [])


class _Plain(nn.Module):
    """A layer without weights."""

    def __init__(self, compute: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.compute(*inputs)


class _Dropout(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, self.rate, self.training)


def _layer(layer: dict[str, Any], given: Any) -> nn.Module:
    """A layer as Keras describes it; takes its weights from `given`."""
    kind, config = layer["class_name"], layer["config"]
    if kind in ("Conv2D", "DepthwiseConv2D") and config.get("activation") in ("linear", "relu", None):
        return _Convolution(config, given, depthwise=kind == "DepthwiseConv2D")
    if kind == "BatchNormalization":
        return _Norm(config, given)
    if kind == "Dense" and config.get("activation") in ("linear", None):
        return _Dense(config, given)
    if kind == "Dropout":
        return _Dropout(config["rate"])
    compute = _computation(kind, config)
    if compute is None:
        raise RunInvalid(
            "a layer that PyTorch's copy does not know",
            found=f"{kind} {config['name']}",
            expected="the layers of train/networks/registry.py",
        )
    return _Plain(compute)


def _computation(kind: str, config: dict[str, Any]) -> Callable[..., torch.Tensor] | None:
    """What a layer without weights computes; None for an unknown one."""
    if kind == "InputLayer":
        return lambda x: x
    if kind == "ReLU" and not config.get("negative_slope"):
        highest = config.get("max_value")
        return functional.relu if highest is None else lambda x: x.clamp(0.0, float(highest))
    if kind == "Activation" and config["activation"] == "relu":
        return functional.relu
    if kind == "Add":
        return lambda x, y: x + y
    if kind == "Concatenate":
        return lambda *parts: torch.cat(parts, 1)
    if kind == "ZeroPadding2D":
        (top, bottom), (left, right) = config["padding"]
        return lambda x: functional.pad(x, (left, right, top, bottom))
    if kind == "GlobalAveragePooling2D":
        return lambda x: x.mean((2, 3))
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        return _pooling(kind, config)
    return None


def _pooling(kind: str, config: dict[str, Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    (size, _), (stride, _) = config["pool_size"], config["strides"]
    if kind == "MaxPooling2D":
        if config["padding"] == "same":
            raise RunInvalid("a padded maximum", found=config["name"], expected="padding valid")
        return lambda x: functional.max_pool2d(x, size, stride)
    padding = size // 2 if config["padding"] == "same" else 0
    # Keras leaves what it padded out of the mean.
    return lambda x: functional.avg_pool2d(x, size, stride, padding, count_include_pad=False)


def _padding(side: int, size: int, stride: int) -> tuple[int, int]:
    """Before and behind, as Keras' `same` has it."""
    total = max((-(-side // stride) - 1) * stride + size - side, 0)
    return total // 2, total - total // 2


def _array(tensor: torch.Tensor | None) -> Array:
    if tensor is None:
        raise RunInvalid("a batch norm without statistics", expected="a mean and a variance")
    array: Array = tensor.detach().float().cpu().contiguous().numpy()
    return array
