"""What two frozen versions have in common: rows, prompts, and how they were chosen."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.dataset.service import DatasetVersionView, find_version, stream_rows
from rlhf_core.errors import NotFound
from rlhf_core.examples import Example

LABELS = frozenset(
    {"score", "label", "labels", "margin", "num_ratings", "num_votes", "aspects", "spread"}
)
"""What people say of a row; the rest is what the row is about."""
NOT_CONTENT = frozenset({"segments", "group", "origin", "comparison_id", "feedback_id"})


@dataclass(frozen=True)
class DatasetDifference:
    """Two frozen versions, side by side.

    `num_equal` rows are in both with what people said of them, `num_relabelled` in both with other
    words of people; the rest is in one only. Prompts likewise. `params` are the settings that
    differ, by their path: (the first one's, the second one's).
    """

    first: DatasetVersionView
    second: DatasetVersionView
    num_equal: int
    num_relabelled: int
    num_only_first: int
    num_only_second: int
    num_prompts_both: int
    num_prompts_only_first: int
    num_prompts_only_second: int
    params: dict[str, tuple[Any, Any]]


def compare_frozen(
    db: Session, *, actor: Actor, first_id: uuid.UUID, second_id: uuid.UUID
) -> DatasetDifference:
    """Read both versions' rows, and count. What is frozen never changes: the answer may be kept.

    Raises NotFound where a version is gone, Unavailable or InvalidInput where its file is.
    """
    require(actor, Permission.READ_MODELS)
    first, second = (_get(db, one) for one in (first_id, second_id))
    rows, others = _read(first), _read(second)
    both = rows.keys() & others.keys()
    num_equal = sum(rows[key][0] == others[key][0] for key in both)
    prompts, other_prompts = ({group for _, group in one.values()} for one in (rows, others))
    return DatasetDifference(
        first=first,
        second=second,
        num_equal=num_equal,
        num_relabelled=len(both) - num_equal,
        num_only_first=len(rows.keys() - both),
        num_only_second=len(others.keys() - both),
        num_prompts_both=len(prompts & other_prompts),
        num_prompts_only_first=len(prompts - other_prompts),
        num_prompts_only_second=len(other_prompts - prompts),
        params=find_changed(
            {"purpose": first.purpose.value, **first.params},
            {"purpose": second.purpose.value, **second.params},
        ),
    )


def find_changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by their path (`filters.source`); None where one has none."""
    flat, other = _flatten(first), _flatten(second)
    return {
        name: (flat.get(name), other.get(name))
        for name in sorted(flat.keys() | other.keys())
        if flat.get(name) != other.get(name)
    }


def _read(version: DatasetVersionView) -> dict[bytes, tuple[bytes, str]]:
    """Of each row what it is about: what people say of it, and its prompt. Hashes, for memory."""
    return {_identify(row): (_hash_labels(row), row.group) for row, _ in stream_rows(version)}


def _identify(row: Example) -> bytes:
    about = {
        name: value
        for name, value in asdict(row).items()
        if name not in LABELS and name not in NOT_CONTENT
    }
    return _hash([type(row).__name__, about])


def _hash_labels(row: Example) -> bytes:
    return _hash({name: value for name, value in asdict(row).items() if name in LABELS})


def _hash(plain: Any) -> bytes:
    text = json.dumps(plain, sort_keys=True, default=dict)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _flatten(plain: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def _get(db: Session, version_id: uuid.UUID) -> DatasetVersionView:
    found = find_version(db, version_id)
    if found is None:
        raise NotFound(f"There is no frozen version {version_id} any more.")
    return found
