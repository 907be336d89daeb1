"""What `python -m train` refuses before TensorFlow is even imported: exit status 2 and a message that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train.__main__ as command
from train.configs.schema import TrainConfig
from train.data.synthetic.dataset import draw_dataset

REPOSITORY = Path(__file__).parents[2]
PHANTOM = REPOSITORY / "train" / "configs" / "phantom.toml"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "train", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        timeout=120,
    )


def test_a_misspelt_key(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(PHANTOM.read_text().replace("sampling_exponent", "sampling_exponant"))
    done = run(config, "--workdir", tmp_path / "run")
    assert done.returncode == 2
    assert "did you mean imbalance.sampling_exponent?" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_data_folder_without_metadata(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = run(PHANTOM, "--workdir", tmp_path / "run", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "HAM10000_metadata.csv" in done.stderr


def test_no_data_folder_names_both_ways_to_give_one(tmp_path: Path) -> None:
    done = run(PHANTOM, "--workdir", tmp_path / "run", DERMEDGE_DATA=str(tmp_path))
    assert done.returncode == 2
    assert "--data" in done.stderr
    assert "DERMEDGE_DATA" in done.stderr


def test_a_folder_of_other_files_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = run(PHANTOM, "--workdir", tmp_path, "--data", tmp_path)
    assert done.returncode == 2
    assert "not a run directory" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_unusable_photos_are_all_named_and_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_dataset(data, photos=130, seed=2)
    photos = sorted(data.glob("*/*.jpg"))
    photos[0].unlink()
    photos[1].write_bytes(photos[1].read_bytes()[:300])
    done = run(PHANTOM, "--workdir", tmp_path / "run", "--data", data)
    assert done.returncode == 2
    assert photos[0].stem in done.stderr
    assert photos[1].stem in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("config.toml",), ("config.toml", "--work", "x")])
def test_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


def test_no_test_holds_no_part_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = []

    def stands_for_training(*_: object, config: TrainConfig, **__: object) -> dict[str, object]:
        held_out.append(config.split.test_fold)
        return {}

    monkeypatch.setattr(command, "run_experiment", stands_for_training)
    arguments = [str(PHANTOM), "--workdir", str(tmp_path / "run")]
    assert command.main(arguments) == command.main([*arguments, "--no-test"]) == 0
    assert held_out == [0, -1]
