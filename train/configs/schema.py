"""Every key of an experiment's TOML with its default and range; train/configs/loading.py reads the file.

`RUN/config.json` holds every value that a run used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from math import inf
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from edge_runtime.contract import CROPS, DECODE_SCALINGS, has_control_characters

READERS = ("ham10000", "pad_ufes_20", "isic2018_task3", "folders", "csv")
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
INCREASING = "an increasing pair above 0"


def _is_name(text: str) -> bool:
    return bool(text.strip()) and not has_control_characters(text)


def _check(holds: Callable[[Any], bool], expected: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"must be {expected}")
        return value

    return AfterValidator(check)


def _within(low: float, high: float = inf, *, above: bool = False, below: bool = False) -> AfterValidator:
    """Values from low to high; `above` and `below` exclude the ends."""
    expected = f"{low}-{high}" if not (above or below) else f"{'above' if above else 'at least'} {low}"
    if above or below:
        expected += f" and {'below' if below else 'at most'} {high}" * (high < inf)
    elif high == inf:
        expected = f"at least {low}"
    return _check(lambda x: (x > low if above else x >= low) and (x < high if below else x <= high), expected)


def _one_of(allowed: Sequence[str]) -> AfterValidator:
    return _check(lambda text: text in allowed, f"one of {', '.join(allowed)}")


Count = Annotated[int, _within(0)]
Positive = Annotated[float, _within(0, above=True)]
NotNegative = Annotated[float, _within(0)]
Share = Annotated[float, _within(0, 1)]
PartOfOne = Annotated[float, _within(0, 1, above=True)]
ShareBelowOne = Annotated[float, _within(0, 1, below=True)]
Reader = Annotated[str, _one_of(READERS)]
Range = Annotated[tuple[float, float], _check(lambda x: 0 < x[0] <= x[1], INCREASING)]


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """Photos."""

    reader: Reader
    """Format of the data set, one of READERS."""
    folder: str
    """The data set's folder inside the data root (`--data` names the folder itself)."""
    labels: str
    """A file of train/configs/labels without its ending, or a path to such a TOML."""
    on_problem: Annotated[str, _one_of(("refuse", "skip"))] = "refuse"
    """`refuse`: any unusable photo stops the run before training. `skip`: it is reported and left out."""


@dataclass(frozen=True, config=STRICT)
class SourceConfig:
    """A further data set with the same labels; its folder lies beside the first one's."""

    reader: Reader
    folder: str
    draw: Positive = 1.0
    """Its photos are drawn so many times as often as the same class's photos of the first data set."""


@dataclass(frozen=True, config=STRICT)
class SplitConfig:
    """Grouped by lesion and near-duplicate, stratified by class; each data set on its own."""

    method: Annotated[str, _one_of(("grouped", "random"))] = "grouped"
    """`random` leaks lesions on purpose, for comparison; such a run is marked and cannot be converted."""
    folds: Annotated[int, _within(2)] = 5
    test_fold: Annotated[int, _within(-1)] = 0
    """-1: no test split, for a final model whose recipe was measured by cross-validation."""
    val_share: Annotated[float, _within(0, 0.5, above=True, below=True)] = 0.1
    """Of all photos, taken from those that are not in the test fold."""
    common_val: bool = False
    """The validation split is fold 0's for every test fold, less that fold's photos, and without a test fold too: no
    fold of a cross-validation trains on it, so the mean of their weights (train/experiments/soup.py) can be calibrated
    on it."""
    near_duplicate_bits: Count = 4
    """Photos whose perceptual hashes differ in at most so many of 64 bits belong together."""
    seed: Count = 0
    """Of folds and validation split; 0: the config's own. Trainings of other seeds can then share folds."""


@dataclass(frozen=True, config=STRICT)
class InputConfig:
    """Preprocessing; copied to the contract."""

    size_px: Annotated[int, _within(32, 1024)] = 224
    crop: Annotated[str, _one_of(CROPS)] = "center_square"
    crop_fraction: PartOfOne = 1.0
    decode_scaling: Annotated[str, _one_of(DECODE_SCALINGS)] = "jpeg_dct"
    decode_oversampling: Annotated[int, _within(1)] = 2
    mean: float = 128.0
    std: Positive = 128.0
    """Mean 128 and std 128 let a uint8 input tensor (scale 1/128, zero point 128) hold pixels unchanged."""


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Network and first weights."""

    backbone: str = "mobilenet_v2"
    alpha: float = 1.0
    """Width of mobilenet_v2."""
    dropout: ShareBelowOne = 0.0
    """Share of the pooled features that is dropped in training."""
    weights: str = "imagenet"
    """`imagenet`, `none`, or the path of a weights file."""
    start: str = ""
    """A `.tflite` of the same network and labels whose weights, head included, take the place of `weights`
    (train/networks/from_tflite.py), by path from the working directory or the checkout; empty: none."""
    start_trained_on: Annotated[
        str,
        Field(
            validation_alias=AliasChoices("start_trained_on", "start_learnt_from"),
            serialization_alias="start_learnt_from",
        ),
    ] = ""
    """Of `start`: the record or run (a folder with split.csv.gz or manifest.csv) that lists the photos it was trained
    on; none of them may be held out here. Empty: unknown, and the run is not for conversion. In config.json, and
    accepted here, under its old name `start_learnt_from`."""
    batch_norm_momentum: ShareBelowOne = 0.99
    """Keras ships 0.999: after the ~2,000 steps of a fine-tuning the statistics would still be ImageNet's. A short
    training from scratch needs 0.9, or what is left of the initial variance 1 outweighs the true one."""
    batch_norm_photos: Count = 0
    """Training photos, drawn as in training and preprocessed as on the device, that give new statistics after the last
    step (train/networks/batch_norm.py); 0 keeps those of the smaller, augmented views."""


@dataclass(frozen=True, config=STRICT)
class ImbalanceConfig:
    """Sampling and weights of rare classes."""

    sampling_exponent: float = -0.5
    """A photo is drawn with weight (photos of its class) ** exponent: 0 as the data are, -1 all classes alike."""
    lesion_exponent: float = 0.0
    """... times (photos of its lesion) ** exponent: -1 draws lesions alike, however often photographed."""
    oversampling: Share = 0.0
    """Above 0, in place of the exponents: an epoch shows every photo, and those of rarer classes again until each class
    fills this share of the commonest; 1 is the classical oversampling."""
    loss_exponent: float = 0.0
    """Loss weight (photos of its class) ** exponent, scaled to mean 1 over the drawn photos."""
    logit_adjustment: NotNegative = 0.0
    """Log of the drawn prior times this is added to the logits in the loss only (Menon et al. 2021); 1 trains a model
    that predicts as if all classes were equally common, and needs no decision.prior_correction."""


@dataclass(frozen=True, config=STRICT)
class MergedLabel:
    """Labels of one group that are trained and predicted as one."""

    code: str
    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """Of each photo's logits."""

    kind: Annotated[str, _one_of(("softmax", "focal", "binary_focal"))] = "softmax"
    """`softmax` cross-entropy; `focal` (Lin et al. 2017) on its softmax; `binary_focal`, one sigmoid a class."""
    focal_gamma: NotNegative = 2.0
    label_smoothing: Share = 0.05


@dataclass(frozen=True, config=STRICT)
class TilesConfig:
    """Squares of the full-size photo in place of the whole photo, shrunk."""

    grid: Count = 0
    """Evaluation averages the scores of grid x grid overlapping tiles, in reading order; 0: no tiles."""
    fraction: PartOfOne = 0.6
    """Side of a tile relative to the photo's square."""


@dataclass(frozen=True, config=STRICT)
class AugmentConfig:
    """Random changes of training photos; see train/training/augment.py for each."""

    flip: bool = True
    rotation_deg: float = 180.0
    zoom: Range = (0.75, 1.05)
    """Side of the region seen, relative to the whole square."""
    aspect: float = 0.1
    """Both sides are stretched apart by up to exp(+-aspect / 2)."""
    shift: float = 0.08
    inscribed: bool = False
    """A rotated view is shrunk to the largest upright square without a mirrored corner."""
    brightness: float = 0.15
    contrast: float = 0.2
    saturation: float = 0.2
    white_balance: float = 0.06
    blur: Share = 0.0
    """Share of photos blurred, by a Gaussian of up to 1.5 pixels."""
    jpeg: Share = 0.0
    """Share of photos encoded as JPEG of quality 30 to 95."""
    cutout: Share = 0.0
    """Share of photos with one grey square of up to 0.4 of the side (DeVries and Taylor 2017)."""
    mixup: NotNegative = 0.0
    """Alpha of the beta distribution by which pairs are mixed, labels too (Zhang et al. 2018); 0: none."""


@dataclass(frozen=True, config=STRICT)
class StageConfig:
    """Epochs of one image size and one set of trained layers."""

    name: str
    trains: Annotated[str, _one_of(("head", "all"))]
    """`head`: the backbone keeps its weights. `all`: the whole network is trained."""
    # The seed of an epoch is 1000 x stage + epoch (train/training/loop.py): more would draw a later stage's photos.
    epochs: Annotated[int, _within(1, 1000)]
    size_px: Annotated[int, _check(lambda px: px in range(32, 1025, 32), "a multiple of 32 up to 1024")]
    learning_rate: Positive
    """Peak of the cosine schedule."""
    frozen: str = ""
    """All layers up to the last one whose name contains this keep their weights and batch-norm statistics:
    `blocks_4/` of efficientnet_lite0."""
    final_learning_rate: NotNegative = 0.0
    zoom: Annotated[
        tuple[float, ...], _check(lambda x: not x or (len(x) == 2 and 0 < x[0] <= x[1]), INCREASING)
    ] = ()
    """In place of augment.zoom: a stage whose size is nearer to the device's needs views nearer to the device's."""
    batch: Annotated[int, _within(1)] = 32
    warmup_share: ShareBelowOne = 0.05


@dataclass(frozen=True, config=STRICT)
class OptimizerConfig:
    """AdamW."""

    weight_decay: NotNegative = 1e-4
    average_decay: ShareBelowOne = 0.0
    """Above 0: weights are averaged over steps with this decay (an exponential moving average, EMA), and the averaged
    ones are evaluated, kept and exported; 0.998 looks back over some 500 steps."""


@dataclass(frozen=True, config=STRICT)
class StopConfig:
    """Early stopping on the validation photos' balanced accuracy, and which weights are kept."""

    patience: Count = 0
    """A stage ends after so many epochs without a new best; 0 never."""
    keep: Annotated[str, _one_of(("best", "last"))] = "best"
    """`best`: of the epochs of the last stage, by balanced accuracy on the validation photos; `last`."""


@dataclass(frozen=True, config=STRICT)
class DistillConfig:
    """Distillation from a teacher's soft labels (Hinton et al. 2015)."""

    teacher: str = ""
    """A CSV (.gz) of photo_id and p_CODE columns, by path from the working directory or the checkout; empty: none."""
    share: Share = 0.5
    """Of the loss; the rest is the true label's."""
    temperature: Positive = 1.0
    """Both sides' logits are divided by it."""
    networks: tuple[()] = ()
    """Always empty: online distillation was removed, and its key stands in the config.json of older runs."""


@dataclass(frozen=True, config=STRICT)
class OutliersConfig:
    """Outlier exposure (Hendrycks et al. 2019): out-of-distribution (OOD) images trained towards equal scores.

    A low top score then means that a photo shows no lesion.
    """

    folder: str = ""
    """OOD images, beside the data set's folder; empty: none."""
    per_batch: Count = 0
    """OOD images added to each batch; half of them are generated (train/data/outliers.py)."""
    weight: NotNegative = 0.5
    """Of their mean loss beside the photos' mean loss."""


@dataclass(frozen=True, config=STRICT)
class DistributeConfig:
    """tf.distribute: the batch is divided over replicas."""

    strategy: Annotated[str, _one_of(("none", "mirrored", "multi_worker"))] = "none"
    """`mirrored`: every device of this machine; `multi_worker`: the workers of the TF_CONFIG variable."""


@dataclass(frozen=True, config=STRICT)
class CheckpointConfig:
    """What an interruption can cost."""

    every_steps: Annotated[int, _within(1)] = 50


@dataclass(frozen=True, config=STRICT)
class DecisionConfig:
    """From logits to predictions, after training: a finished run given another [decision] is evaluated again."""

    prior_correction: NotNegative = 0.0
    """Scores are divided by the training prior to this power, in the last layer's bias (logit adjustment, Menon et al.
    2021): 1 predicts as if all classes were equally common, which is what balanced accuracy rewards."""
    prior_of: Annotated[str, _one_of(("all", "first"))] = "all"
    """Where they are then equally common: in `all` data sets as they were drawn, or in the `first` alone. Phone photos
    are rich in carcinomas; what they add to that prior, adjusted logits would take from every dermatoscopic photo."""
    refer_share: ShareBelowOne = 0.1
    """The least certain share of photos that the model should refer to a person; 0 for no rule."""


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """A whole experiment."""

    name: Annotated[str, _check(_is_name, "text that is not blank, in one line")]
    data: DataConfig
    stage: Annotated[tuple[StageConfig, ...], _check(bool, "at least one [[stage]]")]
    seed: Count = 20181
    source: tuple[SourceConfig, ...] = ()
    merge: tuple[MergedLabel, ...] = ()
    split: SplitConfig = SplitConfig()
    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    imbalance: ImbalanceConfig = ImbalanceConfig()
    loss: LossConfig = LossConfig()
    tiles: TilesConfig = TilesConfig()
    augment: AugmentConfig = AugmentConfig()
    outliers: OutliersConfig = OutliersConfig()
    distill: DistillConfig = DistillConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    stop: StopConfig = StopConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    distribute: DistributeConfig = DistributeConfig()
    decision: DecisionConfig = DecisionConfig()

    @property
    def sources(self) -> tuple[DataConfig | SourceConfig, ...]:
        """All datasets, the first one first."""
        return (self.data, *self.source)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as config.json holds them: lists where the config has tuples."""
        return dict(ADAPTER.dump_python(self, mode="json", by_alias=True))

    @property
    def folders(self) -> tuple[str, ...]:
        """The data sets' folders, the first one first."""
        return tuple(source.folder for source in self.sources)

    def with_test_fold(self, fold: int) -> TrainConfig:
        """Return the experiment with another test fold; -1 for no test split."""
        return dataclasses.replace(self, split=dataclasses.replace(self.split, test_fold=fold))


ADAPTER = TypeAdapter(TrainConfig)
