"""What a conversion may write over, and what it must not. No TensorFlow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import main
from convert.files import require_out
from edge_runtime.errors import UsageError
from tests.convert.synthetic_run import make_contract
from train.artifacts.files import whole_files

REPORT = {"schema_version": 1, "model": {}, "options": [], "recipe": {}, "run": {}}


def _convert(model: Path, out: Path, *options: str) -> int:
    return main([str(model), "--recipe", "float32", "--out", str(out), *options])


@pytest.mark.parametrize("name", ["contract", "run", "metrics", "split", "config"])
def test_the_files_of_a_run_are_not_replaced(name: str, run_without_model: Path, capsys: Any) -> None:
    before = (run_without_model / f"{name}.json").read_bytes()
    assert _convert(run_without_model, run_without_model / f"{name}.tflite") == 2
    assert f"{name}.json" in capsys.readouterr().err
    assert (run_without_model / f"{name}.json").read_bytes() == before
    assert not (run_without_model / f"{name}.tflite").exists()


def test_the_contract_of_a_foreign_model_is_not_replaced(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = tmp_path / "m.json"
    contract.write_text(make_contract().to_json())
    (tmp_path / "photos.csv").write_text("path,label,split\n")
    (tmp_path / "link").symlink_to(tmp_path)
    before = contract.read_bytes()
    monkeypatch.chdir(tmp_path)
    given = ("--contract", "m.json", "--manifest", "photos.csv")
    for out in (tmp_path / "m.tflite", Path("m.tflite"), tmp_path / "link" / "m.tflite"):
        assert _convert(tmp_path / "net.keras", out, *given) == 2
        assert str(out.with_suffix(".json")) in capsys.readouterr().err
        assert contract.read_bytes() == before


def test_only_the_report_of_a_conversion_is_replaced(tmp_path: Path) -> None:
    out, beside = tmp_path / "m.tflite", tmp_path / "m.json"
    require_out(out)
    for content in ("{}", "[]", "no JSON", make_contract().to_json(), json.dumps({**REPORT, "run": "x"})):
        beside.write_text(content)
        with pytest.raises(UsageError) as caught:
            require_out(out)
        assert caught.value.found == str(beside)
    beside.write_text(json.dumps(REPORT))
    require_out(out)
    with pytest.raises(UsageError) as caught:
        require_out(out, [tmp_path / "elsewhere" / ".." / "m.json"])
    assert caught.value.found == str(beside)


def test_a_folder_that_is_closed_is_said_before_anything_is_read(
    run_without_model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Asked by name: a superuser, as in many containers, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode == os.W_OK))
    assert _convert(run_without_model, tmp_path / "m.tflite") == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_work_folder_that_holds_the_model_is_not_removed(tmp_path: Path, capsys: Any) -> None:
    from tests.convert.synthetic_run import write_manifest, write_photos

    write_manifest(tmp_path, write_photos(tmp_path, 10))
    (tmp_path / "contract.json").write_text(make_contract().to_json())
    model = tmp_path / "m.convert" / "net.keras"
    model.parent.mkdir()
    model.write_bytes(b"a model")
    given = ("--contract", str(tmp_path / "contract.json"), "--manifest", str(tmp_path / "manifest.csv"))
    assert _convert(model, tmp_path / "m.tflite", *given) == 2
    assert str(model.parent) in capsys.readouterr().err
    assert model.read_bytes() == b"a model"


def test_files_are_whole_also_when_a_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are new, or both old; only between two renames a failure leaves the first one new."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text("old")
    with pytest.raises(RuntimeError), whole_files(paths) as temporaries:
        temporaries[0].write_text("new")
        raise RuntimeError
    assert [path.read_text() for path in paths] == ["old", "old"]
    original = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target.name == "b":
            raise OSError("the disk failed")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError), whole_files(paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert [path.read_text() for path in paths] == ["new", "old"]
    assert sorted(tmp_path.iterdir()) == paths
