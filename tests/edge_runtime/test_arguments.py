"""What edge-classify may be asked, without a process: what cannot be meant is refused, and the rest is done."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from edge_runtime import cli, signature, watch
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ImageNotFound, ModelUnsigned, UsageError
from edge_runtime.model_file import ModelFile
from edge_runtime.photos import named_photos
from tests.fixtures import FIXTURES
from tests.fixtures.bad_models import good, with_contract

U8 = str(FIXTURES / "tiny_uint8.tflite")
WITH_A_VALUE = (
    "--model", "--list", "--watch", "--require-signature", "--accelerator", "--delegate", "--explain",
)  # fmt: skip


@pytest.mark.parametrize("option", WITH_A_VALUE)
def test_an_unset_variable_is_no_option(option: str) -> None:
    with pytest.raises(UsageError, match=f"^{option} is empty"):
        cli.parse(["x.jpg", option, ""])


@pytest.mark.parametrize(
    "others",
    [
        ["--delegate", "x.so"],
        ["--accelerator", "gpu"],
        ["--threads", "2"],
        ["--self-check"],
        ["--list", "-"],
        ["x.jpg"],
    ],
    ids=" ".join,
)
def test_print_contract_ignores_nothing(others: list[str]) -> None:
    with pytest.raises(UsageError, match="--print-contract stands alone"):
        cli.parse(["--print-contract", *others])


def test_print_contract_verifies_the_signature(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(model: ModelFile, key: str) -> None:
        raise ModelUnsigned(f"{model.path} by {key}")

    monkeypatch.setattr(signature, "require_signature", refuse)
    assert cli.main(["--print-contract", "--model", U8, "--require-signature", "key.pem"]) == 3
    assert capsys.readouterr() == ("", f"error: {U8} by key.pem\n")


def test_a_contract_is_json_in_every_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model.tflite"
    words = "caf\u00e9, \ud53c\ubd80, \U0001f52c"
    model.write_bytes(with_contract(good(), lambda contract: contract.update(intended_use=words)))
    for encoding in ("ascii", "latin-1", "utf-8"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert cli.main(["--print-contract", "--model", str(model)]) == 0
        assert json.loads(written.getvalue().decode("utf-8"))["intended_use"] == words
        assert ModelContract.from_json(written.getvalue()).intended_use == words


def test_main_returns_a_status_whatever_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == cli.main(["--help"]) == 0
    assert cli.main(["--top-k", "none"]) == cli.main([]) == 2
    assert "edge-classify 0.1.0" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--watch", "--explain"])
def test_who_takes_photos_one_by_one_gives_the_threads_to_the_inference(option: str, tmp_path: Path) -> None:
    photos = ["a.jpg", "b.jpg"] if option == "--explain" else []
    words = ["--model", U8, "--threads", "2", option, str(tmp_path), *photos]
    with cli._open_classifier(cli.parse(words)) as classifier:
        assert classifier.engine.threads == 2
    with cli._open_classifier(cli.parse(["--model", U8, "--threads", "2", "a.jpg", "b.jpg"])) as classifier:
        assert classifier.engine.threads == 1


def test_a_list_that_cannot_be_read_does_not_stop_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "arrivals", lambda folder: iter([f"{folder}/new.jpg"]))
    (missing, error), arrived = named_photos(cli.parse(["--list", "/none.txt", "--watch", str(tmp_path)]))
    assert missing == "/none.txt" and isinstance(error, ImageNotFound)
    assert "the list of photos cannot be read" in error.message
    assert arrived == f"{tmp_path}/new.jpg"
