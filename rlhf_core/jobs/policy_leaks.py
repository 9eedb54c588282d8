"""Which prompts a model learned from: they must not examine it, nor a policy that it judges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.service import list_versions, load_rows
from rlhf_core.errors import RlhfError
from rlhf_core.examples import PromptOnly
from rlhf_core.jobs.policy_rewards import RewardSource
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import ModelVersion
from rlhf_core.vocabulary import Split


@dataclass(frozen=True)
class Unseen:
    """The prompts that none of the models learned from.

    `left_out` counts by model those that it did; one that several know counts for each of them.
    """

    prompts: list[PromptOnly]
    num_left_out: int
    left_out: dict[str, int]

    def describe(self) -> str | None:
        """How many were left out, and because of whom; None where none was."""
        if not self.num_left_out:
            return None
        are = "is" if self.num_left_out == 1 else "are"
        total = self.num_left_out + len(self.prompts)
        who = ", ".join(self.left_out)
        return f"{self.num_left_out} of {total} {are} left out, which {who} learned from"


def leave_out_learned(prompts: Sequence[PromptOnly], learned: Mapping[str, set[str]]) -> Unseen:
    """Part the prompts. `learned`: by the name of a model the groups that it learned from."""
    every = set[str]().union(*learned.values())
    unseen = [row for row in prompts if row.group not in every]
    counts = {name: sum(row.group in groups for row in prompts) for name, groups in learned.items()}
    return Unseen(
        unseen,
        len(prompts) - len(unseen),
        {name: count for name, count in counts.items() if count},
    )


def find_all_learned(
    db: Session, actor: Actor, sources: Iterable[RewardSource]
) -> dict[str, set[str]]:
    """The groups that each reward model learned from, by its name."""
    return {source.name: find_learned_groups(db, actor, source) for source in sources}


def find_learned_groups(db: Session, actor: Actor, source: RewardSource) -> set[str]:
    """The prompts that a reward model learned from; empty where its rows are not known."""
    if source.version_id is None:
        return set()
    (version,) = load_versions(db, ModelVersion.id == UUID(source.version_id))
    return find_version_groups(db, actor, version)


def find_version_groups(db: Session, actor: Actor, version: ModelVersionView) -> set[str]:
    """The prompts that a version learned from; empty where its rows are not known."""
    if version.dataset_version_id is None or version.dataset is None:
        return set()
    name = version.dataset.rpartition(" v")[0]
    known = list_versions(db, actor=actor, name=name)
    frozen = next((one for one in known if one.id == version.dataset_version_id), None)
    if frozen is None:
        return set()
    try:
        rows = [
            row for part in (Split.TRAIN, Split.VALIDATION) for row in load_rows(frozen, split=part)
        ]
    except RlhfError:  # its files are gone: nothing can be said
        return set()
    is_judge = version.details.get("role") == "judge"
    if is_judge or version.details.get("judge"):
        from rlhf_core.rewards.ensemble import halve_by_prompt

        first, second = halve_by_prompt(rows, version.seed)
        rows = second if is_judge else first
    return {row.group for row in rows}
