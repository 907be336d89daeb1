"""`dermedge compare` on tiny models: metrics, refusals, integrity errors. No TensorFlow."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from convert.comparison import compare, layer_probe, workers
from convert.comparison import report as comparison
from convert.comparison.compare import main
from convert.comparison.workers import PhotoScores, Workers
from convert.inputs import Photo, PhotoList
from convert.tflite.reader import read_structure
from edge_runtime.contract import Label
from edge_runtime.errors import InterpreterBroken, ModelMismatch, NotATfliteFile
from edge_runtime.model.model_file import open_model
from tests.convert.compared import draw_table, with_contract
from tests.fixtures import FIXTURES
from tests.fixtures.bad_models import with_nan_weights
from train.artifacts.selection import mark

REPOSITORY = Path(__file__).parents[3]
INT8, UINT8, FLOAT = (FIXTURES / f"tiny_{name}.tflite" for name in ("int8", "uint8", "float32"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_table(tmp_path_factory.mktemp("photos"))


def _run(models: list[Path], table: Path, out: Path, *options: str) -> int:
    return main([*map(str, models), "--data", str(table), "--out", str(out), *options])


def _read(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.loads += [value for name, value in given.items() if name == "src" and value]
        self.ids |= {given["id"]} - {None} if "id" in given else set()  # type: ignore[arg-type]
        self.links |= {given["href"] or ""} if "href" in given else set()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def compared(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 model against the uint8 one: the same weights, so the same scores."""
    out = tmp_path_factory.mktemp("compared") / "out"
    assert _run([UINT8, INT8], table, out) == 0
    return out


def test_a_report_holds_the_metrics_of_both_models(compared: Path) -> None:
    report = _read(compared)
    assert [model["name"] for model in report["models"]] == ["tiny_uint8", "tiny_int8"]
    for model, path in zip(report["models"], (UINT8, INT8), strict=True):
        assert model["bytes"] == path.stat().st_size
        assert model["operators"]["CONV_2D"] == 1
        assert model["caught"] == []
        assert model["ms_per_photo"] > 0
        value, low, high = model["figures"]["balanced_accuracy"]
        assert 0 <= low <= value <= high <= 1
        assert set(model["figures"]["recall"]) == {"ash", "brick", "cyan"}
        assert 0 <= model["figures"]["expected_calibration_error"][0] <= 1
    assert report["remarks"] == []
    (pair,) = report["pairs"]
    assert pair["answers_changed"] == len(pair["flips"])
    assert {"sex", "age"} == set(pair["groups"])
    assert set(pair["classes"]) == {"ash", "brick", "cyan"}
    assert report["photos"]["answered"] == 60 and report["photos"]["lesions"] == 30
    assert report["timing"]["inference_seconds"] <= report["timing"]["answering_seconds"]


def test_scores_are_those_of_the_runtime(table: Path) -> None:
    from convert.inputs import read_photo_list
    from edge_runtime import Classifier

    photos = read_photo_list(table, ["ash", "brick", "cyan"]).photos[::7]
    models = [open_model(path) for path in (INT8, FLOAT)]
    with Workers(models, 2) as pool:
        measured = compare.measure(models, photos, pool)
    for k, path in enumerate((INT8, FLOAT)):
        with Classifier.open(path) as classifier:
            for i, photo in enumerate(photos):
                expected = classifier.classify(photo.path).scores
                found = dict(zip(expected, measured.results[i].scores[0][k], strict=True))
                total = sum(found.values())
                assert {code: value / total for code, value in found.items()} == pytest.approx(
                    expected, abs=1e-6
                )


def test_the_function_returns_what_the_command_reports(
    compared: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import convert

    monkeypatch.chdir(tmp_path)
    result = convert.compare([str(UINT8), INT8], table, layers=False)
    assert list(tmp_path.iterdir()) == [] and result.files == ()
    report = _read(compared)
    figures = json.loads(json.dumps([model["figures"] for model in result.models]))
    assert figures == [model["figures"] for model in report["models"]]
    (pair,) = result.pairs
    assert pair["difference"] == report["pairs"][0]["difference"]
    assert result.verdicts == [pair["verdict"]]
    assert result.integrity_errors == {} and not result.interrupted
    with pytest.raises(ModelMismatch):
        convert.compare([INT8, FLOAT], table)
    with pytest.raises(ValueError):
        convert.compare([INT8], table)


def test_scores_come_in_the_order_of_the_photos(table: Path) -> None:
    photos = sorted(table.parent.glob("*.jpg"))
    with Workers([open_model(INT8)], 2) as pool:
        first = list(pool.run(photos))
        assert list(pool.run([])) == []
        backwards = list(pool.run(photos[::-1]))
    assert [one.scores for one in backwards[::-1]] == [one.scores for one in first]
    assert len({one.scores for one in first}) > 10


def test_layers_of_the_same_weights_lose_nothing(compared: Path) -> None:
    layers = _read(compared)["pairs"][0]["layers"]
    assert [row["kind"] for row in layers["rows"]] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX",
    ]  # fmt: skip
    assert layers["first_large_loss"] is None
    assert min(row["snr_db"] for row in layers["rows"]) > 40


def test_the_page_is_whole_and_loads_nothing(compared: Path) -> None:
    page = _Page((compared / "report.html").read_text(encoding="utf-8"))
    assert page.open == ["html"] or page.open == []
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.loads)
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    # Labels of another trade: what photos show in several is a group.
    assert "photos of 30 groups" in page.text and "lesion" not in page.text.lower()
    for text in (
        "tiny_int8 against tiny_uint8",
        "Layer by layer",
        "Recall by class",
        "Intended use: ",
        "cannot be distinguished from tiny_uint8",
    ):
        assert text in page.text


def test_a_verdict_is_one_sentence_in_the_terminal(table: Path, tmp_path: Path, capsys: Any) -> None:
    assert _run([UINT8, INT8], table, tmp_path / "out", "--no-layers", "--limit", "30") == 0
    said = capsys.readouterr().out
    assert said.startswith("30 photos of ")
    assert "tiny_int8" in said and "of 30 predictions changed" in said
    assert "layers" not in _read(tmp_path / "out")["pairs"][0]


def test_a_process_that_dies_ends_it_with_its_last_words(table: Path, tmp_path: Path) -> None:
    photos = sorted(table.parent.glob("*.jpg"))
    with Workers([open_model(INT8)], 1) as pool:
        assert len(list(pool.run(photos))) == len(photos)
        pool._processes[0].popen.kill()
        with pytest.raises(InterpreterBroken) as died:
            list(pool.run(photos))
        assert "-9" in died.value.found
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(INT8.read_bytes())
    opened = open_model(damaged, vouched=True)
    damaged.write_bytes(INT8.read_bytes()[:500])
    with Workers([opened], 1) as pool, pytest.raises(NotATfliteFile) as caught:
        list(pool.run(photos))
    assert str(damaged) in caught.value.what


def word(path: Path, vouched: bool = True) -> str:
    """What a worker's command line says of a model."""
    return json.dumps([str(path), vouched, 2048, 100])


def _serve(monkeypatch: pytest.MonkeyPatch, models: list[Path], *requests: dict[str, Any]) -> int:
    monkeypatch.setattr(sys, "argv", ["workers", *map(word, models)])
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("".join(json.dumps(request) + "\n" for request in requests))
    )
    return workers.main()


def test_a_worker_serves_requests_line_by_line(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [str(table.parent / name) for name in ("ash_000.jpg", "absent.jpg")]
    requests = ({"photos": photos, "steps": None}, {"bench": photos[0], "runs": 3})
    assert _serve(monkeypatch, [INT8, UINT8], *requests) == 0
    found, times = map(json.loads, capsys.readouterr().out.splitlines())
    scores, inference_ms, pixels, problem = found[0]
    assert len(scores) == 1 and [len(of_model) for of_model in scores[0]] == [3, 3]
    assert len(inference_ms) == 2 and pixels == [] and problem == ""
    assert found[1][:3] == [[], [], []] and "absent.jpg" in found[1][3]
    assert [len(of_model) for of_model in times] == [3, 3] and min(map(min, times)) > 0
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(with_nan_weights(FLOAT.read_bytes()))
    assert _serve(monkeypatch, [broken], requests[0]) == InterpreterBroken.exit_status
    error = json.loads(capsys.readouterr().out)
    assert error["class"] == "InterpreterBroken" and str(broken) in error["problem"]


def test_the_layer_probe_sums_over_photos(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [read_structure(path.read_bytes(), path) for path in (INT8, UINT8)]
    request = {
        "pairs": [[file.outputs[0] for file in files]],
        "photos": [
            str(table.parent / name) for name in ("absent.jpg", *(f"ash_{i:03}.jpg" for i in range(3)))
        ],
        "count": 2,
    }
    monkeypatch.setattr(sys, "argv", ["layer_probe", word(INT8), word(UINT8)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    assert layer_probe.main() == 0
    sums = json.loads(capsys.readouterr().out)
    assert sums["photos"] == 2
    # The same scores, twice: two photos whose squared scores sum to at most 1 each.
    assert sums["signal"] == pytest.approx(sums["cross"]) and sums["signal"] == pytest.approx(sums["power"])
    assert 2 / 3 <= sums["signal"][0] <= 2.1
    monkeypatch.setattr(sys, "argv", ["layer_probe", word(INT8), word(Path("absent.tflite"))])
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    assert layer_probe.main() == 3
    assert "absent.tflite" in capsys.readouterr().err


def test_a_model_whose_output_is_no_softmax_is_named(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(with_nan_weights(FLOAT.read_bytes()))
    assert _run([FLOAT, broken], table, tmp_path / "out", "--no-layers") == InterpreterBroken.exit_status
    assert "broken.tflite: the model's output is not a softmax" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_models_of_other_labels_are_refused(table: Path, tmp_path: Path, capsys: Any) -> None:
    assert _run([INT8, FLOAT], table, tmp_path / "out") == 3
    said = capsys.readouterr().err
    assert str(FLOAT) in said and "ash, brick" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("photo_id,label\na,ash\n", "path"),
        ("path,label\n", "no photos"),
        ("path,label\na.jpg,teal\n", "teal"),
        ("path,label\na.jpg,ash\na.jpg,ash\n", "duplicate photos"),
        ("path,label,split\na.jpg,ash,val\n", "no test split"),
        ("path,label\n\xff\xfe", "not a"),
    ],
)
def test_tables_that_are_refused(content: str, words: str, tmp_path: Path, capsys: Any) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_bytes(content.encode("latin-1"))
    assert _run([UINT8, INT8], bad, tmp_path / "out") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([str(INT8), "--data", "x.csv"], 2, "a comparison needs two"),
        ([str(INT8), str(UINT8), "--data", "absent.csv"], 2, "absent.csv"),
        ([str(INT8), "absent.tflite", "--data", "x.csv"], 3, "absent.tflite"),
        ([str(INT8), __file__, "--data", "x.csv"], 3, "not a .tflite"),
    ],
)
def test_usage(arguments: list[str], status: int, words: str, capsys: Any) -> None:
    assert main(arguments) == status
    assert words in capsys.readouterr().err


def test_an_unreadable_photo_is_left_out_and_reported(tmp_path: Path, capsys: Any) -> None:
    table = draw_table(tmp_path / "photos", 8)
    (tmp_path / "photos" / "ash_000.jpg").write_bytes(b"no photo")
    (tmp_path / "photos" / "ash_001.jpg").unlink()
    assert _run([UINT8, INT8], table, tmp_path / "out", "--no-layers") == compare.EXIT_DOUBTFUL
    report = _read(tmp_path / "out")
    assert set(report["photos"]["failures"]) == {"ash_000", "ash_001"}
    assert report["photos"]["answered"] == 22
    assert "2 photos could not be read" in capsys.readouterr().out


def test_no_photo_can_be_read(tmp_path: Path, capsys: Any) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\nabsent.jpg,ash\n")
    assert _run([UINT8, INT8], table, tmp_path / "out") == 2
    assert "no photo could be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_training_and_calibration_photos_are_reported(table: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained.csv"
    trained.write_text(table.read_text().replace(",test,", ",train,"))
    model = with_contract(INT8, tmp_path / "model.tflite")
    model.with_suffix(".json").write_text(json.dumps({"calibration": {"ids": ["ash_000", "brick_004", "x"]}}))
    options = ("--photos", str(table.parent), "--split", "train", "--no-layers")
    assert _run([UINT8, model], trained, tmp_path / "out", *options) == 0
    remarks = " ".join(_read(tmp_path / "out")["remarks"])
    assert "60 of 60 photos are of the train or val split" in remarks
    marked = "model: " + mark(["the scale of each tensor"], "2 of these 60 photos")
    assert marked in remarks
    assert marked in _Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text


def test_validation_photos_and_models_of_another_run_are_reported(tmp_path: Path) -> None:
    photos = [
        Photo(f"p{i}", tmp_path, 0, f"g{i}", split, "", "", "") for i, split in enumerate(("val", "test"))
    ]
    listed = PhotoList(tmp_path / "manifest.csv", tmp_path, "all", tuple(photos))
    (remark,) = comparison._remarks([], [], listed, comparison.Measured(tuple(photos)))
    assert "1 of 2 photos are of the train or val split" in remark
    own = open_model(UINT8)
    provenance = dataclasses.replace(own.contract.provenance, run_id="other")
    other = open_model(with_contract(UINT8, tmp_path / "other.tflite", provenance=provenance))
    assert comparison._foreign_run([own, other], ["own", "other"], listed) == []
    (tmp_path / "run.json").write_text(json.dumps({"run_id": own.contract.provenance.run_id}))
    assert comparison._foreign_run([own], ["own"], listed) == []
    (remark,) = comparison._foreign_run([own, other], ["own", "other"], listed)
    assert "; other is of another run" in remark


def test_scores_are_divided_by_their_sum_and_stand_in_the_first_models_order() -> None:
    model = open_model(UINT8)
    own = [label.code for label in model.contract.labels]
    result = PhotoScores((((0.1, 0.1, 0.1), (0.4, 0.3, 0.1)),), (1.0, 1.0))
    photo = Photo("p", Path("p"), 0, "g", "", "", "", "")
    scores = comparison._scores(1, model, own[::-1], comparison.Measured((photo,), results=[result]))
    assert scores[0] == pytest.approx([0.125, 0.375, 0.5])


def test_an_interruption_keeps_what_is_there(
    table: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    whole = Workers.run

    def interrupted(self: Workers, photos: list[Path]) -> Any:
        for number, result in enumerate(whole(self, photos)):
            if number == 40:
                signal.raise_signal(signal.SIGINT)
            yield result

    monkeypatch.setattr(Workers, "run", interrupted)
    assert _run([UINT8, INT8], table, tmp_path / "out") == compare.EXIT_INTERRUPTED
    report = _read(tmp_path / "out")
    assert report["interrupted"] is True
    assert report["photos"]["answered"] == 40 and report["photos"]["asked"] == 60
    assert "Interrupted: 40 of 60 " in capsys.readouterr().out


@pytest.mark.long
def test_ctrl_c_keeps_what_is_there(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", 8)
    rows = table.read_text().splitlines()
    # Each photo under many names, so that there is time to interrupt.
    many = [f"{k}_{row}" for k in range(400) for row in rows[1:]]
    table.write_text("\n".join([rows[0], *many]) + "\n")
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "convert.comparison.compare", str(UINT8), str(INT8), "--data", str(table), "--out",
        str(out),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    seen = ""
    while not re.search(r" [1-9]\d{2,}/9600", seen):
        seen += process.stderr.read(1)
        assert process.poll() is None, seen
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == compare.EXIT_INTERRUPTED, errors
    report = _read(out)
    assert report["interrupted"] is True
    assert 0 < report["photos"]["answered"] < report["photos"]["asked"] == 9600
    assert "Interrupted: " in said


def test_ctrl_c_before_anything_is_there(table: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "measure", interrupted)
    assert _run([UINT8, INT8], table, tmp_path / "out") == compare.EXIT_INTERRUPTED
    assert not (tmp_path / "out").exists()


def test_a_label_without_photos_has_no_recall(table: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.csv"
    part.write_text(
        "\n".join(row for row in table.read_text().splitlines() if not row.startswith("cyan")) + "\n"
    )
    assert _run([UINT8, INT8], part, tmp_path / "out", "--photos", str(table.parent), "--no-layers") == 0
    report = _read(tmp_path / "out")
    assert report["models"][0]["figures"]["recall"]["cyan"] is None
    assert report["pairs"][0]["classes"]["cyan"]["recall"] == [None, None]
    (remark,) = [remark for remark in report["remarks"] if "balanced accuracy" in remark]
    assert remark.startswith("No photo is of cyan: ") and "2 of 3 classes" in remark


def test_texts_of_a_model_cannot_become_markup(table: Path, tmp_path: Path) -> None:
    labels = open_model(INT8).contract.labels
    codes = ("<b>ash", *(label.code for label in labels[1:]))
    named = tuple(Label(code, label.name, label.group) for code, label in zip(codes, labels, strict=True))
    models = [with_contract(path, tmp_path / path.name, labels=named) for path in (UINT8, INT8)]
    odd = tmp_path / "odd.csv"
    odd.write_text(table.read_text().replace(",ash,", ",<b>ash,"))
    assert _run(models, odd, tmp_path / "out", "--photos", str(table.parent), "--no-layers") in (0, 1)
    assert "<b>ash" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
