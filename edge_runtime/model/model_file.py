"""Opens a .tflite safely: size, identifier, structure, contract entry, sha256. stdlib only.

Nothing here is native code, so the worst that a hostile file can do is to be refused. Read `open_model` first.
"""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH100, PTH118, PTH120, PTH123

from __future__ import annotations

import errno
import os
import stat

from edge_runtime._startup.records import TYPE_CHECKING, dataclass
from edge_runtime.contract import CONTRACT_ENTRY, CONVERT_AGAIN, LABELS_ENTRY, ModelContract
from edge_runtime.errors import ContractInvalid, ContractMissing, ModelNotFound, ModelTooLarge, NotATfliteFile
from edge_runtime.model.flatbuffer import DEFAULT_LIMITS, Limits, walk_model
from edge_runtime.model.tensors import check_tensors
from edge_runtime.model.zip_tail import ZipTail

if TYPE_CHECKING:
    from pathlib import Path

MAX_MODEL_BYTES = 512 * 1024 * 1024
"""Larger files are refused unread. The largest image classifiers in .tflite form have some 350 MB."""
BUNDLED_MODEL = "ham10000_lite0_int8_qat.tflite"


@dataclass(frozen=True)
class ModelFile:
    """A .tflite that may be given to an inference library."""

    path: str
    data: bytes
    """The whole file; engines keep it alive while they use it."""
    contract: ModelContract
    vouched: bool = False
    """It is the bundled one, is signed, or its user made it: no child process tries it first."""
    limits: Limits = DEFAULT_LIMITS
    needs_delegate: bool = False
    """It has operators that only a delegate runs."""

    @property
    def sha256(self) -> str:
        """Of the whole file, 64 hex digits. Computed on first use: loading OpenSSL costs memory."""
        known: str | None = self.__dict__.get("_sha256")
        if known is None:
            import hashlib

            known = self.__dict__["_sha256"] = hashlib.sha256(self.data).hexdigest()
        return known

    def read_entry(self, name: str) -> bytes:
        """As the module's `read_entry`, of this file."""
        return read_entry(self.data, name, where=self.path)


def bundled_model_path() -> Path:
    """Path of the model that ships inside the package, whether it is there or not."""
    from pathlib import Path

    return Path(_bundled_model())


def open_model(
    path: str | os.PathLike[str] | None = None, *, vouched: bool = False, limits: Limits = DEFAULT_LIMITS
) -> ModelFile:
    """Opens a model file, the bundled one without `path`.

    Args:
        path: Of a .tflite.
        vouched: As `ModelFile`.
        limits: Of one inference.

    Raises:
        ModelNotFound: No such file, or it cannot be read.
        ModelTooLarge: More than MAX_MODEL_BYTES.
        NotATfliteFile: Empty, truncated, malformed, or another format.
        ModelUnsupported: As `walk_model`.
        ContractMissing, ContractInvalid, ContractTooNew: As they say.
        ModelMismatch: The contract does not describe the model's tensors.
    """
    where, data = read_model(path)
    return parse_model(data, where, trusted=path is None, vouched=vouched, limits=limits)


def parse_model(
    data: bytes, where: str, *, trusted: bool = False, vouched: bool = False, limits: Limits = DEFAULT_LIMITS
) -> ModelFile:
    """As `open_model`, from bytes; `where` is named in errors and becomes the path, `trusted` as `walk_model`."""
    if not data:
        expected, fix = "a .tflite file", "copy the file again"
        raise NotATfliteFile("the file is empty", where=where, found="0 bytes", expected=expected, fix=fix)
    tail = ZipTail(data, where) if data[4:8] == b"TFL3" else None
    end = tail.start if tail else len(data)
    structure = walk_model(data, where=where, end=end, trusted=trusted, limits=limits)
    contract = read_contract(data, where)
    check_tensors(contract, structure.inputs, structure.outputs, where)
    return ModelFile(where, data, contract, trusted or vouched, limits, structure.needs_delegate)


def read_contract(data: bytes, where: str = "model") -> ModelContract:
    """The contract inside the bytes of a .tflite; `where` is named in errors.

    Raises:
        ContractMissing, ContractInvalid, ContractTooNew: As they say.
    """
    tail = ZipTail(data, where)
    text = tail.read(CONTRACT_ENTRY)
    if text is None:
        found = (
            f"entries {', '.join(tail.names)}" if tail.present else "no zip archive at the end of the file"
        )
        problem, expected = "the model carries no contract", f"a zip tail with the entry {CONTRACT_ENTRY}"
        fix = "convert the model with dermedge convert, or copy the file again if it may have been cut off"
        raise ContractMissing(problem, where=where, found=found, expected=expected, fix=fix)
    contract = ModelContract.from_json(text, where=f"{where}, entry {CONTRACT_ENTRY}")
    listed = tail.read(LABELS_ENTRY)
    if listed is not None and listed.removesuffix(b"\n") != "\n".join(contract.codes).encode():
        problem = f"{LABELS_ENTRY} and the contract name different labels"
        expected = ", ".join(contract.codes[:10])
        found = ", ".join(listed[:1000].decode("utf-8", "replace").split("\n")[:10]) or "no labels"
        raise ContractInvalid(problem, where=where, found=found, expected=expected, fix=CONVERT_AGAIN)
    return contract


def read_entry(data: bytes, name: str, *, where: str = "model") -> bytes:
    """A stored entry of the zip tail, by name.

    Raises:
        ContractInvalid: There is no such entry, or the archive is damaged.
    """
    tail = ZipTail(data, where)
    content = tail.read(name)
    if content is None:
        problem, found = f"the model has no entry {name}", ", ".join(tail.names) or "no entries"
        raise ContractInvalid(problem, where=where, found=found, expected=name, fix=CONVERT_AGAIN)
    return content


def _bundled_model() -> str:
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "models", BUNDLED_MODEL)


def read_model(path: str | os.PathLike[str] | None = None) -> tuple[str, bytes]:
    """Path and unparsed bytes of a model file; arguments and the first two errors as `open_model`."""
    where = _bundled_model() if path is None else os.fspath(path)
    try:
        return where, read_regular(where, MAX_MODEL_BYTES)
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        kind: type[ModelNotFound | ModelTooLarge] = ModelNotFound
        problem, expected, fix = "the model cannot be read", "a .tflite file", "check the path"
        if getattr(error, "errno", None) == errno.EFBIG:
            kind = ModelTooLarge
            problem = "the model file is too large"
            fix = "give a model for small devices"
            expected = f"at most {MAX_MODEL_BYTES:,} bytes"
        elif path is None:
            problem, expected = "the bundled model is missing", "the model that the dermedge wheel ships"
            fix = "install dermedge again, or name a model with --model"
        raise kind(problem, where=where, found=found, expected=expected, fix=fix) from error


def read_regular(path: str, most: int) -> bytes:
    """The bytes of a regular file; a FIFO, a device, a folder, and more than `most` bytes (EFBIG) are an OSError."""
    # Opening a FIFO would wait for a writer; without O_BINARY Windows changes line ends.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "something that is not a regular file")
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"{status.st_size:,} bytes")
        # Not the limit: Python would ask for so much memory first, which takes 2 ms.
        return file.read(status.st_size)
