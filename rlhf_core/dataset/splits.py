"""Which part of a dataset a prompt belongs to."""

import hashlib

from rlhf_core.vocabulary import Split


def assign_split(group: str, *, seed: int, test_percent: float) -> Split:
    """TEST for about `test_percent` of the prompts, TRAIN for the others.

    Only the prompt's hash and the seed decide: all completions of a prompt share a part, and a
    prompt keeps it when the data grows, so that versions can be compared on prompts that none saw.
    """
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    drawn = int.from_bytes(digest) / 2**64
    return Split.TEST if drawn < test_percent / 100 else Split.TRAIN
