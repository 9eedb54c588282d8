"""Whether there is enough feedback for a purpose, what is missing, and what to rate next."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.dataset.builder import build_rows
from rlhf_core.dataset.counting import count_rows
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason
from rlhf_core.dataset.shortage import find_short_interactions
from rlhf_core.errors import NotEnoughData, RlhfError, TrainingFailed
from rlhf_core.vocabulary import DatasetPurpose

MIN_ROWS = {
    DatasetPurpose.SCORES: 50,
    DatasetPurpose.PREFERENCES: 50,
    DatasetPurpose.UNPAIRED: 50,
    DatasetPurpose.PROMPTS: 50,
    DatasetPurpose.STEPS: 50,
    DatasetPurpose.SFT: 50,
}
"""The fewest rows with which each purpose is worth a run."""

MIN_PROMPTS = 2
"""Of each class: one to learn from, one to test on."""

ROW_NAMES = {
    DatasetPurpose.SCORES: "rated interactions",
    DatasetPurpose.PREFERENCES: "usable pairs",
    DatasetPurpose.UNPAIRED: "completions called good or bad",
    DatasetPurpose.PROMPTS: "prompts",
    DatasetPurpose.STEPS: "completions with judged steps",
    DatasetPurpose.SFT: "completions to imitate",
}

Counts = Mapping[str, float]


@dataclass(frozen=True)
class Readiness:
    """`have` of `need` rows (`what` they are); `obstacle` is the sentence a run would end with.

    `counts`: named numbers of the rows. Every purpose has `rows`, `prompts`, `raters`; scores and
    unpaired `good`, `prompts_good`, `prompts_bad`; scores `ratings`, `lowest`, `highest`;
    preferences `comparison`, `ratings`, `correction` (pairs by origin) and `ties`; steps `steps`,
    `right`, `wrong`; SFT `corrections`. `short_interaction_ids`: at most 500 interactions whose
    rating would help most. `advice`: what is there and what to do, in a sentence.
    """

    purpose: DatasetPurpose
    have: int
    need: int
    what: str
    obstacle: str | None
    advice: str
    left_out: dict[str, int] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    short_interaction_ids: list[uuid.UUID] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many more rows are needed."""
        return max(0, self.need - self.have)

    @property
    def is_ready(self) -> bool:
        """Whether a run can start."""
        return self.obstacle is None


def check_readiness(db: Session, *, actor: Actor, params: DatasetParams) -> Readiness:
    """What a model trained now would learn from, and what is short."""
    require(actor, Permission.MANAGE_DATASETS)
    built = build_rows(db, params=params, with_text=False)
    counts = count_rows(built.rows, params)
    counts["raters"] = built.voices.num_raters
    obstacle = find_obstacle(counts, params)
    needs_second, short = find_short_interactions(db, params) if obstacle else (False, [])
    have, need = int(counts["rows"]), MIN_ROWS[params.purpose]
    return Readiness(
        purpose=params.purpose,
        have=have,
        need=need,
        what=ROW_NAMES[params.purpose],
        obstacle=None if obstacle is None else str(obstacle),
        advice=_advise(params, have, need, obstacle, built.left_out, len(short), needs_second),
        left_out=built.left_out,
        counts=counts,
        short_interaction_ids=short,
    )


def find_shortage(db: Session, *, params: DatasetParams) -> RlhfError | None:
    """Why these rows cannot train a model: NotEnoughData or TrainingFailed; None where they can."""
    built = build_rows(db, params=params, with_text=False)
    return find_obstacle(count_rows(built.rows, params), params)


def find_obstacle(counts: Counts, params: DatasetParams) -> RlhfError | None:
    """The first reason why rows with these `counts` cannot train a model; None where they can."""
    have, need = int(counts["rows"]), MIN_ROWS[params.purpose]
    if have < need:
        return NotEnoughData(have=have, need=need, what=ROW_NAMES[params.purpose])
    check = _CHECKS.get(params.purpose)
    sentence = None if check is None else check(counts, params)
    return None if sentence is None else TrainingFailed(sentence)


def _check_scores(counts: Counts, params: DatasetParams) -> str | None:
    number, lowest, highest = int(counts["rows"]), counts["lowest"], counts["highest"]
    if lowest == highest:
        return (
            f"All {number} rated interactions have the same rating {lowest:g}: "
            "there is nothing to tell apart; rate some that are better or worse."
        )
    if counts["good"] in (0, number):
        kind, side = ("good", "worse") if counts["good"] else ("bad", "better")
        return (
            f"All {number} rated interactions are {kind} at the threshold {params.threshold:g} "
            f"(ratings {lowest:.3g} to {highest:.3g}): rate some that are {side}, or "
            "choose another threshold between those two."
        )
    return _check_prompts(counts)


def _check_unpaired(counts: Counts, _params: DatasetParams) -> str | None:
    if counts["good"] in (0, counts["rows"]):
        kind, side = ("good", "down") if counts["good"] else ("bad", "up")
        return (
            f"All {int(counts['rows'])} completions are called {kind}: there is nothing to tell "
            f"apart; find some that deserve a thumb {side}."
        )
    return _check_prompts(counts)


def _check_prompts(counts: Counts) -> str | None:
    for kind in ("good", "bad"):
        if counts[f"prompts_{kind}"] < MIN_PROMPTS:
            return (
                f"All {kind} completions answer one prompt: the model is tested on prompts it has "
                f"not seen, so at least {MIN_PROMPTS} prompts need a {kind} one; rate more prompts."
            )
    return None


def _check_pairs(counts: Counts, _params: DatasetParams) -> str | None:
    if counts["ties"] == counts["rows"]:
        return (
            f"All {int(counts['rows'])} pairs are ties: there is nothing to prefer; compare "
            "answers that differ more, or lower the gap that makes a pair."
        )
    if counts["prompts"] < MIN_PROMPTS:
        return (
            "All pairs answer one prompt: the model is tested on prompts it has not seen, so at "
            f"least {MIN_PROMPTS} prompts need a pair; compare answers to more prompts."
        )
    return None


def _check_steps(counts: Counts, _params: DatasetParams) -> str | None:
    for kind, other in (("right", "wrong"), ("wrong", "right")):
        if not counts[kind]:
            return (
                f"All judged steps are {other}: there is nothing to tell apart; judge solutions "
                f"that hold {kind} steps too."
            )
    if counts["prompts"] < MIN_PROMPTS:
        return (
            "All judged steps belong to one prompt: the model is tested on prompts it has not "
            f"seen, so judge solutions of at least {MIN_PROMPTS}."
        )
    return None


_CHECKS: dict[DatasetPurpose, Callable[[Counts, DatasetParams], str | None]] = {
    DatasetPurpose.SCORES: _check_scores,
    DatasetPurpose.UNPAIRED: _check_unpaired,
    DatasetPurpose.PREFERENCES: _check_pairs,
    DatasetPurpose.STEPS: _check_steps,
}


def _advise(
    params: DatasetParams,
    have: int,
    need: int,
    obstacle: RlhfError | None,
    left_out: Mapping[str, int],
    num_short: int,
    needs_second: bool,
) -> str:
    """One sentence: what is there, what is short, and what would help."""
    what = ROW_NAMES[params.purpose]
    if obstacle is None:
        return f"{have:,} {what}: enough to start (at least {need})."
    if have >= need:
        return str(obstacle)
    short = f"{have:,} {what}, {need - have} short"
    if needs_second:
        return f"{short}; these prompts need a second rated answer ({num_short} answers wait)."
    if num_short:
        return f"{short}; {_call_for(params.purpose)} ({num_short} are waiting)."
    if params.purpose is DatasetPurpose.PREFERENCES and left_out.get(Reason.SINGLE):
        return (
            f"{short}; {left_out[Reason.SINGLE]:,} prompts have one answer only: let a model "
            "answer them a second time, then rate that answer."
        )
    if left_out:
        reason = max(left_out, key=lambda name: left_out[name])
        return f"{short}; most was left out for: {reason} ({left_out[reason]:,})."
    return f"{short}; nothing is waiting: bring in more interactions."


def _call_for(purpose: DatasetPurpose) -> str:
    match purpose:
        case DatasetPurpose.SCORES | DatasetPurpose.SFT:
            return "rate more interactions"
        case DatasetPurpose.UNPAIRED:
            return "give more interactions a thumb"
        case DatasetPurpose.PREFERENCES:
            return "rate both of two answers to one prompt"
        case DatasetPurpose.STEPS:
            return "judge the steps of more interactions"
        case DatasetPurpose.PROMPTS:
            return "bring in more prompts"
        case _:
            assert_never(purpose)
