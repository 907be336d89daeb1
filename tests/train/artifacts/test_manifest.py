"""Manifests and label sets: what is written is read back, what is wrong is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import LABELS_DIR, load_labels
from train.artifacts.manifest import Manifest, Photo, read_manifest, write_manifest

HAM10000_CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def _manifest(root: Path) -> Manifest:
    photos = (
        Photo("b", "x/b.jpg", "mel", "L2", "female", "45.0", "back", "histo", "00ff00ff00ff00ff"),
        Photo("a", "x/a, copy.jpg", "nv", "L1"),
        Photo("c", 'x/"c".jpg', "df", "L2", phash="8" * 16),
    )
    return Manifest("toy", root, load_labels("ham10000"), photos)


def test_the_seven_labels_are_in_output_order_with_their_groups():
    labels = load_labels("ham10000")
    assert labels.codes == HAM10000_CODES
    assert [label.code for label in labels.labels if label.group == "malignant"] == ["akiec", "bcc", "mel"]
    assert [labels.index(code) for code in HAM10000_CODES] == list(range(7))
    assert "CC BY-NC 4.0" in labels.licence
    assert "non-commercial" in labels.model_licence.lower()
    assert labels.intended_use


def test_an_unknown_code_is_named():
    with pytest.raises(DataInvalid, match="'scc'.*akiec"):
        load_labels("ham10000").index("scc")


def test_an_unknown_label_set_names_the_known_ones():
    with pytest.raises(DataInvalid) as caught:
        load_labels("ham1000")
    assert caught.value.where == "ham1000"
    assert "ham10000" in caught.value.expected
    assert caught.value.fix == "write 'ham10000'"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = ", "not TOML"),
        # After the mark that Windows' editors write.
        ('\ufeffname = "x"', "licence is missing.*fewer than two"),
        ('name = "x"', "licence is missing.*fewer than two"),
        ('colour = "x"', "colour is unknown"),
        (
            'name="x"\nlicence="x"\nmodel_licence="x"\nintended_use="x"\n'
            + 2 * '[[label]]\ncode="a"\nname="A"\ngroup="g"\n',
            "code 'a' occurs twice",
        ),
        (
            'name="x"\nlicence="x"\nmodel_licence="x"\nintended_use="x"\n'
            '[[label]]\ncode="a"\nname="A"\n[[label]]\ncode="b"\nname=""\ngroup="g"\n',
            "label 1: group is missing.*label 2: name is missing",
        ),
        (
            'name="x"\nlicence="x"\nmodel_licence="x"\nintended_use="x"\n'
            '[[label]]\ncode="a\\nb"\nname="A"\ngroup="g"\n[[label]]\ncode="b"\nname="B"\ngroup="g"\n',
            "label 1: code has a line break",
        ),
        *(
            (
                f'name="x"\nlicence="{text}"\nmodel_licence="x"\nintended_use="x"\n',
                "licence has .*control character",
            )
            for text in (r"\u001b[2J", r"\u202egnp", r"\u009b", r"a\u200b")
        ),
    ],
)
def test_a_broken_label_set_lists_its_problems(tmp_path: Path, text: str, problem: str):
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(DataInvalid, match=f"(?s){problem}") as caught:
        load_labels(str(path))
    assert caught.value.where == str(path)


def test_a_label_set_may_be_a_path(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text((LABELS_DIR / "ham10000.toml").read_text())
    assert load_labels(str(path)) == load_labels("ham10000")


def test_a_manifest_is_read_back_equal_in_every_field(tmp_path: Path):
    manifest = _manifest(tmp_path)
    split, groups = {"a": "train", "b": "test", "c": "test"}, {"a": "L1", "b": "L2", "c": "L2"}
    write_manifest(tmp_path / "m.csv", manifest, split, groups)
    again, again_split, again_groups = read_manifest(tmp_path / "m.csv", tmp_path, "toy", manifest.labels)
    assert sorted(again.photos, key=lambda p: p.photo_id) == sorted(manifest.photos, key=lambda p: p.photo_id)
    assert (again_split, again_groups) == (split, groups)
    assert again.sha256 == manifest.sha256


def test_what_spreadsheets_would_compute_is_text_in_the_file_and_itself_when_read_back(tmp_path: Path):
    names = ["=1+1", "@x", "'=y", "-a", "-0.5", "+1"]
    photos = tuple(Photo(name, f"x/{name}", "nv", name, site=name) for name in names)
    manifest = dataclasses.replace(_manifest(tmp_path), photos=photos)
    write_manifest(tmp_path / "m.csv", manifest, dict.fromkeys(names, "test"), {name: name for name in names})
    again, split, groups = read_manifest(tmp_path / "m.csv", tmp_path, "toy", manifest.labels)
    assert again.sha256 == manifest.sha256 and set(split) == set(groups) == set(names)
    assert {line.partition(",")[0] for line in (tmp_path / "m.csv").read_text().splitlines()[1:]} == {
        "'=1+1", "'@x", "''=y", "'-a", "-0.5", "+1",
    }  # fmt: skip


def test_without_a_split_there_is_none(tmp_path: Path):
    write_manifest(tmp_path / "m.csv", _manifest(tmp_path), None, None)
    _, split, groups = read_manifest(tmp_path / "m.csv", tmp_path, "toy", load_labels("ham10000"))
    assert split == {}
    assert groups == {}


def test_the_hash_knows_contents_but_neither_order_nor_place(tmp_path: Path):
    manifest = _manifest(tmp_path)
    moved = dataclasses.replace(manifest, root=tmp_path / "elsewhere", photos=manifest.photos[::-1])
    assert moved.sha256 == manifest.sha256
    for field in dataclasses.fields(Photo):
        changed = dataclasses.replace(manifest.photos[0], **{field.name: "other"})
        other = dataclasses.replace(manifest, photos=(changed, *manifest.photos[1:]))
        assert other.sha256 != manifest.sha256, field.name


def test_equal_manifests_give_equal_bytes(tmp_path: Path):
    manifest = _manifest(tmp_path)
    write_manifest(tmp_path / "1.csv", manifest, None, None)
    write_manifest(
        tmp_path / "2.csv", dataclasses.replace(manifest, photos=manifest.photos[::-1]), None, None
    )
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("photo_id,", "id,", "missing columns: photo_id"),
        ("mel", "scc", "unknown labels.*'scc'"),
        ("\nc,", "\na,", "occurs twice.*got a"),
        ("\nc,", "\n\x1b[2J,", "control character in column photo_id"),
        ("L1", "L\u2067", "control character in column lesion_id"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, old: str, new: str, problem: str):
    path = tmp_path / "m.csv"
    write_manifest(path, _manifest(tmp_path), None, None)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataInvalid, match=problem):
        read_manifest(path, tmp_path, "toy", load_labels("ham10000"))


def test_no_manifest_and_no_text_are_clear_errors(tmp_path: Path):
    labels = load_labels("ham10000")
    with pytest.raises(DataInvalid, match="no such file.*photo_id"):
        read_manifest(tmp_path / "absent.csv", tmp_path, "toy", labels)
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00photo_id")
    with pytest.raises(DataInvalid, match="not a readable CSV"):
        read_manifest(tmp_path / "m.csv", tmp_path, "toy", labels)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch):
    path = tmp_path / "m.csv"
    path.write_text("old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_manifest(path, _manifest(tmp_path), None, None)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["m.csv"]
