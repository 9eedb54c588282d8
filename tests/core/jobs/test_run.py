"""The child's edges: failures as sentences, results as JSON."""

import errno
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlhf_core.errors import NotEnoughData
from rlhf_core.jobs.run import describe_failure, to_plain
from rlhf_core.vocabulary import JobState


class OutOfMemoryError(RuntimeError):
    """Bears the name of torch's class for the memory of a GPU."""


@dataclass(frozen=True)
class Point:
    x: float
    y: float


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotEnoughData(have=38, need=50, what="rated interactions"), "12 more needed"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full: free some space"),
        (MemoryError(), "more memory than there is"),
        (OutOfMemoryError("CUDA out of memory"), "more memory than there is"),
        (ValueError("bad\nthings"), "unexpected error (ValueError: bad)"),
        (ValueError(), "unexpected error (ValueError: )"),
    ],
)
def test_failure_becomes_one_sentence(error: Exception, words: str) -> None:
    assert words in describe_failure(error)


def test_result_becomes_json_that_databases_keep() -> None:
    import numpy as np

    identity = uuid.uuid4()
    result = {
        "nan": float("nan"),
        "numpy": np.float32(0.5),
        "nested": [Point(1.0, float("inf")), JobState.FAILED],
        "id": identity,
        "path": Path("a/b"),
        "text": "nul \x00",
        3: True,
    }
    assert to_plain(result) == {
        "nan": None,
        "numpy": 0.5,
        "nested": [{"x": 1.0, "y": None}, "failed"],
        "id": str(identity),
        "path": "a/b",
        "text": "nul \N{REPLACEMENT CHARACTER}",
        "3": True,
    }


def test_result_without_json_form_is_named() -> None:
    with pytest.raises(TypeError, match="of type type"):
        to_plain({"x": type(Path())})
