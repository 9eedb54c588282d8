"""Whether there is enough feedback to train on, and if not, what is missing."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.dataset.builder import ScoreCounts, ScoresParams, count_scores
from rlhf_core.errors import RlhfError
from rlhf_core.rewards.requirements import MIN_ROWS, RowCounts, find_obstacle


@dataclass(frozen=True)
class Readiness:
    """`have` of `need` rated interactions; `obstacle` is the sentence a run would end with.

    `counts` says what the rows are, and what was left out and why.
    """

    have: int
    need: int
    obstacle: str | None
    counts: ScoreCounts

    @property
    def missing(self) -> int:
        """How many more rated interactions are needed."""
        return max(0, self.need - self.have)

    @property
    def is_ready(self) -> bool:
        """Whether a run can start."""
        return self.obstacle is None


def check_readiness(
    db: Session, *, actor: Actor, params: ScoresParams, threshold: float
) -> Readiness:
    """What a reward model trained now would learn from."""
    require(actor, Permission.RUN_JOBS)
    counts = count_scores(db, params=params, threshold=threshold)
    shortage = find_shortage(counts, threshold=threshold)
    return Readiness(
        have=counts.num_rows,
        need=MIN_ROWS,
        obstacle=None if shortage is None else str(shortage),
        counts=counts,
    )


def find_shortage(counts: ScoreCounts, *, threshold: float) -> RlhfError | None:
    """Why these rows cannot train a reward model; None where they can."""
    known = {name: getattr(counts, name) for name in RowCounts.__dataclass_fields__}
    return find_obstacle(RowCounts(**known), threshold=threshold)
