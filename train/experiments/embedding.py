"""`dermedge experiment embedding RUN --out embedding.json [--page PHOTOS.html]`: t-SNE of held-out photos.

The penultimate layer (train/experiments/features.py) of photos that the run held out, laid out in two dimensions by
t-SNE (van der Maaten and Hinton 2008), as in Esteva et al., Nature 542 (2017). Distances between clusters and sizes
mean nothing in such a picture; neighbours are counted in the full space: how often the nearest photo of another lesion
has the same label.

embedding.json holds points and labels, no photo and no photo's id, and may be committed. PHOTOS.html shows thumbnails
of the dataset, under its licence, and may not. numpy, scikit-learn; TensorFlow.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from edge_runtime.contract import InputSpec, ModelContract
from edge_runtime.errors import ImageError
from edge_runtime.images.preprocess import fit_file
from train.artifacts.command import command_parser, run_command
from train.artifacts.files import write_json
from train.artifacts.run import read_contract
from train.evaluation.metrics import FloatArray
from train.experiments.features import Features, run_features
from train.reports import html as page

PERPLEXITY = 30.0
# As t-SNE's authors advise: fewer, less noisy dimensions, and a tenth of the time.
DIRECTIONS = 50
DIGITS = 3
PICTURE_PX, THUMBNAIL_PX = 1600, 28


def lay_out(features: Features, *, seed: int = 0) -> FloatArray:
    """Place the photos by t-SNE, [n, 2] in [0, 1]; equal arguments give equal places on one machine."""
    values = features.values
    flat = PCA(min(DIRECTIONS, *values.shape), random_state=seed).fit_transform(values)
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(flat)
    span = np.ptp(places, axis=0)
    scaled: FloatArray = (places - places.min(axis=0)) / np.where(span > 0, span, 1)
    return np.round(scaled, DIGITS).astype(np.float64)


def neighbour_agreement(features: Features) -> dict[str, float]:
    """Compute by label the share of photos whose nearest one of another group has the same label.

    Cosine of the features less their mean; chance is the label's own share.
    """
    values = features.values - features.values.mean(axis=0)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    likeness = values @ values.T
    groups, labels = np.asarray(features.groups), np.asarray(features.labels)
    likeness[groups[:, None] == groups] = -np.inf
    same = labels[likeness.argmax(axis=1)] == labels
    return {label: float(same[labels == label].mean()) for label in sorted(set(features.labels))}


def embedding(features: Features, places: FloatArray) -> dict[str, Any]:
    """Make the content of embedding.json."""
    labels = np.asarray(features.labels)
    return {
        "about": features.about,
        "method": f"t-SNE, perplexity {PERPLEXITY:g}, from {DIRECTIONS} principal directions",
        "photos": len(labels),
        "groups": len(set(features.groups)),
        "same_label_neighbour": neighbour_agreement(features),
        # One text a label: as lists, indented JSON would take four lines a photo.
        "points": {
            label: " ".join(f"{value:.{DIGITS}f}" for value in places[labels == label].ravel())
            for label in sorted(set(features.labels))
        },
    }


def thumbnails(photos: Sequence[Path], places: FloatArray, contract: ModelContract) -> npt.NDArray[np.uint8]:
    """Draw one picture [PICTURE_PX, PICTURE_PX, 3] with every photo at its place; unreadable ones are left out."""
    given = contract.input
    small = dataclasses.replace(
        contract, input=InputSpec(THUMBNAIL_PX, THUMBNAIL_PX, given.color_space, given.alpha)
    )
    picture = np.full((PICTURE_PX, PICTURE_PX, 3), 255, np.uint8)
    span = PICTURE_PX - THUMBNAIL_PX
    for photo, (x, y) in zip(photos, places, strict=True):
        try:
            pixels = np.frombuffer(fit_file(photo, small), np.uint8)
        except (OSError, ImageError):
            continue
        left, top = int(x * span), int((1 - y) * span)
        picture[top : top + THUMBNAIL_PX, left : left + THUMBNAIL_PX] = pixels.reshape(
            THUMBNAIL_PX, THUMBNAIL_PX, 3
        )
    return picture


def photo_page(picture: npt.NDArray[np.uint8], licence: str, about: dict[str, Any]) -> str:
    """Make a page with the picture; not to be committed."""
    description = f"Thumbnails of {about['photos']}, similar ones near each other"
    shown = page.picture(Image.fromarray(picture), description)
    remark = page.note(
        f"The photos are the dataset's, under its licence: {licence}. Do not publish this page."
    )
    return page.page(
        "Feature embedding (t-SNE)",
        about["photos"],
        licence,
        [page.Section("photos", "t-SNE", [remark, shown])],
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge experiment embedding`."""
    made = command_parser(
        "experiment embedding",
        "Place held-out photos by t-SNE of their features.",
        "example:\n  dermedge experiment embedding runs/folds/fold0 --out embedding.json",
    )
    made.add_argument(
        "run", type=Path, metavar="RUN", help="read a finished run with a test split, such as a fold"
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE.json", help="write the points there (required)"
    )
    made.add_argument(
        "--page", type=Path, metavar="FILE.html",
        help="write a page of thumbnails too, not for publication (default: none)",
    )  # fmt: skip
    made.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the first dataset (default: as the run says)"
    )
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 on an error, 130 when interrupted."""
    arguments = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return run_command(lambda: _embed(arguments))


def _embed(arguments: argparse.Namespace) -> int:
    features, photos, root = run_features(arguments.run, arguments.data)
    places = lay_out(features)
    write_json(arguments.out, embedding(features, places))
    if arguments.page:
        contract = read_contract(arguments.run)
        picture = thumbnails([root / photo.path for photo in photos], places, contract)
        page.write_page(arguments.page, photo_page(picture, contract.provenance.data_licence, features.about))
    print(arguments.out)
    return 0
