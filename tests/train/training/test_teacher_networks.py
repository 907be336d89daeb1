"""Networks that teach: what they answer is what their own run answers, and which are refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConfigInvalid, RunInvalid, SplitLeaks
from tests.train.training_runs import PLAIN, finish
from train.configs.loading import parse_config
from train.configs.schema import DistillConfig
from train.data.sources import reread
from train.evaluation.results import read_object
from train.experiments.torch.handover import START
from train.training.inputs import Inputs
from train.training.teacher_networks import FOLDER, keep_networks, lacking_networks, read_networks, view_px

pytestmark = [pytest.mark.tf, pytest.mark.slow]


@pytest.fixture(scope="module")
def taught_by(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of fold 1, in the folder of its cross-validation."""
    folder = tmp_path_factory.mktemp("teacher")
    config = folder / "config.toml"
    config.write_text(PLAIN.replace("folds = 4", "folds = 4\ntest_fold = 1"), encoding="utf-8")
    status, output = finish("plain", config, folder / "fold1", phantom)
    assert status == 0, output
    return folder / "fold1"


def inputs_of(run: Path, phantom: Path, name: str) -> Inputs:
    """Those of a run, with a teacher."""
    config = parse_config(read_object(run / "config.json"), str(run))
    config = dataclasses.replace(config, distill=DistillConfig(networks=(name,)))
    contract = ModelContract.from_json((run / "contract.json").read_text(encoding="utf-8"))
    return Inputs(config, contract, reread(config, run / "manifest.csv", phantom), phantom, run / "pixels")


def test_the_mean_of_the_answers_to_the_same_views(taught_by: Path, phantom: Path, tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    from train.training.loop import asked_teacher

    one = inputs_of(taught_by, phantom, str(taught_by.parent / "fold{fold}"))
    twice = dataclasses.replace(one.config, distill=DistillConfig(networks=one.config.distill.networks * 2))
    inputs = dataclasses.replace(one, config=twice)
    keep_networks(inputs, tmp_path)
    networks = read_networks(inputs, tmp_path)
    # The second is asked about views of twice the side, more cautiously.
    networks[1] = networks[1]._replace(temperature=3.0, size_ratio=2.0)
    views = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    teacher = asked_teacher(networks)
    assert teacher is not None
    model = tf_keras.models.load_model(taught_by / "model.keras", compile=False)
    larger = tf_keras.models.model_from_json(networks[1].keras_json)
    larger.set_weights(model.get_weights())
    plain = tf.nn.softmax(model(views, training=False) / inputs.contract.calibration.temperature)
    cautious = tf.nn.softmax(larger(tf.image.resize(views, [64, 64]), training=False) / 3.0)
    np.testing.assert_allclose(teacher(tf.constant(views)), (plain + cautious) / 2, rtol=1e-5)
    assert asked_teacher([]) is None


def test_a_kept_network_outlasts_its_run(taught_by: Path, phantom: Path, tmp_path: Path) -> None:
    lent = tmp_path / "lent"
    shutil.copytree(taught_by, lent)
    inputs, run = inputs_of(lent, phantom, str(lent)), tmp_path / "run"
    run.mkdir()
    keep_networks(inputs, run)
    shutil.rmtree(lent)
    keep_networks(inputs, run)
    assert len(read_networks(inputs, run)) == 1
    (run / FOLDER / "0.npz").unlink()
    with pytest.raises(RunInvalid, match="0.npz"):
        read_networks(inputs, run)


def test_what_cannot_teach_is_refused(taught_by: Path, phantom: Path, tmp_path: Path) -> None:
    inputs = inputs_of(taught_by, phantom, str(taught_by))
    leaking = dataclasses.replace(
        inputs,
        data=dataclasses.replace(inputs.data, assignment=dict.fromkeys(inputs.data.assignment, "test")),
    )
    with pytest.raises(SplitLeaks, match="held out here"):
        keep_networks(leaking, tmp_path)
    with pytest.raises(ConfigInvalid, match=r"distill.networks does not exist.*absent"):
        keep_networks(inputs_of(taught_by, phantom, str(tmp_path / "absent")), tmp_path)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(taught_by, unfinished)
    (unfinished / "model.keras").unlink()
    with pytest.raises(RunInvalid, match="the run has no network"):
        keep_networks(inputs_of(taught_by, phantom, str(unfinished)), tmp_path)
    state = read_object(unfinished / "run.json")
    (unfinished / "run.json").write_text(json.dumps({**state, "status": "training"}), encoding="utf-8")
    with pytest.raises(RunInvalid, match="not finished"):
        keep_networks(inputs_of(taught_by, phantom, str(unfinished)), tmp_path)
    brighter = dataclasses.replace(inputs.contract.normalization, mean=100.0)
    other = dataclasses.replace(inputs, contract=dataclasses.replace(inputs.contract, normalization=brighter))
    with pytest.raises(RunInvalid, match="other pixels"):
        keep_networks(other, tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_a_teacher_that_learns_elsewhere_is_left_to_that_machine(
    taught_by: Path, phantom: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(taught_by, teacher)
    (teacher / "model.keras").unlink()
    (teacher / START).touch()
    state = read_object(teacher / "run.json")
    (teacher / "run.json").write_text(json.dumps({**state, "status": "training"}), encoding="utf-8")
    inputs, run = inputs_of(taught_by, phantom, str(teacher)), tmp_path / "run"
    keep_networks(inputs, run, handed_over=True)
    assert lacking_networks(inputs, run) == [(run / FOLDER / "0.npz", teacher)]
    with pytest.raises(RunInvalid, match="not finished"):
        keep_networks(inputs, run)
    data = dataclasses.replace(inputs.data, assignment=dict.fromkeys(inputs.data.assignment, "test"))
    with pytest.raises(SplitLeaks, match="held out here"):
        keep_networks(dataclasses.replace(inputs, data=data), run, handed_over=True)
    (teacher / START).unlink()
    with pytest.raises(RunInvalid, match="not finished"):
        keep_networks(inputs, run, handed_over=True)
    assert not run.exists()


@pytest.mark.parametrize(("ratio", "side"), [(1.0, 192), (288 / 224, 247), (0.5, 96)])
def test_a_teacher_sees_a_lesion_as_large_as_on_its_device(ratio: float, side: int) -> None:
    assert view_px(192, ratio) == side
