"""Java and Python take and refuse the same signatures."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from edge_runtime.errors import ModelFileError
from tests.android.verdicts import compiled, of_java
from tests.edge_runtime.model.test_signature import SEED, U8, pem, write_statement
from tests.fixtures.bad_models import good, with_altered_weights

OLDEST = "tiny_uint8:3"
MUTATIONS = 60


@pytest.mark.java
def test_both_give_one_verdict(tmp_path: Path) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from edge_runtime.model.signature import open_signed

    public = tmp_path / "public.pem"
    public.write_bytes(pem(ed25519.Ed25519PrivateKey.from_private_bytes(SEED).public_key()))
    made = [
        {},
        {"version": "4"},
        {"version": "2"},
        {"version": "1.0"},
        {"version": "00003"},
        {"name": "other"},
    ]
    made += [{"name": "\ud55c"}, {"name": "x\nversion 9"}, {"name": "x" * 257}, {"name": "tiny_uint8 "}]
    files = [Path(shutil.copy(U8, tmp_path / f"{i}.tflite")) for i in range(len(made) + MUTATIONS + 2)]
    for file, changes in zip(files, made + [{}] * MUTATIONS, strict=False):
        write_statement(file, **changes)
    chance = random.Random(1)
    for file in files[len(made) : -2]:
        content = bytearray(Path(f"{file}.sig").read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        Path(f"{file}.sig").write_bytes(content[: chance.choice((None, None, -1, 64, 0))])
    Path(f"{files[-2]}.sig").write_bytes(bytes(5000))
    write_statement(files[-1])
    files[-1].write_bytes(with_altered_weights(good()))
    expected = []
    for file in files:
        try:
            open_signed(file, str(public), OLDEST)
            expected.append("ok")
        except ModelFileError as error:
            expected.append(error.code)
    assert of_java(compiled(tmp_path / "classes"), files, str(public), OLDEST) == expected
    assert expected.count("ok") == 3 and expected.count("model-outdated") == 1
