"""Which prompts a reward model or judge knows: it must not examine a policy on them."""

from uuid import UUID

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.service import list_versions, load_rows
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.policy_rewards import RewardSource
from rlhf_core.registry.views import load_versions
from rlhf_core.store.tables import ModelVersion
from rlhf_core.vocabulary import Split


def find_learned_groups(db: Session, actor: Actor, source: RewardSource) -> set[str]:
    """The prompts that a reward model learned from; empty where its rows are not known."""
    if source.version_id is None:
        return set()
    (version,) = load_versions(db, ModelVersion.id == UUID(source.version_id))
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
