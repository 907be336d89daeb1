"""Importing edge_runtime has no side effects, and its exported names exist."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import dermedge
import edge_runtime

# Runs in a bare process: imports every module and prints what that did to the world.
PROBE = """
import importlib, json, os, pkgutil, sys, threading
sys.path.insert(0, sys.argv[1])
events = []
def audit(event, args):
    if event == "open":
        path, mode, flags = (*args, None, None, None)[:3]
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            events.append(f"opens {path} for writing")
    elif event.startswith(("socket.", "subprocess.", "os.mkdir", "os.system", "os.remove", "os.rename", "os.putenv",
                           "ctypes.dlopen", "shutil.", "tempfile.", "urllib.")):
        events.append(f"{event} {args!r}")
import edge_runtime
names = [m.name for m in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime.")]
# The standard library's own loading (ctypes opens libc's symbols) is not what is looked for.
import ctypes, ctypes.util, PIL.Image, PIL.ImageOps, zipfile, argparse, resource
environment, threads, path = dict(os.environ), threading.active_count(), list(sys.path)
sys.addaudithook(audit)
for name in ["edge_runtime", *names]:
    if not name.endswith("__main__"):
        importlib.import_module(name)
loaded = sorted({m.partition(".")[0] for m in sys.modules})
if dict(os.environ) != environment: events.append("changes the environment")
if threading.active_count() != threads: events.append("starts a thread")
if sys.path != path: events.append("changes sys.path")
print(json.dumps({"names": names, "events": events, "loaded": loaded}))
"""


def _probe(repository: Path, folder: Path) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-W", "error", "-c", PROBE, str(repository)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1, "a module prints when imported"
    report: dict[str, list[str]] = json.loads(done.stdout)
    return report


def test_importing_does_nothing(repository: Path, tmp_path: Path) -> None:
    report = _probe(repository, tmp_path)
    assert len(report["names"]) >= 8
    assert report["events"] == []
    assert list(tmp_path.iterdir()) == []
    heavy = {
        "ai_edge_litert",
        "convert",
        "keras",
        "numpy",
        "tensorflow",
        "tf_keras",
        "tflite_runtime",
        "train",
    }
    assert heavy & set(report["loaded"]) == set()


def test_the_probe_sees_an_import_that_does_something(tmp_path: Path) -> None:
    package = tmp_path / "edge_runtime"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "loud.py").write_text(
        "import os, pathlib\nos.environ['X'] = '1'\npathlib.Path('made').mkdir()\npathlib.Path('f').write_text('')\n"
    )
    events = "\n".join(_probe(tmp_path, tmp_path)["events"])
    for effect in ("os.mkdir", "opens", "changes the environment"):
        assert effect in events


def test_the_exported_names_are_the_public_ones() -> None:
    exported = edge_runtime.__all__
    assert "Classifier" in exported
    assert "Prediction" in exported
    assert len(set(exported)) == len(exported)
    for name in exported:
        assert getattr(edge_runtime, name) is not None
    assert set(exported) <= set(dir(edge_runtime))


def recommended(repository: Path) -> list[tuple[str, str]]:
    """Every text given as an error's fix: where it is, and the text."""
    found = []
    for package in ("edge_runtime", "train", "convert"):
        for path in sorted((repository / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "fix":
                    texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                    place = f"{path.relative_to(repository)}:{node.value.lineno}"
                    found.append((place, "".join(text for text in texts if isinstance(text, str))))
    return found


def test_commands_that_errors_recommend_exist(repository: Path) -> None:
    fixes = recommended(repository)
    assert len(fixes) > 100
    verbs = {verb for table in dermedge.VERBS.values() for verb in table}
    named = [
        (place, verb, rest)
        for place, text in fixes
        for verb, rest in re.findall(r"dermedge (\w+) ?(\S*)", text)
    ]
    assert len(named) > 5
    for place, verb, rest in named:
        assert verb in verbs or verb in ("wheel", "again"), f"{place}: dermedge {verb}"
        assert verb != "experiment" or rest in dermedge.EXPERIMENTS, f"{place}: dermedge {verb} {rest}"
    assert [f"{place}: {text}" for place, text in fixes if re.search(r"python -m \w+\.", text)] == []
