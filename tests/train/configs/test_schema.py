"""Experiments' TOML files: strict, and every problem named."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigInvalid
from train.artifacts.labels import load_labels
from train.configs.loading import load_config, parse_config
from train.configs.schema import TrainConfig
from train.experiments.study import load_study

TRAIN = Path(__file__).parents[3] / "train"
CONFIGS = sorted((TRAIN / "configs").glob("*.toml"))
GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))

MINIMAL = """
name = "tiny"
[data]
reader = "folders"
folder = "photos"
labels = "ham10000"
[[stage]]
name = "all"
trains = "all"
epochs = 1
size_px = 64
learning_rate = 1e-3
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_minimal_config_gets_the_documented_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.input.size_px == 224
    assert config.imbalance.sampling_exponent == -0.5
    assert config.stage[0].learning_rate == 1e-3


def test_further_sources_mergers_and_a_run_without_a_test_part(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        "[[stage]]",
        '[split]\ntest_fold = -1\n[[source]]\nreader = "csv"\nfolder = "more"\n'
        '[[merge]]\ncode = "ker"\nname = "Keratoses"\nlabels = ["bkl", "df"]\n[[stage]]',
    )
    config = load_config(write(tmp_path, text))
    assert config.split.test_fold == -1
    assert [(source.folder, source.draw) for source in config.source] == [("more", 1.0)]
    assert config.merge[0].labels == ("bkl", "df")
    assert config.distribute.strategy == "none"


def test_there_are_configs_to_check() -> None:
    assert {"ham10000_mobilenetv2", "phantom"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_committed_configs_load_and_say_how_to_run_them(path: Path) -> None:
    config = load_config(path)
    load_labels(config.data.labels)
    header = path.read_text(encoding="utf-8").split("name =")[0]
    assert all(word in header for word in ("command", "time", "expect", path.name))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("epochs = 1", "epoch = 1", "unknown key stage[0].epoch; did you mean stage[0].epochs?"),
        ("epochs = 1", "", "stage[0].epochs is missing"),
        ("[data]", "[dta]", "unknown key dta; did you mean data?"),
        ("size_px = 64", "size_px = 65", "stage[0].size_px must be a multiple of 32 up to 1024 (got 65)"),
        ("size_px = 64", "size_px = true", "stage[0].size_px must be an integer (got true)"),
        ("learning_rate = 1e-3", "learning_rate = 0", "stage[0].learning_rate must be above 0 (got 0)"),
        ("epochs = 1", "epochs = 1\nzoom = [0.9, 0.5]", "stage[0].zoom must be an increasing pair above 0"),
        ('trains = "all"', 'trains = "head"\nfrozen = "x"', "stage[0].frozen and trains"),
        ("epochs = 1", "epochs = 1001", "stage[0].epochs must be 1-1000 (got 1001)"),
        ('name = "tiny"', 'name = " "', "name must be text"),
        ('name = "tiny"', 'name = "tiny"\nseed = -1', "seed must be at least 0 (got -1)"),
        ('trains = "all"', 'trains = "tail"', 'stage[0].trains must be one of head, all (got "tail")'),
        ('reader = "folders"', 'reader = "zip"', "data.reader must be one of ham10000"),
        ('name = "tiny"', 'name = "tiny"\nsplit = {folds = 1}', "split.folds must be at least 2 (got 1)"),
        (
            'name = "tiny"',
            'name = "tiny"\naugment = {zoom = [1.0]}',
            "augment.zoom must have 2 values (got [1.0])",
        ),
        (
            'name = "tiny"',
            'name = "tiny"\ndistill = {networks = ["b"]}',
            "distill.networks must have no values",
        ),
        (
            'name = "tiny"',
            'name = "tiny"\nmodel = {start_trained_on = "x"}',
            "start_trained_on needs model.start",
        ),
        ('name = "tiny"', 'name = "tiny"\nmodel = {weights = 2020-01-01}', "model.weights must be text"),
        ('name = "tiny"', 'name = "tiny"\naugment = 3', "augment must be a table (got 3)"),
        ('name = "tiny"', "name =", "not TOML"),
        *(
            ('name = "tiny"', f'name = "tiny"\n{table} = {{{key} = {value}}}', said)
            for table, key, value, said in [
                (
                    "loss",
                    "kind",
                    '"hinge"',
                    'loss.kind must be one of softmax, focal, binary_focal (got "hinge")',
                ),
                ("loss", "label_smoothing", "1.5", "loss.label_smoothing must be 0-1 (got 1.5)"),
                ("distribute", "strategy", '"tpu"', 'one of none, mirrored, multi_worker (got "tpu")'),
                ("split", "method", '"by_eye"', 'split.method must be one of grouped, random (got "by_eye")'),
                ("split", "test_fold", "-2", "split.test_fold must be at least -1 (got -2)"),
                ("split", "test_fold", "5", "split.test_fold must be -1 to split.folds - 1 (got 5)"),
                ("tiles", "fraction", "0.0", "tiles.fraction must be above 0 and at most 1 (got 0.0)"),
                ("distill", "temperature", "0", "distill.temperature must be above 0 (got 0)"),
                ("outliers", "per_batch", "-1", "outliers.per_batch must be at least 0 (got -1)"),
                ("stop", "keep", '"newest"', 'stop.keep must be one of best, last (got "newest")'),
                (
                    "optimizer",
                    "average_decay",
                    "2",
                    "optimizer.average_decay must be at least 0 and below 1 (got 2)",
                ),
                ("augment", "mixup", "-0.1", "augment.mixup must be at least 0 (got -0.1)"),
                ("outliers", "per_batch", "2", "outliers.per_batch needs outliers.folder"),
                ("optimizer", "weight_decay", "nan", "optimizer.weight_decay must be a finite number"),
                ("input", "mean", "inf", "input.mean must be a finite number"),
                ("tiles", "grid", "-2", "tiles.grid must be at least 0 (got -2)"),
                ("model", "dropout", "1.0", "model.dropout must be at least 0 and below 1 (got 1.0)"),
            ]
        ),
        (
            "[[stage]]",
            '[[source]]\nreader = "zip"\nfolder = "more"\ndraw = 0\n[[stage]]',
            "source[0].reader must be one of ham10000",
        ),
        (
            "[[stage]]",
            '[[source]]\nreader = "csv"\nfolder = "x"\ndraw = 0\n[[stage]]',
            "source[0].draw must be above 0",
        ),
        ("[[stage]]", '[[merge]]\ncode = "x"\nname = "X"\n[[stage]]', "merge[0].labels is missing"),
    ],
)
def test_problems_are_named(tmp_path: Path, before: str, after: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_config(write(tmp_path, MINIMAL.replace(before, after, 1)))
    assert said in caught.value.message


def test_a_byte_order_mark_is_no_part_of_the_config(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "\ufeff" + MINIMAL)) == load_config(write(tmp_path, MINIMAL))


def test_all_problems_are_named_together(tmp_path: Path) -> None:
    text = MINIMAL.replace("epochs = 1", "epochs = 0").replace("size_px = 64", "size_px = 7")
    with pytest.raises(ConfigInvalid) as caught:
        load_config(write(tmp_path, text))
    assert "stage[0].epochs must be 1-1000 (got 0)" in caught.value.message
    assert "stage[0].size_px must be a multiple of 32 up to 1024 (got 7)" in caught.value.message


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml")


@cache
def variants(path: Path) -> dict[str, TrainConfig]:
    return {found.name: found.config for found in load_study(path)}


@pytest.mark.parametrize("path", GOLDEN["sha256"])
def test_config_json_has_the_bytes_that_older_runs_hold(path: str) -> None:
    """The hashes were made by the code before pydantic; a run is resumed only where its config.json is the same."""
    name, _, variant = path.partition(": ")
    if not (TRAIN / name).is_file():
        pytest.skip(f"{name} was removed")
    config = variants(TRAIN / name)[variant] if variant else load_config(TRAIN / name)
    plain = config.to_dict()
    assert plain == GOLDEN["full"].get(path, plain)
    text = json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN["sha256"][path]
    assert parse_config(plain, path) == config


def test_the_old_name_of_a_key_is_read(tmp_path: Path) -> None:
    given = 'name = "tiny"\nmodel = {start = "a.tflite", KEY = "records/a"}'
    old, new = (
        load_config(write(tmp_path, MINIMAL.replace('name = "tiny"', given.replace("KEY", key), 1)))
        for key in ("start_learnt_from", "start_trained_on")
    )
    assert old == new
    assert old.model.start_trained_on == "records/a"
