"""Time and identity."""

import os
import time
import uuid
from datetime import UTC, datetime


def utcnow() -> datetime:
    """Now, with the time zone UTC set."""
    return datetime.now(UTC)


def to_moment_text(moment: datetime) -> str:
    """An aware moment as both databases read it: `YYYY-MM-DD HH:MM:SS.ffffff` in UTC.

    Raises:
        OverflowError: it lies outside the years 1 to 9999 in UTC.
    """
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(" ", "microseconds")[:26]


def new_id() -> uuid.UUID:
    """A version 7 UUID (RFC 9562, section 5.7): random, sorted by creation time to the millisecond.

    Sorted keys keep a growing table's index pages warm; random UUIDs touch the whole index.
    """
    value = int.from_bytes(os.urandom(10)) | (time.time_ns() // 1_000_000) << 80
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return uuid.UUID(int=value)


def first_id_at(moment: datetime) -> uuid.UUID:
    """The smallest id that `new_id` can have made at this moment: the key's index finds newer."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


def new_hex_ids(count: int) -> list[str]:
    """`count` ids as `new_id()` makes them, as 32 hexadecimal digits: for bulk inserts."""
    start = f"{time.time_ns() // 1_000_000:012x}7"
    noise = os.urandom(10 * count).hex()
    return [
        f"{start}{noise[at : at + 3]}{'89ab'[int(noise[at + 3], 16) & 3]}{noise[at + 4 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]
