"""What an experiment can be told, as frozen dataclasses; train/configs/loading.py reads them from TOML. stdlib only.

Every default stands in this file; `RUN/config.json` holds every value that a run really used.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

READERS = ("ham10000", "pad_ufes_20", "isic2018_task3", "folders", "csv")
TRAINS = ("head", "all")
LOSSES = ("softmax", "focal", "binary_focal")
STRATEGIES = ("none", "mirrored", "multi_worker")


@dataclass(frozen=True)
class DataConfig:
    """Which photos."""

    reader: str
    """`ham10000`, `folders` or `csv`."""
    folder: str
    """The data set's folder inside the data root (`--data` names the folder itself)."""
    labels: str
    """A file of train/configs/labels without its ending, or a path to such a TOML."""
    on_problem: str = "refuse"
    """`refuse`: any unusable photo stops the run before training. `skip`: it is reported and left out."""


@dataclass(frozen=True)
class SourceConfig:
    """A further data set with the same labels; its folder lies beside the first one's."""

    reader: str
    folder: str
    draw: float = 1.0
    """Its photos are drawn so many times as often as the same class's photos of the first data set."""


@dataclass(frozen=True)
class SplitConfig:
    """Grouped by lesion and near-duplicate, stratified by class; each data set on its own."""

    method: str = "grouped"
    """`grouped`. `random` leaks lesions on purpose, to show what it would have reported; such a run is marked and
    cannot be converted."""
    folds: int = 5
    test_fold: int = 0
    """-1: no test part, for a model that is to be shipped and was measured by cross-validation."""
    val_share: float = 0.1
    """Of all photos, taken from those that are not in the test fold."""
    common_val: bool = False
    """Val is fold 0's for every test fold, less that fold's photos, and without a test fold too: no fold of a
    cross-validation learns from it, so the mean of their weights (train/experiments/soup.py) can be calibrated on
    it."""
    near_duplicate_bits: int = 4
    """Photos whose perceptual hashes differ in at most so many of 64 bits belong together."""
    seed: int = 0
    """Of the folds and the validation part; 0: the config's own seed. With it, trainings of other seeds answer for the
    same folds."""


@dataclass(frozen=True)
class InputConfig:
    """Goes into the contract as it stands."""

    size_px: int = 224
    crop: str = "center_square"
    crop_fraction: float = 1.0
    decode_scaling: str = "jpeg_dct"
    decode_oversampling: int = 2
    mean: float = 128.0
    std: float = 128.0
    """Mean 128 and std 128 let a uint8 input tensor (scale 1/128, zero point 128) hold pixels unchanged."""


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and from where its first weights come."""

    backbone: str = "mobilenet_v2"
    alpha: float = 1.0
    """Width of mobilenet_v2."""
    dropout: float = 0.0
    """Share of the pooled features that is dropped in training."""
    weights: str = "imagenet"
    """`imagenet`, `none`, or the path of a weights file."""
    start: str = ""
    """A `.tflite` of the same network and labels whose weights, head included, take the place of `weights`
    (train/networks/from_tflite.py), by path from the working directory or the checkout; empty: none."""
    start_learnt_from: str = ""
    """Of `start`: the record or run (a folder with split.csv.gz or manifest.csv) that says which photos it has learnt;
    none of them may be held out here. Empty: unknown, and figures of test photos are marked as such."""
    batch_norm_momentum: float = 0.99
    """Keras ships 0.999: after the ~2,000 steps of a fine-tuning the statistics would still be ImageNet's. A short
    training from scratch needs 0.9, or what is left of the initial variance 1 outweighs the true one."""
    batch_norm_photos: int = 0
    """So many training photos, drawn as training draws them and seen as the device sees them, give the statistics after
    the last step (train/networks/batch_norm.py); 0 keeps those of the smaller, augmented views."""


@dataclass(frozen=True)
class ImbalanceConfig:
    """Rare classes are drawn more often, or weigh more in the loss."""

    sampling_exponent: float = -0.5
    """A photo is drawn with weight (photos of its class) ** exponent: 0 as the data are, -1 all classes alike."""
    lesion_exponent: float = 0.0
    """... times (photos of its lesion) ** exponent: -1 draws lesions alike, however often photographed."""
    oversampling: float = 0.0
    """Above 0, in place of the exponents: an epoch shows every photo, and those of rarer classes again until each class
    fills this share of the commonest; 1 is the classical oversampling."""
    loss_exponent: float = 0.0
    """Loss weight (photos of its class) ** exponent, scaled to mean 1 over the drawn photos."""
    logit_adjustment: float = 0.0
    """Log of the drawn prior times this is added to the logits in the loss only (Menon et al. 2021); 1 trains a model
    that answers as if all classes were equally common, and needs no decision.prior_correction."""


@dataclass(frozen=True)
class MergedLabel:
    """Labels of one group that are trained and answered as one."""

    code: str
    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class LossConfig:
    """Of each photo's logits."""

    kind: str = "softmax"
    """`softmax` cross-entropy; `focal` (Lin et al. 2017) on its softmax; `binary_focal`, one sigmoid a class."""
    focal_gamma: float = 2.0
    label_smoothing: float = 0.05


@dataclass(frozen=True)
class TilesConfig:
    """Squares of the full-size photo in place of the whole photo, shrunk ("chipping")."""

    grid: int = 0
    """Evaluation averages the scores of grid x grid overlapping tiles, in reading order; 0: no tiles."""
    fraction: float = 0.6
    """Side of a tile relative to the photo's square."""


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training photos; see train/training/augment.py for each."""

    flip: bool = True
    rotation_deg: float = 180.0
    zoom: tuple[float, float] = (0.75, 1.05)
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
    blur: float = 0.0
    """Share of photos blurred, by a Gaussian of up to 1.5 pixels."""
    jpeg: float = 0.0
    """Share of photos encoded as JPEG of quality 30 to 95."""
    cutout: float = 0.0
    """Share of photos with one grey square of up to 0.4 of the side (DeVries and Taylor 2017)."""
    mixup: float = 0.0
    """Alpha of the beta distribution by which pairs are mixed, labels too (Zhang et al. 2018); 0: none."""


@dataclass(frozen=True)
class StageConfig:
    """A stretch of training with one size and one set of trained layers."""

    name: str
    trains: str
    """`head`: the backbone keeps its weights. `all`: the whole network learns."""
    epochs: int
    size_px: int
    learning_rate: float
    """Peak of the cosine schedule."""
    frozen: str = ""
    """All layers up to the last one whose name contains this keep their weights and batch-norm statistics:
    `blocks_4/` of efficientnet_lite0 saves 44 % of a step at 160 px."""
    final_learning_rate: float = 0.0
    zoom: tuple[float, ...] = ()
    """In place of augment.zoom: a stage whose size is nearer to the device's needs views nearer to the device's."""
    batch: int = 32
    warmup_share: float = 0.05


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW."""

    weight_decay: float = 1e-4
    average_decay: float = 0.0
    """Above 0: weights are averaged over steps with this decay (an exponential moving average, EMA), and the averaged
    ones are measured, kept and exported; 0.998 looks back over some 500 steps."""


@dataclass(frozen=True)
class StopConfig:
    """Early stopping on the validation photos' balanced accuracy, and which weights stay."""

    patience: int = 0
    """A stage ends after so many epochs without a new best; 0 never."""
    keep: str = "best"
    """`best`: of the epochs of the last stage, by balanced accuracy on the validation photos; `last`."""


@dataclass(frozen=True)
class DistillConfig:
    """Learning from a teacher's soft labels (Hinton et al. 2015): from a file, or from networks that are asked."""

    teacher: str = ""
    """A CSV (.gz) of photo_id and p_CODE columns, by path from the config or from the checkout; empty: none."""
    share: float = 0.5
    """Of the loss; the rest is the true label's."""
    temperature: float = 1.0
    """Both sides' logits are divided by it."""
    networks: tuple[str, ...] = ()
    """Finished runs in its place, whose networks are asked about each view: train/training/teacher_networks.py."""


@dataclass(frozen=True)
class OutliersConfig:
    """Outlier exposure (Hendrycks et al. 2019): pictures on which the model learns to answer all classes alike.

    A low top score then means that a photo shows no lesion.
    """

    folder: str = ""
    """Ordinary pictures, beside the data set's folder; empty: none."""
    per_batch: int = 0
    """Pictures added to each batch; half of them are generated (train/data/outliers.py)."""
    weight: float = 0.5
    """Of their mean loss beside the photos' mean loss."""


@dataclass(frozen=True)
class DistributeConfig:
    """tf.distribute: the batch is divided over replicas."""

    strategy: str = "none"
    """`none`; `mirrored`: every device of this machine; `multi_worker`: the workers of the TF_CONFIG variable."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What an interruption can cost."""

    every_steps: int = 50


@dataclass(frozen=True)
class DecisionConfig:
    """From logits to answers, after training: a finished run can be given another [decision] and is measured again."""

    prior_correction: float = 0.0
    """Scores are divided by the training prior to this power, in the last layer's bias (logit adjustment, Menon et al.
    2021): 1 answers as if all classes were equally common, which is what balanced accuracy asks for."""
    prior_of: str = "all"
    """Where they are then equally common: in `all` data sets as they were drawn, or in the `first` alone. Phone photos
    are rich in carcinomas; what they add to that prior, adjusted logits would take from every dermatoscopic photo."""
    refer_share: float = 0.1
    """The least certain share of photos that the model should refer to a person; 0 for no rule."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole experiment."""

    name: str
    data: DataConfig
    stage: tuple[StageConfig, ...]
    seed: int = 20181
    source: tuple[SourceConfig, ...] = ()
    merge: tuple[MergedLabel, ...] = ()
    split: SplitConfig = field(default_factory=SplitConfig)
    input: InputConfig = field(default_factory=InputConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    imbalance: ImbalanceConfig = field(default_factory=ImbalanceConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    tiles: TilesConfig = field(default_factory=TilesConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    outliers: OutliersConfig = field(default_factory=OutliersConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    distribute: DistributeConfig = field(default_factory=DistributeConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, equal to what is read back from their JSON: lists where the config has tuples."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain
