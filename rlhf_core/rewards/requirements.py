"""What a reward model needs to be trained at all, said before anything is computed."""

from dataclasses import dataclass

from rlhf_core.errors import NotEnoughData, RlhfError, TrainingFailed

MIN_ROWS = 50
"""Rated completions, pairs or thumbs: fewer tell nothing apart."""
MIN_PROMPTS = 2  # of each class: one to learn from, one to test on


@dataclass(frozen=True)
class RowCounts:
    """Rated interactions, by what decides whether they can train a reward model.

    `num_good` have a mean rating at or above the threshold; `num_prompts_good` and `_bad` count
    the prompts with at least one such row, one below. Ratings are 0 where there are no rows.
    """

    num_rows: int
    num_good: int
    num_prompts: int
    num_prompts_good: int
    num_prompts_bad: int
    lowest: float
    highest: float


def find_obstacle(counts: RowCounts, *, threshold: float) -> RlhfError | None:
    """The first reason why these rows cannot train a reward model; None where they can."""
    if counts.num_rows < MIN_ROWS:
        return NotEnoughData(have=counts.num_rows, need=MIN_ROWS, what="rated interactions")
    if counts.lowest == counts.highest:
        return TrainingFailed(
            f"All {counts.num_rows} rated interactions have the same rating {counts.lowest:g}: "
            "there is nothing to tell apart; rate some that are better or worse."
        )
    num_bad = counts.num_rows - counts.num_good
    if counts.num_good == 0 or num_bad == 0:
        kind, side = ("good", "worse") if num_bad == 0 else ("bad", "better")
        return TrainingFailed(
            f"All {counts.num_rows} rated interactions are {kind} at the threshold {threshold:g} "
            f"(ratings {counts.lowest:.3g} to {counts.highest:.3g}): rate some that are {side}, or "
            "choose another threshold between those two."
        )
    return _find_one_prompt(counts.num_prompts_good, counts.num_prompts_bad)


def find_thumb_obstacle(
    *, num_up: int, num_down: int, num_prompts_up: int, num_prompts_down: int
) -> RlhfError | None:
    """The first reason why these thumbs cannot train a reward model; None where they can."""
    total = num_up + num_down
    if total < MIN_ROWS:
        return NotEnoughData(have=total, need=MIN_ROWS, what="completions with a thumb")
    if num_up == 0 or num_down == 0:
        thumb, other = ("up", "down") if num_down == 0 else ("down", "up")
        return TrainingFailed(
            f"All {total} thumbs are {thumb}: there is nothing to tell apart; some completions "
            f"need a thumb {other}."
        )
    return _find_one_prompt(num_prompts_up, num_prompts_down)


def find_pair_obstacle(*, num_pairs: int, num_prompts: int) -> RlhfError | None:
    """The first reason why these pairs (ties not counted) cannot train one; None where they can."""
    if num_pairs < MIN_ROWS:
        return NotEnoughData(have=num_pairs, need=MIN_ROWS, what="pairs with a better side")
    if num_prompts < MIN_PROMPTS:
        return TrainingFailed(
            f"All {num_pairs} pairs answer one prompt: the model is tested on prompts it has not "
            f"seen, so at least {MIN_PROMPTS} are needed; compare answers to more prompts."
        )
    return None


def _find_one_prompt(num_good: int, num_bad: int) -> RlhfError | None:
    for kind, have in (("good", num_good), ("bad", num_bad)):
        if have < MIN_PROMPTS:
            return TrainingFailed(
                f"All {kind} completions answer one prompt: the model is tested on prompts it has "
                f"not seen, so at least {MIN_PROMPTS} prompts need a {kind} one; rate more prompts."
            )
    return None
