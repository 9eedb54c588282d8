"""Which reward model to train with the feedback that is there."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.readiness import check_readiness
from rlhf_core.vocabulary import DatasetPurpose, JobKind

ENOUGH_TO_TUNE = 1_000
"""Rows from which tuning a network is worth its time; with fewer it learns them by heart."""


@dataclass(frozen=True)
class Recommendation:
    """The learner that suits what there is, and why in one sentence."""

    learner: JobKind
    why: str


def recommend(num_scored: int, num_pairs: int, num_stepped: int, *, need: int) -> Recommendation:
    """Which learner to begin with, for so many usable rows of each kind; `need`: the fewest."""
    best, what = num_scored, "rated completions"
    if num_scored < need:  # else the pairs are mostly these ratings once more
        best, what = max((num_scored, what), (num_pairs, "pairs"))
    if best >= ENOUGH_TO_TUNE:
        return Recommendation(
            JobKind.TRAIN_TRANSFORMER,
            f"{best:,} {what} are enough to fine-tune a language model, which then tells good from "
            "bad better than embeddings do.",
        )
    if best < need <= num_stepped:
        return Recommendation(
            JobKind.TRAIN_STEPS,
            f"There are {num_stepped:,} completions with step labels, and only {best:,} {what}.",
        )
    have = f"{best:,} {what}" if best else "few ratings"
    return Recommendation(
        JobKind.TRAIN_SBERT,
        f"With {have} it is the safe start: fine-tuning pays off from about "
        f"{ENOUGH_TO_TUNE:,} rows on.",
    )


def recommend_reward(db: Session, *, actor: Actor) -> Recommendation:
    """The recommendation for all that is stored."""

    def check(purpose: DatasetPurpose) -> tuple[int, int]:
        found = check_readiness(db, actor=actor, params=DatasetParams(purpose=purpose))
        return found.have, found.need

    scored, need = check(DatasetPurpose.SCORES)
    if scored >= ENOUGH_TO_TUNE:
        return recommend(scored, 0, 0, need=need)
    paired, _ = check(DatasetPurpose.PREFERENCES)
    stepped, _ = check(DatasetPurpose.STEPS)
    return recommend(scored, paired, stepped, need=need)
