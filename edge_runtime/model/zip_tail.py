"""Reads stored entries by name from the zip archive at the tail of a .tflite. stdlib only.

Not `zipfile`: importing it costs 7 ms of an `edge-classify` that takes 150, and it accepts what must be refused
here (deflated entries, which Android's reader cannot read; the second of two entries of the same name).
"""

from __future__ import annotations

import binascii
import struct

from edge_runtime.contract import CONVERT_AGAIN, has_control_characters
from edge_runtime.errors import ContractInvalid

END_BYTES = 22
MAX_COMMENT_BYTES = 0xFFFF
MAX_ENTRIES = 1000
MAX_ENTRY_BYTES = 16 * 1024 * 1024
_END = b"PK\x05\x06"
_CENTRAL = b"PK\x01\x02"
_LOCAL = b"PK\x03\x04"


class ZipTail:
    """The archive at the end of `data`, a whole model file; `where` is named in errors.

    Raises:
        ContractInvalid: An archive is there, but it is damaged, deflated, encrypted, or holds a name twice.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        self.start = len(data)
        """Where the archive begins; the length of the file when there is none."""
        self._entries: dict[str, tuple[int, int, int]] = {}
        end = self._find_end()
        self.present = end is not None
        if end is not None:
            try:
                self._read_directory(end)
            except (struct.error, UnicodeDecodeError, IndexError) as error:
                raise self._broken(str(error)) from error

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all entries, in the order of the directory."""
        return tuple(self._entries)

    def read(self, name: str) -> bytes | None:
        """The bytes of an entry, None when there is no such entry.

        Raises:
            ContractInvalid: The entry is damaged.
        """
        if name not in self._entries:
            return None
        first, size, checksum = self._entries[name]
        content = self._data[first : first + size]
        if len(content) != size or binascii.crc32(content) != checksum:
            raise self._broken(f"entry {name} does not match its checksum")
        return content

    def _find_end(self) -> int | None:
        """Position of the end record: the one whose comment reaches exactly to the end of the file."""
        lowest = max(0, len(self._data) - END_BYTES - MAX_COMMENT_BYTES)
        position = self._data.rfind(_END, lowest)
        while position >= 0:
            if position + END_BYTES <= len(self._data):
                (comment_bytes,) = struct.unpack_from("<H", self._data, position + 20)
                if position + END_BYTES + comment_bytes == len(self._data):
                    return position
            position = self._data.rfind(_END, lowest, position + 3) if position else -1
        return None

    def _read_directory(self, end: int) -> None:
        disk, directory_disk, _, count, size, offset = struct.unpack_from("<HHHHII", self._data, end + 4)
        # Offsets count from the start of the archive, which some writers take for the start of the whole file.
        archive = end - size - offset
        if disk or directory_disk or count > MAX_ENTRIES or archive < 0:
            found = f"end record: disk {disk}, {count} entries, directory of {size} bytes at {offset}"
            raise self._broken(found)
        self.start = position = end - size
        for _ in range(count):
            position = self._read_central(position, archive)
        if position != end:
            raise self._broken(f"the directory ends at byte {position}, not {end}")

    def _read_central(self, position: int, archive: int) -> int:
        if self._data[position : position + 4] != _CENTRAL:
            raise self._broken(f"no directory entry at byte {position}")
        flags, method = struct.unpack_from("<HH", self._data, position + 8)
        checksum, packed, size, name_bytes, extra_bytes, comment_bytes = struct.unpack_from(
            "<IIIHHH", self._data, position + 16
        )
        (local,) = struct.unpack_from("<I", self._data, position + 42)
        raw_name = self._data[position + 46 : position + 46 + name_bytes]
        name = raw_name.decode("utf-8")
        if name in self._entries:
            raise self._broken(f"entry {name} is there twice")
        if not name.isprintable() and has_control_characters(name):
            raise self._broken(f"entry {name!r} has a control character in its name")
        if method != 0 or flags & 1 or packed != size:
            problem = f"entry {name} of the model's zip tail is not stored plainly"
            found = f"compression method {method}, flags {flags:#x}"
            raise self._broken(found, problem, "method 0 (stored): phones read only that")
        if size > MAX_ENTRY_BYTES:
            raise self._broken(f"entry {name} has {size:,} bytes, more than {MAX_ENTRY_BYTES:,}")
        local += archive
        if self._data[local : local + 4] != _LOCAL:
            raise self._broken(f"entry {name} has no local header at byte {local}")
        local_name_bytes, local_extra_bytes = struct.unpack_from("<HH", self._data, local + 26)
        first = local + 30 + local_name_bytes + local_extra_bytes
        if self._data[local + 30 : local + 30 + local_name_bytes] != raw_name or first + size > position:
            raise self._broken(f"entry {name} has a local header that does not fit")
        self._entries[name] = first, size, checksum
        self.start = min(self.start, local)
        return position + 46 + int(name_bytes) + int(extra_bytes) + int(comment_bytes)

    def _broken(
        self,
        found: str,
        problem: str = "the zip tail that holds the contract is damaged",
        expected: str = "a zip archive of stored entries, each name once and of plain characters",
    ) -> ContractInvalid:
        return ContractInvalid(problem, where=self._where, found=found, expected=expected, fix=CONVERT_AGAIN)
