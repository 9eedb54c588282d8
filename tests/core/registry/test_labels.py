from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.registry import labels, service
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.databases import only_sqlite


def test_tags_are_kept_in_lower_case_once_and_found_by(store: Store) -> None:
    with store.writing() as db:
        version, other = make_version(db), make_version(db)
        kept = labels.set_tags(db, version.id, actor=SYSTEM, tags=[" Stable", "stable", "", "May"])
        labels.set_tags(db, other.id, actor=SYSTEM, tags=["may"])
        assert kept == ("stable", "may")
    with store.reading() as db:
        assert service.get_version(db, version.id, actor=SYSTEM).tags == kept
        assert [one.id for one in service.list_versions(db, actor=SYSTEM, tag="STABLE")] == [
            version.id
        ]
        assert len(service.list_versions(db, actor=SYSTEM, tag="may")) == 2
        assert service.list_versions(db, actor=SYSTEM, tag="none") == []
    with store.writing() as db:
        labels.set_tags(db, version.id, actor=SYSTEM, tags=[])
        assert service.get_version(db, version.id, actor=SYSTEM).tags == ()


@only_sqlite
@pytest.mark.parametrize(
    "tags", [["x" * 41], ["a,b"], ["a\nb"], ["a\0b"], [f"tag {n}" for n in range(21)]]
)
def test_tags_that_are_none_are_refused(store: Store, tags: list[str]) -> None:
    with store.writing() as db:
        version = make_version(db)
        with pytest.raises(InvalidInput) as caught:
            labels.set_tags(db, version.id, actor=SYSTEM, tags=tags)
    assert caught.value.field == "tags"


@only_sqlite
def test_notes_have_an_end_and_labels_need_the_right(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        analyst = make_actor(db, Role.ANALYST)
        with pytest.raises(InvalidInput, match="up to 20,000"):
            labels.set_notes(db, version.id, actor=SYSTEM, notes="x" * 20_001)
        acts: tuple[Any, ...] = (
            lambda: labels.set_notes(db, version.id, actor=analyst, notes="x"),
            lambda: labels.set_tags(db, version.id, actor=analyst, tags=["x"]),
        )
        for act in acts:
            with pytest.raises(Forbidden):
                act()
