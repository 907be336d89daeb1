"""Damaged run directories, configs and verdict files, and all that reads them, for the fuzzers.

A case of a run is the name of a file, a line break, and its new content; without a content it is another kind of file.
The readers are imported when a case is tried: they need what training needs, without TensorFlow.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import random
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from edge_runtime.errors import EdgeError
from tests.edge_runtime.contracts import TEXTS, change
from tests.fixtures import FIXTURES

REPOSITORY = FIXTURES.parents[1]
FOLDER = "FOLDS"
JSON_FILES = ("run.json", "config.json", "contract.json", "metrics.json", "split.json", "convert/int8.json")
TABLES = ("manifest.csv", "history.csv", "predictions_val.csv", "predictions_test.csv")
OF_FOLDS = (
    f"{FOLDER}/crossval.json",
    f"{FOLDER}/metrics.json",
    f"{FOLDER}/oof.csv",
    f"{FOLDER}/oof_int8.csv",
)
OTHERS = ("teacher.csv.gz", "start.npz", "pixels.npy", "labels.toml")
INSTEAD = ("nothing", "folder", "dangling", "loop", "pipe")
DEPTH = 100_000
CELLS = (
    *TEXTS,
    "1e999",
    "-1",
    "nan",
    '"',
    '""',
    ",",
    "../../x",
    "/etc/passwd",
    "x" * 300 + "/y",
    "7" * 5000,
    "=1+1",
    "\r",
)
TOML_VALUES = (
    *(
        "0",
        "-1",
        "1e400",
        "nan",
        "-inf",
        "9" * 5000,
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "true",
        '""',
        "'a'",
        "[]",
    ),
    *(
        "{}",
        "[[]]",
        "[1, 'a', {}]",
        "{a = {b = 1}}",
        '"\\u0000"',
        '"\\U0001F600"',
        "'''\na\n'''",
        "0x_",
        "1_000",
        "[1, 2]",
    ),
    *(
        '"a"',
        "[0.5, 1.5]",
        "1.5",
        "3",
        "224",
        '"../x"',
        '"' + "x" * 5000 + '"',
        "[" * 500 + "]" * 500,
        "[" * DEPTH,
    ),
    *(
        "{a=" * 300 + "1" + "}" * 300,
        "1e-320",
        "0.1",
        '["mel"]',
        '[["a", "b"]]',
        "0b1",
        "-0.0",
        "4",
        '"none"',
    ),
)


def _damaged_json(text: str, chance: random.Random) -> bytes:
    """A JSON document with other values, keys and types, or none that can be parsed."""
    document = [json.loads(text)]
    for _ in range(chance.choice((1, 1, 2, 5))):
        change(document, chance)
    written = json.dumps(document[0] if document else None, indent=chance.choice((None, 1)))
    kind = chance.randrange(30)
    if kind == 0:
        written = written[: chance.randrange(len(written) + 1)]
    elif kind == 1:
        written = chance.choice(("[", '{"a":')) * chance.choice((900, DEPTH))
    elif kind == 2:
        written = chance.choice(("", "null", "5", '"x"', "[]", "{}", "NaN", "\0", "7" * 5000, '{"why": 5}'))
    elif kind == 3:
        return written.encode() + bytes(chance.randrange(256) for _ in range(4))
    elif kind == 4:
        return written.encode(chance.choice(("utf-16", "utf-8-sig", "latin-1")), "replace")
    return written.encode("utf-8", "surrogatepass")


def _damaged_table(text: str, chance: random.Random) -> bytes:
    """A CSV with other cells, columns and rows, or none."""
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(chance.choice((1, 1, 2, 5))):
        row = chance.choice(rows[:2] if chance.random() < 0.3 else rows) or [""]
        at, kind = chance.randrange(max(1, len(row))), chance.randrange(9)
        if kind < 4:
            row[at : at + 1] = [chance.choice(CELLS)]
        elif kind == 4:
            rows.append(list(row))
        elif kind == 5:
            row[at:at] = [chance.choice(CELLS)]
        elif kind == 6:
            del row[at : at + 1]
        elif kind == 7:
            column = [other[at] for other in rows if len(other) > at]
            value = chance.choice((*CELLS, *column))
            for other in rows[1:]:
                other[at : at + 1] = [value]
        else:
            del rows[chance.choice((1, len(rows) - 1)) :]
    written = "\n".join(map(",".join, rows)) + "\n"
    if chance.randrange(20) == 0:
        written = chance.choice(("", "\n", "photo_id", "\0" * 9, '"' + written, written[: len(written) // 2]))
    return written.encode(chance.choice(("utf-8",) * 9 + ("utf-16",)), "surrogatepass")


def _damaged_bytes(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 8))):
        at = chance.randrange(min(len(changed), chance.choice((80, len(changed)))))
        changed[at] = chance.randrange(256)
    return bytes(changed[: chance.choice((len(changed), len(changed), len(changed) // 2, 3))])


# -------------------------------------------------------------------- verdicts


def verdict_case(seed: int, index: int) -> bytes:
    """A cached verdict, or the cached result of a first load."""
    chance = random.Random(f"verdict {seed} {index}")
    verdict = {
        "rung": "gpu",
        "accepted": chance.random() < 0.5,
        "why": "x",
        "operators_taken": 1,
        "operators": 2,
    }
    verdict |= {"largest_difference": 0.0, "tolerance": 1.0, "cpu_ms": 2.0, "rung_ms": 1.0}
    refusal = ["NoInterpreter", "no library", "a", "b", "c"]
    data = _damaged_json(json.dumps(chance.choice((verdict, verdict, refusal, "ok"))), chance)
    return (
        data
        if chance.random() < 0.9
        else bytes(chance.randrange(256) for _ in range(chance.choice((1, 70_000))))
    )


def try_verdict(data: bytes) -> str:
    """Reads it as both; the child, which is asked where it is of no use, accepts the model."""
    from edge_runtime.engines import fallback, first_load, validation
    from edge_runtime.model.model_file import open_model

    model = open_model(FIXTURES / "tiny_uint8.tflite")
    accepted = fallback.Verdict("gpu", True, "from a child", 1, 1, 0.0, 1.0, 2.0, 1.0)
    results = {"gpu": json.dumps(accepted.to_dict()), "cpu": "ok"}
    said = ""
    with (
        tempfile.TemporaryDirectory(prefix="verdicts.") as cache,
        mock.patch.dict(os.environ, DERMEDGE_CACHE=cache),
        mock.patch.dict(validation._known, clear=True),
        mock.patch.object(validation, "run_probe", lambda question, *_: (results[question["rung"]], "")),
        mock.patch.object(first_load, "run_probe", validation.run_probe),
    ):
        for _ in range(2):
            validation._known.clear()
            notes: list[str] = []
            verdict = fallback.validate(model, "gpu", is_delegate=False, threads=1, again=False, notes=notes)
            json.dumps(verdict.to_dict())
            try:
                first_load.require_safe(model, notes=notes)
                said = "answered" if verdict != accepted else "tried again"
            except EdgeError as error:
                said = error.code if error.problem and error.message else "WRONG silent"
            files = list((Path(cache) / "dermedge").iterdir())
            assert notes == [] and len(files) == 2
            for path in files:
                path.write_bytes(data)
    return said


# -------------------------------------------------------------------- configs


@functools.cache
def _configs() -> list[str]:
    names = sorted((REPOSITORY / "train/configs").rglob("*.toml"))
    return [path.read_text(encoding="utf-8") for path in names]


def config_case(seed: int, index: int) -> bytes:
    """A damaged TOML: an experiment, or a label set."""
    chance = random.Random(f"config {seed} {index}")
    lines = chance.choice(_configs()).splitlines()
    lines = [line for line in lines if not line.startswith("#")] or ["a = 1"]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, kind = chance.randrange(len(lines)), chance.randrange(10)
        key, found, _ = lines[at].partition(" = ")
        if found and kind < 5:
            lines[at] = f"{key} = {chance.choice(TOML_VALUES)}"
        elif kind == 5:
            lines[at:at] = [chance.choice(lines)]
        elif kind == 6:
            lines[at] = chance.choice(
                ("[a]", "[[stage]]", "[[source]]", "[[merge]]", "[data]", "x = 1", "= 1", "\0", "[" * 999)
            )
        elif kind == 7:
            lines[at] = lines[at].replace(
                key, chance.choice(("é", '"\\u202e"', "a.b", "folder", "x" * 3000, '""')), 1
            )
        elif kind == 8 and len(lines) > 1:
            del lines[at]
        else:
            lines[at:at] = [
                f"{chance.choice(('start', 'labels', 'zoom', 'code', 'size_px'))} = {chance.choice(TOML_VALUES)}"
            ]
    data = "\n".join(lines).encode()
    return data if chance.random() < 0.95 else _damaged_bytes(data, chance)


def try_config(data: bytes) -> str:
    """Reads it as an experiment, a label set and a study."""
    from train.artifacts.labels import load_labels
    from train.configs.loading import load_config
    from train.data.sources import find_data, merged_labels
    from train.experiments.study import load_study
    from train.taxonomy.tree import load_taxonomy

    path = _place("config.toml")
    path.write_bytes(data)

    def experiment() -> None:
        config = load_config(path)
        merged_labels(config)
        find_data(config, None)

    return _tried(
        experiment, lambda: load_labels(str(path)), lambda: load_study(path), lambda: load_taxonomy(str(path))
    )


# -------------------------------------------------------------------- runs


def run_case(seed: int, index: int) -> bytes:
    """One file of a run or a cross-validation, damaged."""
    chance = random.Random(f"run {seed} {index}")
    name = chance.choice((*JSON_FILES * 2, *TABLES * 2, *OF_FOLDS, *OTHERS))
    if chance.randrange(15) == 0:
        return f"{name}\n{chance.choice(INSTEAD)}".encode()
    good = _base() / (name if name.startswith(FOLDER) else f"{FOLDER}/fold0/{name}")
    data = good.read_bytes()
    if name.endswith(".json"):
        data = _damaged_json(data.decode(), chance)
    elif name.endswith(".csv"):
        data = _damaged_table(data.decode(), chance)
    elif name.endswith(".toml"):
        data = config_case(seed, index)
    else:
        data = _damaged_bytes(data, chance)
    return name.encode() + b"\n\n" + data


def try_run(data: bytes) -> str:
    """Everything that reads a run, without TensorFlow."""
    name, _, rest = data.partition(b"\n")
    folds = _place("folds")
    shutil.rmtree(folds, ignore_errors=True)
    shutil.copytree(_base() / FOLDER, folds, symlinks=True)
    path = folds.parent / "folds" / name.decode().removeprefix(f"{FOLDER}/")
    if not name.decode().startswith(FOLDER):
        path = folds / "fold0" / name.decode()
    path.unlink()
    if rest.startswith(b"\n"):
        path.write_bytes(rest[1:])
    else:
        make: dict[str, Callable[[], object]] = {
            "folder": path.mkdir,
            "dangling": lambda: path.symlink_to("not there"),
            "loop": lambda: path.symlink_to(path.name),
            "pipe": lambda: os.mkfifo(path),
            "nothing": lambda: None,
        }
        make[rest.decode()]()
    return _tried(*_readers(folds, data[-99:]))


def _readers(folds: Path, name: bytes) -> list[Callable[[], object]]:
    from convert import crossval as converted
    from convert.files import selection_marks
    from convert.inputs import read_photo_list, read_run, read_scores, require_float_contract
    from train.artifacts.run import read_contract
    from train.configs.loading import load_config
    from train.data.pixels import kept_pixels
    from train.data.sources import reread
    from train.evaluation.out_of_fold import read_answers
    from train.evaluation.results import read_finished
    from train.experiments.record import record_crossval, record_run
    from train.reports import report, sections
    from train.training.crossval import pool
    from train.training.distillation import read_soft_labels
    from train.training.inputs import Inputs
    from train.training.prepare import open_run

    for module in (report, sections):
        module.REPEATS = 20
    run, out, phantom = folds / "fold0", _place("out"), _base() / "phantom"
    config_file = _base() / FOLDER / "fold0" / "tiny.toml"
    config = load_config(config_file).with_test_fold(0)

    def conversion() -> None:
        found = read_run(run, phantom)
        require_float_contract(found)
        codes = [label.code for label in found.contract.labels]
        read_scores(run / "predictions_val.csv", codes)
        read_photo_list(run, codes, root=phantom)
        repr(found.sampling)

    def resumption() -> None:
        open_run(config, config_file, run)
        data = reread(config, run / "manifest.csv", phantom)
        inputs = Inputs(config, read_contract(run), data, phantom, run / "pixels")
        rows = inputs.training_rows()
        read_soft_labels(config.distill.__class__(teacher="x", share=0.5), run, data.manifest, rows)

    def pixels() -> None:
        photos = sorted(phantom.rglob("*.jpg"))[:2]
        assert kept_pixels(run / "pixels.npy", photos, read_contract(run), progress="").shape == (
            2,
            32,
            32,
            3,
        )

    def records() -> None:
        record_run(run, out)
        record_crossval(folds, out)

    def page() -> None:
        finished = [read_finished(run, data=phantom), read_finished(run, split="val"), read_finished(folds)]
        report.make_report([finished[zlib.crc32(name) % 3]], photos=False)

    def torch_weights() -> None:
        from train.experiments.torch.handover import read_weights

        read_weights(run / "start.npz")

    return [
        conversion,
        resumption,
        pixels,
        records,
        torch_weights,
        page,
        lambda: read_answers(folds),
        lambda: read_answers(folds, "int8"),
        lambda: pool(config, folds),
        lambda: converted._finished(folds),
        lambda: selection_marks(run / "convert" / "int8.tflite", [{"PHANTOM_00001"}]),
    ]


def _tried(*attempts: Callable[[], object]) -> str:
    """Calls all of them; returns the first refusal, or `answered`."""
    codes = []
    for attempt in attempts:
        try:
            attempt()
        except EdgeError as error:
            assert error.problem and error.message.strip(), attempt
            codes.append(error.code)
    return codes[0] if codes else "answered"


def _place(name: str) -> Path:
    """A path in a folder of this process."""
    return _scratch() / name


@functools.cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="damaged."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _base() -> Path:
    """A folder with a phantom and a cross-validation on it, in files of the right form."""
    import contextlib
    import gzip
    import io

    import numpy as np

    from tests.train.finished_runs import write_crossval
    from train.data.synthetic.dataset import draw_dataset

    folder = _place("base")
    folder.mkdir()
    folds = folder / FOLDER
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        draw_dataset(folder / "phantom", photos=130, seed=1)
        write_crossval(folds, folder / "phantom", temperatures=(1.5, 0.8))
    for run in sorted(folds.glob("fold*")):
        figures = {"balanced_accuracy": 0.5, "photos": 9, "selection": ["the temperature"]}
        outliers = {"real": {"photos": 3, "not_a_lesion_share": 0.5}}
        metrics = {"val": figures, "test": {**figures, "sources": {}}, "outliers": outliers}
        (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        (run / "model.keras").touch()
        (run / "config.toml").touch()
        (run / "labels.toml").write_text(_configs()[-1], encoding="utf-8")
    run, contract = (
        folds / "fold0",
        json.loads((folds / "fold0" / "contract.json").read_text(encoding="utf-8")),
    )
    codes = [label["code"] for label in contract["labels"]]
    manifest = (run / "manifest.csv").read_text(encoding="utf-8").splitlines()[1:]
    table = ["photo_id," + ",".join(f"p_{code}" for code in codes)]
    table += [f"{line.split(',')[0]},1" + ",0" * (len(codes) - 1) for line in manifest]
    (run / "teacher.csv.gz").write_bytes(gzip.compress("\n".join(table).encode(), mtime=0))
    np.savez(run / "start.npz", noted=np.array("{}"), w0000=np.zeros(9, np.float32))
    np.save(run / "pixels.npy", np.zeros((2, 32, 32, 3), np.uint8))
    (run / "convert").mkdir()
    chosen = {"set": "validation split", "chosen": ["the epoch"], "photo_ids": ["PHANTOM_00001"]}
    converted = {
        "schema_version": 1,
        "model": {},
        "options": {},
        "recipe": {},
        "run": {},
        "selection": [chosen],
    }
    (run / "convert" / "int8.json").write_text(json.dumps(converted), encoding="utf-8")
    text = (folds / "oof.csv").read_text(encoding="utf-8").replace("logit_", "p_").replace("-", "")
    (folds / "oof_int8.csv").write_text(text, encoding="utf-8")
    (folds / "metrics.json").write_text(json.dumps({"selection": []}), encoding="utf-8")
    (folds / "crossval.json").write_text(
        json.dumps({"config": {"data": {"labels": "ham10000"}}}), encoding="utf-8"
    )
    return folder
