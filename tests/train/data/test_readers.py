"""Five readers, one manifest; everything that can be wrong with a data set is found before training."""

from __future__ import annotations

import csv
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from edge_runtime.errors import ConfigInvalid, DataInvalid
from train.artifacts.labels import LabelSet, load_labels
from train.artifacts.manifest import Manifest
from train.configs.schema import SplitConfig
from train.data.near_duplicates import phash
from train.data.readers import read_photos
from train.data.readers.pad_ufes_20 import read_fitzpatrick
from train.data.synthetic.dataset import LEAST_PHOTOS, draw_dataset

METADATA = "HAM10000_metadata.csv"
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")


@pytest.fixture(scope="module")
def labels() -> LabelSet:
    return load_labels("ham10000")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    draw_dataset(folder, photos=LEAST_PHOTOS, seed=3)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def _read(
    root: Path,
    labels: LabelSet,
    reader: str = "ham10000",
    on_problem: str = "refuse",
    every_class: bool = True,
) -> Manifest:
    return read_photos(
        reader, root, labels, name="toy", on_problem=on_problem, every_class=every_class, progress=False
    )


def _rows(data: Path) -> list[dict[str, str]]:
    with (data / METADATA).open(newline="") as file:
        return list(csv.DictReader(file))


def _write_rows(data: Path, rows: list[dict[str, str]]) -> None:
    with (data / METADATA).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _file(data: Path, image_id: str) -> Path:
    return next(
        data / part / f"{image_id}.jpg" for part in PARTS if (data / part / f"{image_id}.jpg").exists()
    )


def test_ham10000_as_distributed(drawn: Path, labels: LabelSet):
    manifest = _read(drawn, labels)
    rows = {row["image_id"]: row for row in _rows(drawn)}
    assert len(manifest.photos) == len(rows) == LEAST_PHOTOS
    assert [photo.photo_id for photo in manifest.photos] == sorted(rows)
    for photo in manifest.photos:
        row = rows[photo.photo_id]
        assert (photo.label, photo.lesion_id, photo.age) == (row["dx"], row["lesion_id"], row["age"])
        assert (photo.dx_type, photo.sex) == (row["dx_type"], row["sex"])
        assert photo.site == ("" if row["localization"] == "unknown" else row["localization"])
        assert (drawn / photo.path).is_file()
    assert {photo.path.split("/")[0] for photo in manifest.photos} == set(PARTS)


def test_the_hash_of_the_scaled_decoding_is_close_to_that_of_the_whole(drawn: Path, labels: LabelSet):
    # Else the same picture at another size, decoded at another scale, would not be found.
    for photo in _read(drawn, labels).photos[:20]:
        with Image.open(drawn / photo.path) as image:
            assert (int(photo.phash, 16) ^ phash(image)).bit_count() <= SplitConfig().near_duplicate_bits


def test_a_photo_may_be_in_either_folder_and_one_folder_is_enough(data: Path, labels: LabelSet):
    before = _read(data, labels)
    for file in sorted((data / PARTS[0]).iterdir()):
        file.rename(data / PARTS[1] / file.name)
    (data / PARTS[0]).rmdir()
    (data / METADATA).rename(data / "HAM10000_metadata")
    after = _read(data, labels)
    assert [photo.phash for photo in after.photos] == [photo.phash for photo in before.photos]


def test_a_missing_age_is_empty(data: Path, labels: LabelSet):
    rows = _rows(data)
    rows[0]["age"], rows[1]["sex"], rows[2]["lesion_id"] = "", "unknown", ""
    _write_rows(data, rows)
    photos = {photo.photo_id: photo for photo in _read(data, labels).photos}
    assert photos[rows[0]["image_id"]].age == ""
    assert photos[rows[1]["image_id"]].sex == ""
    assert photos[rows[2]["image_id"]].lesion_id == rows[2]["image_id"]


def _spoil(data: Path) -> dict[str, str]:
    """One problem of each kind that can be skipped; kind to the name that must be reported."""
    rows = _rows(data)
    nv = [row for row in rows if row["dx"] == "nv"]
    missing, truncated, text, empty, odd = (row["image_id"] for row in nv[:5])
    _file(data, missing).unlink()
    whole = _file(data, truncated).read_bytes()
    _file(data, truncated).write_bytes(whole[: len(whole) // 2])
    _file(data, text).write_text("not an image")
    _file(data, empty).write_bytes(b"")
    for row in rows:
        if row["image_id"] == odd:
            row["dx"] = "scc"
    mel = [row for row in rows if row["dx"] == "mel"]
    _write_rows(data, [*rows, mel[0], mel[1] | {"age": "1.0"}])
    return {
        "1 x missing file": missing,
        "3 x unreadable or truncated image": truncated,
        "1 x unknown label": f"'scc' of {odd}",
        "2 x duplicate id": f"{mel[0]['image_id']} (2 rows), {mel[1]['image_id']} (2 rows, contradictory)",
    }


def test_all_kinds_of_problems_are_refused_together(data: Path, labels: LabelSet):
    expected = _spoil(data)
    with pytest.raises(DataInvalid) as caught:
        _read(data, labels)
    for kind, name in expected.items():
        assert kind in caught.value.message
        assert name in caught.value.message
    assert 'on_problem = "skip"' in caught.value.fix


def test_problems_are_skipped_when_asked_and_said_on_stderr(data: Path, labels: LabelSet, capsys):
    before = {photo.photo_id for photo in _read(data, labels).photos}
    expected = _spoil(data)
    after = {photo.photo_id for photo in _read(data, labels, on_problem="skip").photos}
    # Missing, three unreadable, unknown label, and the contradictory duplicate; of the agreeing one the first stays.
    assert len(before - after) == 6
    assert after < before
    told = capsys.readouterr()
    assert told.out == ""
    for kind in expected:
        assert kind in told.err


@pytest.mark.parametrize(("width_px", "height_px"), [(30_000, 30_000), (12_000, 10_001)])
def test_a_picture_with_absurdly_many_pixels_is_a_problem_like_others(
    data: Path, labels: LabelSet, width_px: int, height_px: int
):
    header = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    next((data / PARTS[0]).iterdir()).write_bytes(bomb + b"\0\0\0\0IDAT")
    with pytest.raises(DataInvalid, match="1 x unreadable or truncated image: .*pixels"):
        _read(data, labels)


def test_names_are_cut_but_the_count_is_not(data: Path, labels: LabelSet):
    files = sorted((data / PARTS[0]).iterdir())[:9]
    for file in files:
        file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(DataInvalid, match="9 x unreadable or truncated image: .* and 4 more"):
        _read(data, labels)


@pytest.mark.parametrize("on_problem", ["refuse", "skip"])
def test_an_empty_class_is_always_refused(data: Path, labels: LabelSet, on_problem: str):
    _write_rows(data, [row for row in _rows(data) if row["dx"] not in ("df", "vasc")])
    with pytest.raises(DataInvalid, match="2 x class without photos: df, vasc") as caught:
        _read(data, labels, on_problem=on_problem)
    assert "skip" not in caught.value.fix


def test_a_class_that_is_empty_only_after_skipping_is_refused(data: Path, labels: LabelSet):
    for row in _rows(data):
        if row["dx"] == "df":
            _file(data, row["image_id"]).unlink()
    with pytest.raises(DataInvalid, match=r"(?s)missing file.*class without photos: df"):
        _read(data, labels, on_problem="skip")


@pytest.mark.parametrize("reader", ["ham10000", "pad_ufes_20", "isic2018_task3", "folders", "csv"])
def test_no_data_folder(tmp_path: Path, labels: LabelSet, reader: str):
    with pytest.raises(DataInvalid, match="no such data folder") as caught:
        _read(tmp_path / "absent" / "deeper", labels, reader)
    assert str(tmp_path) in caught.value.found
    assert caught.value.expected
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("reader", ["ham10000", "pad_ufes_20", "isic2018_task3", "folders", "csv"])
def test_other_contents_are_named(tmp_path: Path, labels: LabelSet, reader: str):
    with pytest.raises(DataInvalid, match="got an empty folder, expected"):
        _read(tmp_path, labels, reader)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataInvalid, match=r"got holiday/, notes.txt, expected"):
        _read(tmp_path, labels, reader)


def test_ham10000_without_metadata(data: Path, labels: LabelSet):
    (data / METADATA).unlink()
    with pytest.raises(DataInvalid, match="the metadata CSV is missing") as caught:
        _read(data, labels)
    assert PARTS[0] in caught.value.found
    assert METADATA in caught.value.expected


def test_ham10000_without_photos_or_columns(data: Path, labels: LabelSet):
    rows = _rows(data)
    _write_rows(data, [{key: row[key] for key in row if key not in ("dx", "age")} for row in rows])
    with pytest.raises(DataInvalid, match="missing columns: dx, age"):
        _read(data, labels)
    for part in PARTS:
        shutil.rmtree(data / part)
    with pytest.raises(DataInvalid, match="image folders are missing"):
        _read(data, labels)


PAD_CODES = {"ACK": "akiec", "BCC": "bcc", "MEL": "mel", "NEV": "nv", "SCC": "akiec", "SEK": "bkl"}
# The first columns that the excerpt has; the whole distribution has 18 more.
PAD_HEADER = (
    "img_id",
    "diagnostic",
    "patient_id",
    "lesion_id",
    "fitspatrick",
    "biopsed",
    "age",
    "gender",
    "region",
)


@pytest.fixture
def phone(drawn: Path, tmp_path: Path) -> Path:
    """PAD-UFES-20's shape: 12 photos of 8 patients in three folders, PNG in the first."""
    root = tmp_path / "phone"
    rows = []
    for i, row in enumerate(_rows(drawn)[:12]):
        suffix = "png" if i % 3 == 0 else "jpg"
        img_id = f"PAT_{i % 8}_{i}_{100 + i}.{suffix}"
        place = root / f"imgs_part_{i % 3 + 1}"
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(_file(drawn, row["image_id"])) as image:
            image.save(place / img_id)
        diagnosis = sorted(PAD_CODES)[i % 6]
        known = i % 2 == 0
        rows.append(
            (img_id, diagnosis, f"PAT_{i % 8}", str(i), "2.0" if known else "", str(known), "63")
            + (("FEMALE", "FOREARM") if known else ("", ""))
        )
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([PAD_HEADER, *rows])
    return root


def test_phone_photos_and_their_diagnoses(phone: Path, labels: LabelSet):
    photos = _read(phone, labels, "pad_ufes_20", every_class=False).photos
    assert len(photos) == 12
    for photo in photos:
        patient, number = photo.photo_id.split("_")[1:3]
        assert photo.photo_id == f"PAT_{patient}_{number}_{100 + int(number)}"
        assert photo.label == PAD_CODES[sorted(PAD_CODES)[int(number) % 6]]
        known = int(number) % 2 == 0
        assert (photo.sex, photo.site) == (("female", "forearm") if known else ("", ""))
        assert (photo.dx_type, photo.age) == ("histo" if known else "consensus", "63")
        assert photo.path.startswith(f"imgs_part_{int(number) % 3 + 1}/")
        assert photo.phash
    assert {photo.path.rpartition(".")[2] for photo in photos} == {"jpg", "png"}


def test_photos_of_one_patient_are_never_divided(phone: Path, labels: LabelSet):
    photos = _read(phone, labels, "pad_ufes_20", every_class=False).photos
    assert {photo.lesion_id for photo in photos} == {f"PAT_{i}" for i in range(8)}
    assert all(photo.photo_id.startswith(photo.lesion_id + "_") for photo in photos)


def test_phone_photos_may_lie_in_any_folder_and_end_otherwise_than_the_table_says(
    phone: Path, labels: LabelSet
):
    before = _read(phone, labels, "pad_ufes_20", every_class=False).photos
    (phone / "images").mkdir()
    for file in sorted(phone.glob("imgs_part_*/*")):
        with Image.open(file) as image:
            image.save(phone / "images" / f"{file.stem}.png")
        file.unlink()
    # What an archive from a Mac leaves beside each photo.
    (phone / "images" / f"._{before[0].photo_id}.png").write_bytes(b"\0\5\x16\7")
    after = _read(phone, labels, "pad_ufes_20", every_class=False).photos
    assert [photo.path for photo in after] == [f"images/{photo.photo_id}.png" for photo in before]


def test_problems_of_phone_photos(phone: Path, labels: LabelSet):
    next((phone / "imgs_part_2").iterdir()).unlink()
    with (phone / "metadata.csv").open("a") as file:
        file.write("PAT_0_0_100.png,WART,PAT_0,0,,False,63,,\n")
    with pytest.raises(DataInvalid) as caught:
        _read(phone, labels, "pad_ufes_20", every_class=False)
    assert "1 x missing file: PAT_" in caught.value.found
    assert "1 x unknown label: 'WART' of PAT_0_0_100" in caught.value.found
    (phone / "metadata.csv").rename(phone / "metadata.txt")
    with pytest.raises(DataInvalid, match="not PAD-UFES-20 as distributed: metadata.csv is missing"):
        _read(phone, labels, "pad_ufes_20")


def test_phone_photos_that_are_not_there(phone: Path, labels: LabelSet):
    for part in sorted(phone.glob("imgs_part_*")):
        shutil.rmtree(part)
    with pytest.raises(DataInvalid, match="not PAD-UFES-20 as distributed: there are no photos"):
        _read(phone, labels, "pad_ufes_20")


def test_classes_may_be_lacking_when_asked_but_not_all_of_them(phone: Path, labels: LabelSet):
    with pytest.raises(DataInvalid, match="2 x class without photos: df, vasc"):
        _read(phone, labels, "pad_ufes_20")
    (phone / "metadata.csv").write_text(",".join(PAD_HEADER) + "\n")
    with pytest.raises(DataInvalid, match="7 x class without photos: akiec, bcc, bkl, df, mel and 2 more"):
        _read(phone, labels, "pad_ufes_20", on_problem="skip", every_class=False)


def test_skin_types_are_found_by_photo(phone: Path, labels: LabelSet):
    types = read_fitzpatrick(phone)
    photos = _read(phone, labels, "pad_ufes_20", every_class=False).photos
    assert types == {photo.photo_id: "2" for photo in photos if photo.sex}
    assert len(types) == 6
    with (phone / "metadata.csv").open("a") as file:
        file.write("PAT_9_9_9.png,MEL,PAT_9,9,7.0,True,63,,\n")
    with pytest.raises(DataInvalid, match=r"PAT_9_9_9.png \(got '7.0'"):
        read_fitzpatrick(phone)


@pytest.fixture
def folders(drawn: Path, tmp_path: Path) -> Path:
    root = tmp_path / "folders"
    for row in _rows(drawn):
        place = root / row["dx"]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(_file(drawn, row["image_id"]), place)
    return root


def test_a_folder_per_class(folders: Path, drawn: Path, labels: LabelSet):
    manifest = _read(folders, labels, "folders")
    assert len(manifest.photos) == LEAST_PHOTOS
    assert sorted(p.phash for p in manifest.photos) == sorted(p.phash for p in _read(drawn, labels).photos)
    assert all(photo.photo_id.startswith(f"{photo.label}/") for photo in manifest.photos)
    assert all(photo.lesion_id == photo.photo_id for photo in manifest.photos)


def test_a_folder_below_a_class_is_one_lesion(folders: Path, labels: LabelSet):
    (folders / "mel" / "patient 7").mkdir()
    moved = sorted((folders / "mel").glob("*.jpg"))[:3]
    for file in moved:
        file.rename(folders / "mel" / "patient 7" / file.name)
    lesions = [photo.lesion_id for photo in _read(folders, labels, "folders").photos]
    assert lesions.count("mel/patient 7") == len(moved) == 3


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\u202egnp", "\x9bm"])
def test_an_id_may_not_control_a_terminal(folders: Path, labels: LabelSet, name: str) -> None:
    first = min((folders / "nv").rglob("*.jpg"))
    first.rename(first.with_name(f"{name}.jpg"))
    with pytest.raises(DataInvalid) as caught:
        _read(folders, labels, "folders")
    assert "1 x id with a control character" in caught.value.found and caught.value.message.isprintable()


def test_strangers_among_the_folders(folders: Path, labels: LabelSet):
    (folders / "scc").mkdir()
    shutil.copy(next((folders / "nv").iterdir()), folders / "scc" / "x.jpg")
    shutil.copy(next((folders / "nv").iterdir()), folders / "stray.jpg")
    same_name = next((folders / "nv").iterdir())
    shutil.copy(same_name, same_name.with_suffix(".JPEG"))
    with pytest.raises(DataInvalid) as caught:
        _read(folders, labels, "folders")
    assert "2 x unknown label: stray.jpg (in no class's folder), 'scc' of scc/x" in caught.value.found
    assert f"1 x duplicate id: nv/{same_name.stem}" in caught.value.found


@pytest.fixture
def table(drawn: Path, tmp_path: Path) -> Path:
    root = tmp_path / "table"
    (root / "photos").mkdir(parents=True)
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["photo_id", "path", "label", "lesion_id", "age"])
        for row in _rows(drawn):
            shutil.copy(_file(drawn, row["image_id"]), root / "photos")
            path = f"photos/{row['image_id']}.jpg"
            writer.writerow([row["image_id"], path, row["dx"], row["lesion_id"], row["age"]])
    return root


def test_a_csv_manifest(table: Path, drawn: Path, labels: LabelSet):
    manifest = _read(table, labels, "csv")
    expected = {(p.photo_id, p.label, p.lesion_id, p.age, p.phash) for p in _read(drawn, labels).photos}
    assert {(p.photo_id, p.label, p.lesion_id, p.age, p.phash) for p in manifest.photos} == expected
    named = (table / "manifest.csv").rename(table / "mine.csv")
    assert _read(named, labels, "csv") == manifest


def test_problems_of_a_csv_manifest(table: Path, labels: LabelSet):
    with (table / "manifest.csv").open("a") as file:
        file.write("x1,photos/absent.jpg,nv,,\nx2,../outside.jpg,nv,,\nx3,/etc/hostname,nv,,\nx4\n")
    with pytest.raises(DataInvalid) as caught:
        _read(table, labels, "csv")
    assert "2 x path outside the data folder: x2 (../outside.jpg), x3 (/etc/hostname)" in caught.value.found
    assert "2 x missing file: photos/absent.jpg, ." in caught.value.found


def test_misspelt_reader_and_rule(drawn: Path, labels: LabelSet):
    with pytest.raises(
        ConfigInvalid, match="unknown reader.*'ham'.*ham10000, pad_ufes_20, isic2018_task3, folders, csv"
    ):
        _read(drawn, labels, "ham")
    with pytest.raises(ConfigInvalid, match="unknown on_problem.*'ignore'.*refuse, skip"):
        _read(drawn, labels, on_problem="ignore")


@pytest.mark.real_data
@pytest.mark.slow
def test_the_real_ham10000(data_root: Path, labels: LabelSet):
    manifest = _read(data_root / "HAM10000", labels)
    assert len(manifest.photos) == 10_015
    assert len({photo.lesion_id for photo in manifest.photos}) == 7_470
    assert sum(not photo.age for photo in manifest.photos) == 57
    counts = {code: sum(photo.label == code for photo in manifest.photos) for code in labels.codes}
    assert counts == {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}


@pytest.mark.real_data
def test_isic2018_task3_with_and_without_lesions(drawn: Path, labels: LabelSet, tmp_path: Path):
    rows = _rows(drawn)[:6]
    (tmp_path / "images").mkdir()
    for row in rows[:5]:
        shutil.copy(_file(drawn, row["image_id"]), tmp_path / "images")
    lines = [
        "image_id,dx,lesion_id",
        *(f"{row['image_id']},{row['dx']},L{i % 2}" for i, row in enumerate(rows)),
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataInvalid, match=rows[5]["image_id"]):
        _read(tmp_path, labels, "isic2018_task3", every_class=False)
    (tmp_path / "labels.csv").write_text("\n".join(lines[:-1]), encoding="utf-8")
    photos = _read(tmp_path, labels, "isic2018_task3", every_class=False).photos
    assert {p.photo_id: p.label for p in photos} == {row["image_id"]: row["dx"] for row in rows[:5]}
    assert {p.lesion_id for p in photos} == {"L0", "L1"}
    (tmp_path / "labels.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines[:-1]))
    photos = _read(tmp_path, labels, "isic2018_task3", every_class=False).photos
    assert all(photo.lesion_id == photo.photo_id for photo in photos)


@pytest.mark.real_data
def test_the_real_isic2018_task3(data_root: Path, labels: LabelSet):
    manifest = _read(data_root / "ISIC2018_Task3_Validation", labels, "isic2018_task3", every_class=False)
    assert len(manifest.photos) == 193


@pytest.mark.real_data
def test_the_real_pad_ufes_20(data_root: Path, labels: LabelSet):
    root = data_root / "PAD-UFES-20"
    manifest = _read(root, labels, "pad_ufes_20", every_class=False)
    assert len(manifest.photos) == 392
    assert len({photo.lesion_id for photo in manifest.photos}) == 303
    counts = {code: sum(photo.label == code for photo in manifest.photos) for code in labels.codes}
    # ACK 66 and SCC 16 are akiec.
    assert counts == {"akiec": 66 + 16, "bcc": 116, "bkl": 67, "df": 0, "mel": 21, "nv": 106, "vasc": 0}
    assert sum(photo.dx_type == "histo" for photo in manifest.photos) == 209
    types = read_fitzpatrick(root)
    assert set(types) < {photo.photo_id for photo in manifest.photos}
    assert {name: list(types.values()).count(name) for name in "123456"} == {
        "1": 25, "2": 134, "3": 63, "4": 18, "5": 1, "6": 0,
    }  # fmt: skip


def test_a_config_may_name_every_reader_and_no_other() -> None:
    from train.configs import schema
    from train.data import readers

    assert tuple(readers.READERS) == schema.READERS
