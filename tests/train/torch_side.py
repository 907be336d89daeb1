"""The half of test_torch_loop.py that runs where PyTorch is: FOLDER holds its questions, and then its answers."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.train.still_views import STILL
from train.configs.schema import AugmentConfig, LossConfig
from train.experiments.torch import augment as torch_augment
from train.experiments.torch.handover import read_weights
from train.experiments.torch.loop import photo_losses
from train.experiments.torch.network import KerasNetwork


def main(folder: Path) -> None:
    for start in sorted(folder.glob("*.start.npz")):
        name = start.name.removesuffix(".start.npz")
        weights, noted = read_weights(start)
        network = KerasNetwork(noted["keras"], weights).eval()
        with torch.no_grad():
            pixels = torch.from_numpy(np.load(folder / f"{name}.pixels.npy")).permute(0, 3, 1, 2)
            np.save(folder / f"{name}.logits.npy", network(pixels).numpy())
        back = network.keras_weights()
        same = all(np.array_equal(a, b) for a, b in zip(weights, back, strict=True))
        (folder / f"{name}.same").write_text(str(same))
    given = np.load(folder / "losses.npz")
    for kind in ("softmax", "focal", "binary_focal"):
        tensors = (torch.from_numpy(given[key]) for key in ("logits", "targets"))
        found = photo_losses(*tensors, LossConfig(kind=kind), torch.from_numpy(given["adjustment"]))
        np.save(folder / f"losses.{kind}.npy", found.numpy())
    _augment(folder)


def _augment(folder: Path) -> None:
    photos_u8 = np.load(folder / "photos.npy")
    photos = torch.from_numpy(photos_u8).permute(0, 3, 1, 2)
    side = photos.shape[-1]

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(7)

    def shown(pixels: torch.Tensor) -> np.ndarray:
        return pixels.permute(0, 2, 3, 1).numpy()

    np.save(folder / "still.npy", shown(torch_augment.augment(photos, side, STILL, generator())))
    every = AugmentConfig(blur=0.5, jpeg=0.5, cutout=0.5, mixup=0.4, inscribed=True)
    for i in (1, 2):
        np.save(folder / f"every{i}.npy", shown(torch_augment.augment(photos, side, every, generator())))
    torch_augment.JPEG_QUALITY = (60, 60)
    np.save(folder / "jpeg.npy", shown(torch_augment.jpeg(photos.float(), 1.0, generator())))
    encoded = []
    for photo in photos_u8:
        stream = io.BytesIO()
        Image.fromarray(photo).save(stream, "JPEG", quality=60, subsampling="4:2:0")
        encoded.append(np.asarray(Image.open(stream).convert("RGB")))
    np.save(folder / "jpeg.pillow.npy", np.stack(encoded))
    flat = torch.full((4, 3, side, side), 90.0)
    np.save(folder / "flat.npy", shown(torch_augment.blur(flat, 1.0, generator())))
    grey = torch_augment.cutout(torch.zeros(8, 3, side, side), 0.5, generator())
    np.save(folder / "hidden.npy", (grey.amax((1, 2, 3)) > 0).numpy())
    soft = torch.eye(8)
    mixed, mixed_soft = torch_augment.mixup(
        torch.arange(8.0)[:, None, None, None].expand(8, 3, 4, 4), soft, 0.4, generator()
    )
    np.savez(folder / "mixup.npz", pixels=mixed[:, 0, 0, 0].numpy(), soft=mixed_soft.numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
