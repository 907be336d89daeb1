"""Heat maps: which places of the photo raise the score of the predicted label. Pillow and stdlib.

    photo -> prediction -> the same network again, up to its last feature map -> the lead of every place

What a place says. The logit of a label is its bias plus the mean over all places of weights times features (see
`graph_end.py`), so weights times features is what a place adds to a label: exact, nothing is estimated. Two things in
it are arbitrary, because they can be exchanged without changing any prediction: the same weights may be added to all
labels (softmax does not see it), and a constant may move from the bias to a feature that is equal everywhere. A
picture that changed with them would show the arbitrariness. So the mean over labels and the mean over places are
taken off (what is left is the interaction of an analysis of variance): the lead of the answered label at a place is
how much more than the average label it gains there, compared with the average place. Its positive part is the heat;
its sum over all places is 0.

The rule was chosen for its reason; tests/edge_runtime/test_heat_localization.py measures the share of the heat inside
drawn lesions. The padding of strided convolutions suggests that a place lies half a place further right and down than
its square of the photo; moved so, less heat lay inside, so nothing is moved.

What it cannot say: a lead is relative, so every photo has a hottest place, also where the network knows nothing; `peak`
says how many logits it is worth. A place of a 7 x 7 map has seen more of the photo than its own square.
"""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING, Any

from edge_runtime._startup.records import dataclass
from edge_runtime.classifier import Classifier, Stopwatch
from edge_runtime.engines import open_engine
from edge_runtime.explain.graph_end import read_graph_end, with_feature_map_as_output
from edge_runtime.model.tensors import TensorSpec, raw_values
from edge_runtime.result import Prediction

if TYPE_CHECKING:
    from PIL import Image

    from edge_runtime.classifier import Photo

Grid = tuple[tuple[float, ...], ...]
DIGITS = 4
"""Of a lead in JSON; a step of an int8 feature map is larger."""


@dataclass(frozen=True)
class Explanation:
    """A prediction, and where in the photo it comes from."""

    prediction: Prediction
    """The same as without a heat map."""
    lead: Grid
    """[height][width] of the feature map, top left first, over the cropped photo: logits by which the answered label
    leads the average label at this place, more than at the average place. They sum to 0."""
    photo: Image.Image
    """The cropped upright photo, RGB, before it was resized for the network."""
    elapsed_ms: float
    """Of the map, without prediction and picture."""

    @property
    def heat(self) -> Grid:
        """The positive part of `lead`, [height][width]."""
        return tuple(tuple(max(0.0, value) for value in row) for row in self.lead)

    @property
    def peak(self) -> float:
        """The hottest place's lead, logits."""
        return max(map(max, self.lead))

    def to_dict(self, picture: str | None = None) -> dict[str, Any]:
        """Return the fields of a prediction, and `explanation` with the path where the picture was written."""
        explanation = {
            "label": self.prediction.label,
            "lead": [[round(value, DIGITS) for value in row] for row in self.lead],
            "peak": round(self.peak, DIGITS),
            "picture": picture,
            "elapsed_ms": self.elapsed_ms,
        }
        return {**self.prediction.to_dict(), "explanation": explanation}


class Explainer:
    """A classifier that also returns where its predictions come from. For one thread.

    Holds a second engine for the same network, of the same library and on the CPU, also if the classifier runs on an
    accelerator, which was validated against the CPU.

    Args:
        classifier: An open one; it stays the caller's to close.

    Raises:
        ModelNotExplainable: Its network ends in a form that gives no map.
        InterpreterError: The library cannot run it up to the feature map.
    """

    def __init__(self, classifier: Classifier) -> None:
        model, own = classifier.model, classifier.engine
        end = read_graph_end(model)
        self._classifier = classifier
        self._weights = centred_weights(end.weights)
        self._engine = open_engine(
            with_feature_map_as_output(model, end), engine=own.name.split(" ")[0], threads=own.threads
        )

    def explain(self, photo: Photo, *, name: str | None = None) -> Explanation:
        """Classify one photo and map its prediction; arguments and errors as `Classifier.classify`."""
        prepared = self._classifier.prepare(photo, name=name, keep_photo=True)
        prediction = self._classifier.classify_prepared(prepared)
        watch = Stopwatch()
        features = self._engine.run(prepared.input_tensor)
        label = self._classifier.contract.codes.index(prediction.label)
        lead = lead_map(features, self._engine.output, self._weights[label])
        assert prepared.photo is not None
        return Explanation(prediction, lead, prepared.photo, watch.result()["total"])

    def close(self) -> None:
        """Free the second engine; a second call does nothing."""
        self._engine.close()

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def centred_weights(weights: Grid) -> Grid:
    """Return the weights, [labels][channels], less the mean over labels."""
    means = [sum(column) / len(weights) for column in zip(*weights, strict=True)]
    return tuple(tuple(weight - mean for weight, mean in zip(row, means, strict=True)) for row in weights)


def lead_map(features: bytes, spec: TensorSpec, weights: tuple[float, ...]) -> Grid:
    """Return weights times features at every place, less the mean over places.

    The features are the bytes of a tensor [1, height, width, channels], the weights, [channels], those of one label
    less the mean over labels.
    """
    _, height, width, channels = spec.shape
    scale = spec.scale if spec.quantized else 1.0
    # The zero point adds the same at every place, and the mean over places takes it off again.
    values = raw_values(features, spec)
    sums = [
        scale * sum(map(mul, weights, values[place * channels : (place + 1) * channels]))
        for place in range(height * width)
    ]
    mean = sum(sums) / len(sums)
    return tuple(
        tuple(value - mean for value in sums[row * width : (row + 1) * width]) for row in range(height)
    )
