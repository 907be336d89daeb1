"""The training of train/training/loop.py in PyTorch, for a machine with a GPU: `dermedge experiment torch RUN`.

Runs are prepared by train/experiments/torch/handover.py. Sampling, stages, schedule, losses, averaging and ranges are
those of train/training/loop.py; random numbers differ, and on a GPU layers compute in bfloat16 with float32 weights. A
run takes minutes there, so an interrupted one begins again; a finished one is left alone. PyTorch; no TensorFlow.
"""

from __future__ import annotations

import copy
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConfigInvalid
from train.artifacts.files import read_object, write_json, write_rows
from train.configs.loading import parse_config
from train.configs.schema import LossConfig, StageConfig, TrainConfig
from train.data.sampling import draw_epoch
from train.data.sources import find_data, reread
from train.evaluation.metrics import balanced_accuracy, softmax
from train.evaluation.predict import predict_logits, predict_tiles
from train.experiments.torch.augment import augment, mixup
from train.experiments.torch.handover import START, TRAINED, fingerprint, read_weights, write_weights
from train.experiments.torch.network import FORMAT, KerasNetwork
from train.training.inputs import (
    Inputs,
    Photos,
    TrainingData,
    learning_rate,
    require_finite,
    stage_augmentation,
    training_data,
)
from train.training.measure import measure

# Keras' own.
ADAM_EPSILON = 1e-7
# Of validation photos.
BATCH = 256


def train_run(
    run: Path,
    data_folder: Path | None,
    pixels: Path | None,
    device: str | None,
    *,
    measured: bool = False,
) -> None:
    """Train a prepared run: write RUN/trained.npz and RUN/history.csv.

    Args:
        run: Prepared by `dermedge experiment torch-setup`.
        data_folder: Of the first data set, as for `run_experiment`.
        pixels: Pixel cache; None is RUN/pixels.
        device: As PyTorch names it; None takes a GPU where there is one.
        measured: Evaluate it as well and finish the run, in place of trained.npz.

    Raises:
        RunInvalid: Not a prepared run. ConfigInvalid, DataInvalid, SplitLeaks: The photos are not those.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Metrics are those of float32.
    torch.backends.cudnn.allow_tf32 = False
    state = read_object(run / "run.json")
    if (run / TRAINED).exists() or state.get("status") == "done":
        print(f"{run}: already trained")
        return
    if measured and importlib.util.find_spec("sklearn") is None:
        raise ConfigInvalid(
            "--measure needs scikit-learn, which is not installed here",
            expected="numpy, Pillow, scipy, tqdm, torch and scikit-learn",
            fix="pip install scikit-learn, or leave --measure out and evaluate where the run was prepared",
        )
    weights, noted = read_weights(run / START)
    inputs = _inputs_of(run, data_folder, pixels)
    if measured and (photos := inputs.config.model.batch_norm_photos):
        raise ConfigInvalid(
            f"{run}: --measure cannot compute new batch-norm statistics",
            found=f"model.batch_norm_photos = {photos}",
            expected="0",
            fix="leave --measure out and finish the run where it was prepared",
        )
    started = time.monotonic()
    trainer = TorchTrainer(
        KerasNetwork(noted["keras"], weights),
        inputs,
        training_data(inputs, run),
        device,
    )
    history = trainer.train(run)
    noted_there = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - started, 1),
    }
    if measured:
        measure(inputs, _corrected(inputs, noted["keras"], trainer.kept, device), run)
        left = "its weights are on the machine that trained it"
        closed = {
            "trained_elsewhere": noted_there,
            "seconds": noted_there["seconds"],
            "not_for_conversion": left,
        }
        write_json(run / "run.json", {**state, **closed, "status": "done"})
    else:
        write_weights(run / TRAINED, trainer.kept, {"of": fingerprint(inputs), **noted_there})
    print(f"{run}: {len(history)} epochs, {time.monotonic() - started:.0f} s", flush=True)


def _inputs_of(run: Path, data_folder: Path | None, pixels: Path | None) -> Inputs:
    """What a prepared run was prepared with."""
    config = parse_config(read_object(run / "config.json"), str(run))
    contract = ModelContract.from_json((run / "contract.json").read_text(encoding="utf-8"))
    folder = find_data(config, data_folder)
    return Inputs(
        config, contract, reread(config, run / "manifest.csv", folder), folder, pixels or run / "pixels"
    )


def _corrected(
    inputs: Inputs, keras_json: str, weights: list[npt.NDArray[np.float32]], device: str
) -> Predictor:
    """A trained network, with the prior subtracted from its logits."""
    rows = inputs.training_rows()
    bias = weights[-1] - inputs.prior_correction(rows, inputs.draw_chances(rows))
    return Predictor(KerasNetwork(keras_json, [*weights[:-1], bias.astype(np.float32)]), device)


class Predictor:
    """A network as train/evaluation/predict.py calls it: pixels [n, s, s, 3] -> logits [n, classes], numpy float32."""

    def __init__(self, network: KerasNetwork, device: str) -> None:
        self.network, self.device = network.to(device).eval(), device

    @torch.no_grad()
    def predict_on_batch(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits."""
        given = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        logits: npt.NDArray[np.float32] = self.network(given).cpu().numpy()
        return logits


class _Shown:
    """A stage's squares on the device."""

    def __init__(self, photos: Photos, device: str) -> None:
        def put(pixels_u8: npt.NDArray[np.uint8]) -> torch.Tensor:
            return torch.from_numpy(np.array(pixels_u8)).to(device).permute(0, 3, 1, 2)

        one_hot = np.eye(photos.classes, dtype=np.float32)[photos.labels]
        teacher = one_hot if photos.teacher is None else photos.teacher.astype(np.float32)
        self.pixels = put(photos.pixels_u8)
        self.soft = torch.from_numpy(np.concatenate([one_hot, teacher], 1)).to(device)
        self.truth = torch.from_numpy(photos.labels).to(device)
        self.outliers = None if photos.outliers_u8 is None else put(photos.outliers_u8)
        self.beside = photos.outliers_per_batch if photos.outliers_u8 is not None else 0


class TorchTrainer:
    """Trains one network."""

    def __init__(
        self,
        network: KerasNetwork,
        inputs: Inputs,
        data: TrainingData,
        device: str,
    ) -> None:
        self.config: TrainConfig = inputs.config
        self.normalization = inputs.contract.normalization
        self.data, self.device = data, device
        self.network = network.to(device, memory_format=FORMAT)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = self._make_optimizer()
        self.generator = torch.Generator(device)
        self.steps = 0
        self.kept: list[npt.NDArray[np.float32]] = []
        prior = torch.tensor(np.log(np.maximum(data.prior, 1e-12)), dtype=torch.float32, device=device)
        self.adjustment = self.config.imbalance.logit_adjustment * prior
        self.class_weights = torch.tensor(data.loss_weights, dtype=torch.float32, device=device)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW; batch norms and biases do not decay."""
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        rest = [p for p in self.network.parameters() if p.ndim == 1]
        return torch.optim.AdamW(
            [
                {"params": kernels, "weight_decay": self.config.optimizer.weight_decay},
                {"params": rest, "weight_decay": 0.0},
            ],
            eps=ADAM_EPSILON,
            fused=self.device.startswith("cuda"),
        )

    def train(self, run: Path) -> list[dict[str, Any]]:
        """All stages; `kept` then holds the weights that stay.

        Returns:
            The rows of history.csv, which is written after every epoch.
        """
        history: list[dict[str, Any]] = []
        shown: dict[int, _Shown] = {}
        for index, stage in enumerate(self.config.stage):
            side = self.data.photos_by_stage[index].pixels_u8.shape[1]
            if side not in shown:
                shown = {side: _Shown(self.data.photos_by_stage[index], self.device)}
            best, since = -1.0, 0
            for epoch in range(stage.epochs):
                row = self._train_epoch(index, epoch, shown[side])
                history.append(row)
                write_rows(run / "history.csv", history)
                print(f"{run.name} " + " ".join(f"{k}={v}" for k, v in row.items()), flush=True)
                better = row["val_balanced_accuracy"] > best
                if better or self.config.stop.keep == "last":
                    self.kept = self._averaged().keras_weights()
                best, since = max(best, row["val_balanced_accuracy"]), 0 if better else since + 1
                if 0 < self.config.stop.patience <= since:
                    break
        return history

    def _averaged(self) -> KerasNetwork:
        network: KerasNetwork = self.average if self.config.optimizer.average_decay else self.network
        return network

    # ---------------------------------------------------------------- an epoch

    def _train_epoch(self, index: int, epoch: int, shown: _Shown) -> dict[str, Any]:
        config, stage = self.config, self.config.stage[index]
        views = stage_augmentation(config, stage)
        chosen = draw_epoch(self.data.drawn, (config.seed, index, epoch), self.data.epoch_photos)
        rows = torch.from_numpy(self.data.rows[chosen]).to(self.device)
        steps, classes = self.data.epoch_photos // stage.batch, len(self.class_weights)
        first = self.network.first_trained(stage.trains, stage.frozen)
        self.network.train_from(first, stage.trains == "all")
        self.generator.manual_seed((config.seed * 1000 + index) * 1000 + epoch)
        confusion = torch.zeros(classes * classes, dtype=torch.int64, device=self.device)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        rate = 0.0
        for step in range(steps):
            rate = learning_rate(stage, epoch * steps + step, steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            batch = rows[step * stage.batch : (step + 1) * stage.batch]
            truth = shown.truth[batch]
            loss, predicted = self._update(stage, views, batch, shown)
            loss_sum += loss
            confusion += torch.bincount(truth * classes + predicted, minlength=classes * classes)
        require_finite(float(loss_sum), stage, epoch)
        seen = confusion.view(classes, classes).cpu().numpy()
        recalls = np.diag(seen) / np.maximum(seen.sum(axis=1), 1)
        val_labels = self.data.val_labels
        probs = softmax(self._predict(index, stage).astype(np.float64))
        likelihood = np.log(probs[np.arange(len(val_labels)), val_labels] + 1e-12)
        return {
            "stage": index,
            "epoch": epoch,
            "name": stage.name,
            "size_px": stage.size_px,
            "learning_rate": rate,
            "train_loss": round(float(loss_sum) / max(steps, 1), 6),
            "train_balanced_accuracy": round(float(recalls[seen.sum(axis=1) > 0].mean()), 6),
            "val_loss": round(float(-likelihood.mean()), 6),
            "val_balanced_accuracy": round(balanced_accuracy(val_labels, probs.argmax(1), classes), 6),
            "val_accuracy": round(float((probs.argmax(1) == val_labels).mean()), 6),
        }

    def _predict(self, index: int, stage: StageConfig) -> npt.NDArray[Any]:
        pixels_u8 = self.data.val_by_stage[index]
        predictor = Predictor(self._averaged(), self.device)
        if grid := self.config.tiles.grid:
            return predict_tiles(predictor, pixels_u8, self.normalization, stage.size_px, grid)
        return predict_logits(predictor, pixels_u8, self.normalization, batch=BATCH)

    # ---------------------------------------------------------------- a step

    def _update(
        self, stage: StageConfig, views: Any, batch: torch.Tensor, shown: _Shown
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update the weights by one batch; return its loss, and the predictions [batch] of its photos."""
        squares, soft, photos = shown.pixels[batch], shown.soft[batch], len(batch)
        if shown.outliers is not None and shown.beside:
            which = torch.randint(
                len(shown.outliers), (shown.beside,), generator=self.generator, device=self.device
            )
            squares = torch.cat([squares, shown.outliers[which]])
        pixels = augment(squares, stage.size_px, views, self.generator)
        if views.mixup:
            mixed, soft = mixup(pixels[:photos], soft, views.mixup, self.generator)
            pixels = torch.cat([mixed, pixels[photos:]])
        pixels = (pixels - self.normalization.mean) / self.normalization.std
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.device != "cpu"):
            logits = self.network(pixels.contiguous(memory_format=FORMAT))
        loss = self._loss(logits.float(), soft, photos)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self._update_average()
        return loss.detach(), logits[:photos].detach().argmax(1)

    def _loss(self, logits: torch.Tensor, soft: torch.Tensor, photos: int) -> torch.Tensor:
        """As train/training/losses.py and the loop have it."""
        config, classes = self.config, logits.shape[1]
        targets, teacher = soft[:, :classes], soft[:, classes:]
        losses = photo_losses(logits[:photos], targets, config.loss, self.adjustment) * (
            targets @ self.class_weights
        )
        if config.distill.teacher:
            temperature, share = config.distill.temperature, config.distill.share
            softened = functional.softmax(torch.log(teacher + 1e-9) / temperature, 1)
            log_probs = functional.log_softmax(logits[:photos] / temperature, 1)
            losses = (1 - share) * losses - share * temperature**2 * (softened * log_probs).sum(1)
        loss = losses.mean()
        if len(logits) > photos:
            uniform = -functional.log_softmax(logits[photos:], 1).mean(1) - float(np.log(classes))
            loss = loss + config.outliers.weight * uniform.mean()
        return loss

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = self.config.optimizer.average_decay
        if not decay:
            return
        self.steps += 1
        decay = min(decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(_floats(self.average), _floats(self.network), 1 - decay)


def photo_losses(
    logits: torch.Tensor, targets: torch.Tensor, config: LossConfig, adjustment: torch.Tensor
) -> torch.Tensor:
    """Loss [n] of each photo against its true label: train/training/losses.py `photo_losses`."""
    smooth = targets * (1 - config.label_smoothing) + config.label_smoothing / logits.shape[1]
    adjusted = logits + adjustment
    if config.kind == "binary_focal":
        yes, no = functional.logsigmoid(adjusted), functional.logsigmoid(-adjusted)
        gamma = config.focal_gamma
        per_class = smooth * torch.exp(gamma * no) * -yes + (1 - smooth) * torch.exp(gamma * yes) * -no
        return per_class.sum(1)
    log_probs = functional.log_softmax(adjusted, 1)
    if config.kind == "focal":
        log_probs = log_probs * (1 - log_probs.exp()) ** config.focal_gamma
    return -(smooth * log_probs).sum(1)


def _floats(network: KerasNetwork) -> list[torch.Tensor]:
    """Weights and statistics, without the counters of batches."""
    return [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
