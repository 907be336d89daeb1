"""One meaning of the options of model files: signatures, limits, and trust, in every command that opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

import dermedge
from edge_runtime.engines import first_load, validation
from edge_runtime.errors import EXIT_MODEL_UNUSABLE
from tests.convert.compared import draw_table
from tests.edge_runtime.graphs import GraphFile
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

RESIZE_BILINEAR, RESIZE_OPTIONS = 23, 15
U8, I8 = (str(FIXTURES / f"tiny_{kind}.tflite") for kind in ("uint8", "int8"))
COMMANDS = {
    "inspect": [U8],
    "evaluate": [U8, "--data", "absent"],
    "compare": [U8, U8, "--data", "absent"],
    "robustness": [U8, "--data", "absent"],
    "card": ["absent", U8, "--out", "card.md"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_refuses_a_model_without_its_signature(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crypto = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = crypto.Ed25519PrivateKey.generate().public_key()
    public = tmp_path / "public.pem"
    public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    monkeypatch.chdir(tmp_path)
    assert dermedge.main([verb, *COMMANDS[verb], "--require-signature", str(public)]) == 3
    assert f"{U8}.sig" in capsys.readouterr().err
    assert dermedge.main([verb, *COMMANDS[verb], "--min-version", "1"]) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["public.pem"]


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The models that a child process tried first; none is known yet."""
    tried: list[bytes] = []
    real = first_load.run_probe

    def counted(question: object, model_bytes: bytes, limits: object) -> tuple[str, str]:
        tried.append(model_bytes)
        return real(question, model_bytes, limits)  # type: ignore[arg-type]

    monkeypatch.setenv(validation.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(validation, "_known", {})
    monkeypatch.setattr(first_load, "run_probe", counted)
    return tried


@pytest.fixture
def running(tmp_path: Path) -> dict[str, list[str]]:
    """The words of the commands that run models."""
    table, out = draw_table(tmp_path / "data", 4), str(tmp_path / "out")
    (tmp_path / "photo.jpg").write_bytes(p.jpeg())
    by_label = tmp_path / "photos" / "ash"
    by_label.mkdir(parents=True)
    for i, photo in enumerate(sorted(table.parent.glob("ash*.jpg"))):
        (by_label / f"{i}.jpg").write_bytes(photo.read_bytes())
    return {
        "parity": ["record", "--model", U8, str(tmp_path / "photo.jpg"), "--out", out],
        "compare": [U8, I8, "--data", str(table), "--out", out, "--workers", "2"],
        "robustness": [U8, I8, "--data", str(table), "--out", out, "--workers", "2", "--limit", "3"],
        "evaluate": [U8, "--data", str(by_label.parent), "--out", out, "--workers", "2"],
    }


@pytest.mark.parametrize("verb", ["parity", "compare", "robustness", "evaluate"])
def test_a_command_tries_an_unknown_model_once_unless_it_is_trusted(
    verb: str, running: dict[str, list[str]], children: list[bytes], tmp_path: Path
) -> None:
    words = running[verb]
    assert dermedge.main([verb, *words, "--trust"]) in (0, 1)
    # Neither here nor in a process of its own: those would keep their results.
    assert children == [] and not (tmp_path / "cache").exists()
    assert dermedge.main([verb, *words]) in (0, 1)
    models = [Path(word).read_bytes() for word in words if word in (U8, I8)]
    assert children == models


@pytest.mark.parametrize("verb", ["parity", "compare", "robustness", "evaluate"])
def test_a_command_names_the_option_that_trusts(
    verb: str,
    running: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(validation.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(validation, "_known", {})
    monkeypatch.setattr(first_load, "run_probe", lambda *_: ("", f"{validation.CRASHED} (signal SIGSEGV)"))
    assert dermedge.main([verb, *running[verb]]) == EXIT_MODEL_UNUSABLE
    assert "--trust" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--max-model-memory", "--max-model-work"])
@pytest.mark.parametrize("verb", [*COMMANDS, "parity"])
def test_a_command_takes_limits(
    verb: str,
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both are passed on: a resize to 4096 x 4096 takes 192 MiB and 0.2 billion multiply-adds."""
    monkeypatch.chdir(tmp_path)
    file = GraphFile("tiny_float32.tflite")
    flatbuffer = file.with_operator(RESIZE_BILINEAR, [1, 4096, 4096, 3], [4096, 4096], RESIZE_OPTIONS)
    (tmp_path / "big.tflite").write_bytes(flatbuffer + file.tail)
    words = {"parity": ["trace", U8, "absent.jpg"], **COMMANDS}[verb]
    words = ["big.tflite" if word == U8 else word for word in words]
    trust = [] if verb in ("card", "inspect") else ["--trust"]
    status = dermedge.main([verb, *words, *trust, option, "1"])
    said = capsys.readouterr()
    refused = "--max-model-memory" in said.err + said.out
    assert refused == (option == "--max-model-memory")
    if verb != "inspect":
        assert (status == EXIT_MODEL_UNUSABLE) == refused
    for number in ("0", "-1", "x", str(10**9)):
        with pytest.raises(SystemExit):
            dermedge.main([verb, *words, option, number])
