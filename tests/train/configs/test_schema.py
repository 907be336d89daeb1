"""Experiments' TOML files: strict, and every problem named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import ConfigInvalid
from train.artifacts.manifest import load_labels
from train.configs.loading import load_config

CONFIGS = sorted((Path(__file__).parents[3] / "train" / "configs").glob("*.toml"))

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
        ("epochs = 1", "epoch = 1", "stage[0].epoch is unknown; did you mean stage[0].epochs?"),
        ("epochs = 1", "", "stage[0].epochs is missing"),
        ("[data]", "[dta]", "dta is unknown; did you mean data?"),
        ("size_px = 64", "size_px = 65", "stage[0].size_px is 65, not a multiple of 32"),
        ("size_px = 64", "size_px = true", "stage[0].size_px is True, not of type int"),
        ("learning_rate = 1e-3", "learning_rate = 0", "stage[0].learning_rate is not positive"),
        ("epochs = 1", "epochs = 1\nzoom = [0.9, 0.5]", "stage[0].zoom is not an increasing pair above 0"),
        ('trains = "all"', 'trains = "head"\nfrozen = "x"', "stage[0].frozen names layers to keep"),
        ("epochs = 1", "epochs = 1001", "stage[0].epochs is 1001, not 1 to 1000"),
        ('name = "tiny"', 'name = " "', "name is empty"),
        ('name = "tiny"', 'name = "tiny"\nseed = -1', "seed is -1, which is negative"),
        ('trains = "all"', 'trains = "tail"', "stage[0].trains is 'tail', not one of head, all"),
        ('reader = "folders"', 'reader = "zip"', "data.reader is 'zip', not one of"),
        ('name = "tiny"', 'name = "tiny"\nsplit = {folds = 1}', "split.folds is 1"),
        ('name = "tiny"', 'name = "tiny"\naugment = {zoom = [1.0]}', "augment.zoom has 1 values, not 2"),
        (
            'name = "tiny"',
            'name = "tiny"\ndistill = {teacher = "a.csv", networks = ["b"]}',
            "distill has a teacher and networks",
        ),
        ('name = "tiny"', "name =", "not TOML"),
        *(
            ('name = "tiny"', f'name = "tiny"\n{table} = {{{key} = {value}}}', said)
            for table, key, value, said in [
                ("loss", "kind", '"hinge"', "loss.kind is 'hinge', not one of softmax, focal, binary_focal"),
                ("loss", "label_smoothing", "1.5", "loss.label_smoothing is 1.5, not in [0, 1]"),
                ("distribute", "strategy", '"tpu"', "'tpu', not one of none, mirrored, multi_worker"),
                ("split", "method", '"by_eye"', "split.method is 'by_eye', not one of grouped, random"),
                ("split", "test_fold", "-2", "split.test_fold is -2, not -1 to split.folds - 1"),
                ("split", "test_fold", "5", "split.test_fold is 5"),
                ("tiles", "fraction", "0.0", "tiles.fraction is not in (0, 1]"),
                ("distill", "temperature", "0", "distill.temperature is not positive"),
                ("outliers", "per_batch", "-1", "outliers.per_batch is -1, which is negative"),
                ("stop", "keep", '"newest"', "stop.keep is 'newest', not one of best, last"),
                ("optimizer", "average_decay", "2", "optimizer.average_decay is 2.0, not in [0, 1)"),
                ("augment", "mixup", "-0.1", "augment.mixup is -0.1, which is negative"),
                ("outliers", "per_batch", "2", "outliers.folder names none"),
                ("optimizer", "weight_decay", "nan", "optimizer.weight_decay is nan, not a finite number"),
                ("input", "mean", "inf", "input.mean is inf, not a finite number"),
                ("tiles", "grid", "-2", "tiles.grid is -2, which is negative"),
                ("model", "dropout", "1.0", "model.dropout is 1.0, not in [0, 1)"),
            ]
        ),
        (
            "[[stage]]",
            '[[source]]\nreader = "zip"\nfolder = "more"\ndraw = 0\n[[stage]]',
            "source[0].reader is 'zip', not one of ham10000",
        ),
        ("[[stage]]", '[[source]]\nreader = "csv"\nfolder = "x"\ndraw = 0\n[[stage]]', "source[0].draw is"),
        ("[[stage]]", '[[merge]]\ncode = "x"\nname = "X"\n[[stage]]', "merge[0].labels is missing"),
    ],
)
def test_problems_are_named(tmp_path: Path, before: str, after: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_config(write(tmp_path, MINIMAL.replace(before, after, 1)))
    assert said in caught.value.message


def test_all_problems_are_named_together(tmp_path: Path) -> None:
    text = MINIMAL.replace("epochs = 1", "epochs = 0").replace("size_px = 64", "size_px = 7")
    with pytest.raises(ConfigInvalid) as caught:
        load_config(write(tmp_path, text))
    assert "epochs is 0, not 1 to 1000" in caught.value.message
    assert "size_px is 7" in caught.value.message


def test_a_missing_config_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_config(tmp_path / "absent.toml")
