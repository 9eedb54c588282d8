"""Shares and differences in words, the same on every page of analysis."""

from rlhf_core.agreement import Interval

UNKNOWN = "–"  # noqa: RUF001 - Streamlit's own mark of a metric without a value


def say_share(share: Interval | None) -> str:
    """Such as `81.5%`."""
    return UNKNOWN if share is None else f"{share.value:.1%}"


def say_change(change: Interval, *, ends: bool = False) -> str:
    """A difference of shares in points, such as `-3.2 points`; with `ends` its interval."""
    if ends:
        return f"{100 * change.low:+.1f} to {100 * change.high:+.1f} points"
    return f"{100 * change.value:+.1f} points"


def is_clear(change: Interval | None) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return change is not None and not change.low <= 0 <= change.high
