"""Rules as a user writes them: a number for each completion."""

import os
import time
from pathlib import Path


def count_good(prompts: list[str], completions: list[str]) -> list[float]:
    """How often the word stands in the completion."""
    return [float(text.split().count("good")) for text in completions]


def shortness(prompts: list[str], completions: list[str]) -> list[float]:
    """The shorter, the better."""
    return [-float(len(text.split())) for text in completions]


def broken(prompts: list[str], completions: list[str]) -> list[float]:
    """Not what is asked for."""
    return [float("nan")] * len(completions)


def sleep_long(prompts: list[str], completions: list[str]) -> list[float]:
    """A rule that hears no signal for a long time, as a hung library does."""
    Path(os.environ["ASKED"]).touch()
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        time.sleep(1)
    return [0.0] * len(completions)
