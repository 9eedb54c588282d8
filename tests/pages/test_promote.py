"""Promotion asks the rules first; whoever may, passes over them with a reason."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.gates.rules import list_rules, set_rule
from rlhf_core.gates.vetoes import list_vetoes, set_veto
from rlhf_core.registry.service import alias_history, promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import GateKind, Role
from tests.builders import make_actor
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.pages.test_registry import column, open_page, production, texts

SignIn = Callable[[Role], Actor]


def open_version(version: ModelVersionView) -> AppTest:
    app = open_page()
    app.query_params["version"] = str(version.id)
    return app.run(timeout=30)


def ask_to_promote(version: ModelVersionView) -> AppTest:
    app = open_version(version)
    app.button(key="promote").click().run(timeout=30)
    app.text_area(key="promote_reason").set_value("better").run(timeout=30)
    return app.text_input(key="promote_typed").set_value(version.name).run(timeout=30)


def make_weak(store: Store) -> ModelVersionView:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version, {"auc": (0.55, 0.4, 0.7)}, num_rows=12)
    return version


def test_trainer_sees_what_fails_and_cannot_go_on(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    app = ask_to_promote(make_weak(store))
    said = texts(app)
    assert "12 rows, by its examination of" in said
    assert "AUC 0.550 (0.400 to 0.700; asked for 0.500)" in said
    assert "ask an admin to pass over them" in said
    assert app.button(key="promote_confirm").disabled
    assert production(store) is None


def test_admin_passes_over_the_rules_with_a_reason(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ADMIN)
    app = ask_to_promote(make_weak(store))
    app.button(key="promote_confirm").click().run(timeout=30)
    assert "why the rules are passed over" in texts(app)
    assert production(store) is None
    app.text_area(key="promote_override").set_value("It is a demonstration.").run(timeout=30)
    app.button(key="promote_confirm").click().run(timeout=30)
    assert production(store) == 1
    with store.reading() as db:
        evidence = alias_history(db, "reward", actor=SYSTEM)[0].evidence or {}
    assert evidence["override_reason"] == "It is a demonstration."


def test_rule_that_is_broken_meanwhile_is_a_sentence_in_the_dialog(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        version = make_version(db)
    app = ask_to_promote(version)
    assert not app.button(key="promote_confirm").disabled
    with store.writing() as db:
        set_veto(db, version.id, actor=make_actor(db, Role.ANALYST, name="Ann"), reason="Rude.")
    app.button(key="promote_confirm").click().run(timeout=30)
    assert "Vetoed by Ann: Rude." in texts(app)
    assert production(store) is None


def test_any_version_that_served_is_one_click_from_serving_again(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        versions = [make_version(db) for _ in range(3)]
        for version in versions:
            promote_version(db, version.id, actor=SYSTEM, reason="better")
    app = open_version(versions[0])
    app.button(key="rollback").click().run(timeout=30)
    app.text_area(key="rollback_reason").set_value("the newer two do harm").run(timeout=30)
    app.button(key="rollback_confirm").click().run(timeout=30)
    assert production(store) == 1
    assert column(app, "What")[0] == "Rolled back"


def test_roll_back_to_a_vetoed_version_is_refused_in_the_dialog(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        versions = [make_version(db) for _ in range(2)]
        for version in versions:
            promote_version(db, version.id, actor=SYSTEM, reason="better")
        set_veto(db, versions[0].id, actor=make_actor(db, Role.ANALYST, name="Ann"), reason="Rude.")
    app = open_version(versions[1])
    app.button(key="rollback").click().run(timeout=30)
    assert "Vetoed by Ann: Rude." in texts(app)
    assert app.button(key="rollback_confirm").disabled


def test_form_of_a_rule_sends_only_what_was_changed(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ADMIN)
    with store.writing() as db:
        make_version(db)
    app = AppTest.from_file(SOURCE_ROOT / "app.py").run(timeout=30)
    app.switch_page("pages/models/gates.py").run(timeout=30)
    app.selectbox(key="rule_kind").set_value(GateKind.QUALITY).run(timeout=30)
    with store.writing() as db:  # somebody else, meanwhile
        set_rule(db, actor=SYSTEM, kind=GateKind.QUALITY, params={"min_auc": 0.7},
                 is_required=False)  # fmt: skip
    app.number_input(key="rule_min_win_rate_None_quality").set_value(0.6)
    app.button(key="rule_save").click().run(timeout=30)
    with store.reading() as db:
        rule = next(one for one in list_rules(db, actor=SYSTEM) if one.kind is GateKind.QUALITY)
    assert (rule.params["min_auc"], rule.params["min_win_rate"]) == (0.7, 0.6)
    assert (rule.is_required, rule.spares_first) == (False, True)
    assert app.number_input(key="rule_min_auc_None_quality1").value == 0.7


def test_expert_vetoes_and_the_tab_says_so(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.ANALYST)
    with store.writing() as db:
        version = make_version(db)
    app = open_version(version)
    app.text_area(key="veto_reason").set_value("It invents [laws](http://x.example).")
    app.button(key="veto_set").click().run(timeout=30)
    assert "It invents [laws](http://x.example)." in texts(app)
    app.button(key="gates_check").click().run(timeout=30)
    assert f"Vetoed by {actor.name}: It invents" in texts(app)
    with store.reading() as db:
        (veto,) = list_vetoes(db, version.id, actor=SYSTEM)
    app.text_area(key=f"veto_why_{veto.id}").set_value("mended")
    app.button(key=f"veto_withdraw_{veto.id}").click().run(timeout=30)
    assert "None stands against this version." in texts(app)


def test_rules_as_delivered_have_no_column_that_says_so(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    app = AppTest.from_file(SOURCE_ROOT / "app.py").run(timeout=30)
    app.switch_page("pages/models/gates.py").run(timeout=30)
    table = app.table[0].value.set_index("Rule")
    assert list(table) == ["Breaking it", "Limits", "What it asks"]
    assert table.loc["Files", "Limits"] == "none"
    assert table.loc["Consent and licence", "Limits"].endswith("Allowed licences, with commas: any")


@pytest.mark.parametrize("role", [Role.ADMIN, Role.TRAINER])
def test_rules_are_shown_to_all_and_changed_by_admins(
    store: Store, sign_in_as: SignIn, role: Role
) -> None:
    sign_in_as(role)
    with store.writing() as db:
        make_version(db)
        set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, params={"min_rows": 60})
    app = AppTest.from_file(SOURCE_ROOT / "app.py").run(timeout=30)
    app.switch_page("pages/models/gates.py").run(timeout=30)
    assert not app.exception
    table = app.table[0].value.set_index("Rule")
    assert table.loc["Rows examined", "Limits"] == "At least this many rows: 60"
    assert table.loc["Rows examined", "Comes from"] == "set for all models"
    if role is Role.TRAINER:
        assert not app.selectbox
        return
    app.selectbox(key="rule_kind").set_value(GateKind.NUM_ROWS).run(timeout=30)
    app.number_input(key="rule_min_rows_None_num_rows").set_value(90.0)
    app.checkbox(key="rule_required_None_num_rows").uncheck()
    app.button(key="rule_save").click().run(timeout=30)
    table = app.table[0].value.set_index("Rule")
    assert table.loc["Rows examined", "Limits"] == "At least this many rows: 90"
    assert table.loc["Rows examined", "Breaking it"] == "warns"
    app.button(key="rule_reset").click().run(timeout=30)
    table = app.table[0].value.set_index("Rule")
    assert table.loc["Rows examined", "Limits"] == "At least this many rows: 30"
