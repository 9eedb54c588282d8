"""Rules as rows: a model's before all models', before what is delivered."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Forbidden, InvalidInput, NotFound
from rlhf_core.gates.rules import SPECS, list_rules, reset_rules, set_rule
from rlhf_core.gates.service import CHECKS
from rlhf_core.gates.views import RuleSource, RuleView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, GateRule
from rlhf_core.vocabulary import GateKind, Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.databases import only_sqlite


def find_rule(store: Store, model_name: str | None = None) -> RuleView:
    with store.reading() as db:
        rules = list_rules(db, actor=SYSTEM, model_name=model_name)
    return next(rule for rule in rules if rule.kind is GateKind.NUM_ROWS)


def test_every_kind_has_a_rule_and_a_check() -> None:
    assert set(SPECS) == set(CHECKS) == set(GateKind)


@only_sqlite
def test_rule_of_a_model_comes_before_that_of_all_and_both_can_be_taken_back(
    store: Store,
) -> None:
    with store.writing() as db:
        make_version(db)
    delivered = find_rule(store)
    assert (delivered.source, delivered.params) == (RuleSource.DEFAULT, {"min_rows": 30})
    with store.writing() as db:
        of_all = set_rule(
            db, actor=SYSTEM, kind=GateKind.NUM_ROWS, params={"min_rows": 50}, is_required=False
        )
        own = set_rule(
            db, actor=SYSTEM, kind=GateKind.NUM_ROWS, model_name="reward",
            params={"min_rows": 400}, must_be_measured=True,
        )  # fmt: skip
    assert (of_all.source, of_all.params["min_rows"]) == (RuleSource.ALL_MODELS, 50)
    assert own == find_rule(store, "reward")
    assert (own.source, own.params, own.is_required, own.must_be_measured) == (
        RuleSource.MODEL, {"min_rows": 400}, False, True,
    )  # fmt: skip
    with store.writing() as db:
        assert reset_rules(db, actor=SYSTEM, model_name="reward") == 1
    assert find_rule(store, "reward").params == {"min_rows": 50}
    with store.writing() as db:
        assert reset_rules(db, actor=SYSTEM, kind=GateKind.NUM_ROWS) == 1
        assert reset_rules(db, actor=SYSTEM) == 0
        actions = db.scalars(sa.select(AuditEvent.action)).all()
    assert find_rule(store) == delivered
    assert [actions.count(f"gates.{what}") for what in ("set_rule", "reset_rules")] == [2, 2]


def test_two_who_change_different_parts_of_a_rule_at_once_both_have_their_way(
    store: Store,
) -> None:
    def change(fields: dict[str, Any]) -> None:
        with store.writing() as db:
            set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, **fields)

    changes: list[dict[str, Any]] = [
        {"params": {"min_rows": 70}}, {"is_required": False}, {"must_be_measured": False},
    ]  # fmt: skip
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(change, changes))
    found = find_rule(store)
    assert (found.params, found.is_required) == ({"min_rows": 70}, False)
    assert (found.must_be_measured, found.is_on) == (False, True)


def test_two_who_change_the_rule_of_all_models_at_once_leave_one_row(store: Store) -> None:
    def change(number: int) -> None:
        with store.writing() as db:
            set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, params={"min_rows": number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(40, 48)))
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(GateRule)) == 1
    assert find_rule(store).params["min_rows"] in range(40, 48)


@only_sqlite
@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        (GateKind.NUM_ROWS, {"rows": 3}, "has no limit 'rows': it has min_rows"),
        (GateKind.VETO, {"x": 3}, "it has none"),
        (GateKind.QUALITY, {"min_auc": 1.2}, "min_auc 1.2: give a number from 0 to 1"),
        (GateKind.QUALITY, {"min_auc": "nan"}, "give a number"),
        (GateKind.QUALITY, {"min_auc": True}, "give a number"),
        (GateKind.NUM_ROWS, {"min_rows": "many"}, "'many': give a number from 1"),
        (GateKind.CONSENT, {"licences": "x" * 501}, "longer than 500"),
    ],
)
def test_limit_that_is_none_is_refused(
    store: Store, kind: GateKind, params: dict[str, object], said: str
) -> None:
    with store.writing() as db, pytest.raises(InvalidInput, match=said):
        set_rule(db, actor=SYSTEM, kind=kind, params=params)


@only_sqlite
def test_who_may_promote_may_not_set_the_rules(store: Store) -> None:
    with store.writing() as db:
        trainer = make_actor(db, Role.TRAINER)
        with pytest.raises(Forbidden):
            set_rule(db, actor=trainer, kind=GateKind.VETO, is_on=False)
        with pytest.raises(Forbidden):
            reset_rules(db, actor=trainer)
        with pytest.raises(NotFound, match="no model 'other'"):
            set_rule(db, actor=SYSTEM, kind=GateKind.VETO, model_name="other")
