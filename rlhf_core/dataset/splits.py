"""Which part of a dataset a prompt belongs to."""

import hashlib
from dataclasses import dataclass

from rlhf_core.errors import InvalidInput
from rlhf_core.vocabulary import Split

MAX_PART_PERCENT = 50
MAX_BOTH_PERCENT = 80


@dataclass(frozen=True)
class SplitParams:
    """These shares of the prompts are kept out of training; which ones, the seed decides.

    VALIDATION is for choosing (when to stop, which regularisation), TEST for the examination.
    """

    test_percent: float = 0.0
    validation_percent: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("test_percent", "validation_percent"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_PART_PERCENT:
                raise InvalidInput(f"{name} {value:g}: choose 0 to {MAX_PART_PERCENT}.", field=name)
        if self.kept_percent > MAX_BOTH_PERCENT:
            raise InvalidInput(
                f"test_percent and validation_percent are {self.kept_percent:g} together: leave at "
                f"least {100 - MAX_BOTH_PERCENT} for training.",
                field="validation_percent",
            )

    @property
    def kept_percent(self) -> float:
        """The share of the prompts that is kept out of training."""
        return self.test_percent + self.validation_percent


def assign_split(
    group: str, *, seed: int, test_percent: float, validation_percent: float = 0.0
) -> Split:
    """TEST for about `test_percent` of the prompts, VALIDATION likewise, TRAIN for the others.

    Only the prompt's hash and the seed decide: all completions of a prompt share a part, and a
    prompt keeps it when the data grows, so that versions can be compared on prompts that none saw.
    A prompt of the test stays there when a validation part is added. Of prompts that are nearly
    the same, `rows_file` asks for one only: a new one may move the others.
    """
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    drawn = int.from_bytes(digest) / 2**64 * 100
    if drawn < test_percent:
        return Split.TEST
    return Split.VALIDATION if drawn < test_percent + validation_percent else Split.TRAIN
