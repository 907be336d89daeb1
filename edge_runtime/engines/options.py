"""The options of commands that open model files; each has one meaning in every command.

Imported only when a command line needs argparse.
"""

from __future__ import annotations

from argparse import ArgumentTypeError

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.model.flatbuffer import DEFAULT_LIMITS

if TYPE_CHECKING:
    from typing import Any

MAX_NUMBER = 100_000


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_NUMBER):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_NUMBER}")
    return int(text)


def _value(metavar: str, text: str) -> dict[str, Any]:
    return {"metavar": metavar, "help": text}


def _number(metavar: str, text: str, default: int | None = None) -> dict[str, Any]:
    return {"type": _positive, "default": default, "metavar": metavar, "help": text}


def _switch(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


OPTIONS: dict[str, dict[str, Any]] = {
    "--model": _value("M", "path of the .tflite file (default: the bundled model)"),
    "--top-k": _number("N", "number of labels shown as text (default: %(default)s)", 3),
    "--json": _switch("print one JSON object per line, with all scores"),
    "--threads": _number("N", "CPU threads, 1 to 64 (default: all cores for several photos, else 1)"),
    "--recursive": _switch("search subfolders too, neither hidden nor linked ones (default: off)"),
    "--list": _value("FILE", "read photo paths from FILE, one per line; - is stdin (default: none)"),
    "--null,-0": _switch("end names in --list by NUL, as find -print0 does (default: by line)"),
    "--watch": _value(
        "FOLDER", "classify photos that are or arrive in FOLDER, each once, until Ctrl-C (default: off)"
    ),
    "--only-new": _switch("leave photos that are in FOLDER of --watch at the start (default: off)"),
    "--state": _value(
        "FILE",
        "remember answers of --watch in FILE (default: dermedge/watch-HASH.jsonl in XDG_STATE_HOME or "
        "~/.local/state)",
    ),
    "--stream": _value(
        "FILE", "classify frames of a Motion-JPEG stream, of a pipe the newest; - is stdin (default: off)"
    ),
    "--csv": _value("FILE", "write a table, a line per photo as it is done (default: none)"),
    "--sort-into": _value("DIR", "copy photos to DIR/DECISION/LABEL, never over another file (default: off)"),
    "--skip-done": _switch(
        "go on with the FILE of --csv, or the JSON lines in the file that stdout goes to (default: off)"
    ),
    "--explain": _value(
        "OUT", "write a heat map of the predicted label to OUT.png, or into folder OUT (default: off)"
    ),
    "--require-signature": _value(
        "KEY", "require MODEL.sig, an Ed25519 signature by the public key in KEY, PEM (default: off)"
    ),
    "--min-version": _value(
        "[NAME:]N", "accept no older signed version than N, and no other model than NAME (default: any)"
    ),
    "--trust": _switch(
        "you made the model: do not try it in a child process first (default: an unknown model is tried once)"
    ),
    "--max-memory": _number(
        "MIB", "memory for photos while they are decoded (default: 7/8 of what is free, 1024 at most)"
    ),
    "--max-model-memory": _number(
        "MIB",
        "refuse a model whose computed tensors take more MiB (default: %(default)s)",
        DEFAULT_LIMITS.memory_mib,
    ),
    "--max-model-work": _number(
        "N", "refuse a model of more billion multiply-adds (default: %(default)s)", DEFAULT_LIMITS.gigamacs
    ),
    "--accelerator": _value(
        "NAME",
        "run on cpu, xnnpack, gpu, npu, edgetpu or auto; validated on the model's self-test first, falls "
        "back to the CPU (default: cpu)",
    ),
    "--delegate": _value(
        "LIB[:K=V,...]", "load an external TensorFlow Lite delegate, validated likewise (default: none)"
    ),
    "--bench": _number("N", "measure N runs of each photo (default: off)"),
    "--self-check": _switch("run the model's built-in self-test first"),
    "--print-contract": _switch("print the contract inside the model and exit"),
}
"""Names, separated by commas -> how argparse takes the option."""
