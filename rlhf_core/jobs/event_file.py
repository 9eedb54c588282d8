"""TensorBoard's event files, written without TensorBoard or torch, which take seconds to load.

A file is records (TFRecord): length, checksum of the length, bytes, checksum of the bytes. The
bytes are an `Event` (protocol buffer) of tensorflow/core/util/event.proto; a checksum is CRC-32C,
rotated and shifted (tensorflow/core/lib/hash/crc32c.h).
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

VERSION = "brain.Event:2"
STRING_TYPE = 7  # DT_STRING of types.proto
START = 1  # SessionLog.START: what an earlier attempt wrote from this step on does not count
_POLYNOMIAL = 0x82F63B78


def _make_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli's polynomial."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


class EventFile:
    """One file of one attempt. Each call writes whole records, so that a kill loses none before.

    `restart_at`: the step from which on TensorBoard forgets what files before this one say.
    Raises OSError where the folder or the file cannot be written.
    """

    def __init__(self, folder: Path, *, restart_at: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab", buffering=0)
        self._write(_text(3, VERSION))
        if restart_at is not None:
            self._write(_whole(2, restart_at) + _part(7, _whole(1, START)))

    def add_numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        summary = b"".join(
            _part(1, _text(1, name) + _tag(2, 5) + struct.pack("<f", value))
            for name, value in values.items()
        )
        self._write(_whole(2, step) + _part(5, summary))

    def add_text(self, step: int, name: str, markdown: str) -> None:
        """A text in Markdown."""
        shape = _part(2, _part(2, _whole(1, 1)))
        tensor = _whole(1, STRING_TYPE) + shape + _part(8, markdown.encode("utf-8", "replace"))
        plugin = _part(1, _text(1, "text"))
        value = _text(1, name) + _part(8, tensor) + _part(9, plugin)
        self._write(_whole(2, step) + _part(5, _part(1, value)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, fields: bytes) -> None:
        event = _tag(1, 1) + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


def _checksum(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _whole(number: int, value: int) -> bytes:
    return _tag(number, 0) + _varint(value)


def _part(number: int, data: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(data)) + data


def _text(number: int, text: str) -> bytes:
    return _part(number, text.encode("utf-8", "replace"))
