"""The page Rollout: start, watch, decide, and what was."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.clock import utcnow
from rlhf_core.config import SOURCE_ROOT as ROOT
from rlhf_core.registry import service as registry
from rlhf_core.release.service import end_deployment, list_deployments, set_traffic
from rlhf_core.release.views import DeploymentView
from rlhf_core.release.watch import check_running
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment
from rlhf_core.vocabulary import Arm, DeploymentKind, DeploymentState, Role
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.core.release.live_world import make_pair, make_plan, policy_pair, serve, start, start_new

SignIn = Callable[[Role], Actor]


def open_page() -> AppTest:
    app = AppTest.from_file(ROOT / "app.py").run(timeout=30)
    return app.switch_page("pages/models/rollout.py").run(timeout=30)


def texts(app: AppTest) -> str:
    assert not app.exception
    kinds = [app.error, app.warning, app.info, app.success, app.markdown, app.caption, app.header]
    shown = "\n".join(element.value for kind in kinds for element in kind)
    return re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), shown).replace("\u2060", "")


def keys(app: AppTest) -> set[str]:
    return {button.key for button in app.button if button.key}


def table(app: AppTest, column: str) -> dict[str, list[Any]]:
    """The only table that has the column."""
    (found,) = [frame.value for frame in app.dataframe if column in frame.value]
    return {str(name): list(found[name]) for name in found}


def find_running(store: Store) -> DeploymentView | None:
    with store.reading() as db:
        return next((d for d in list_deployments(db, actor=SYSTEM) if d.is_running), None)


def test_without_a_model_or_production_it_says_what_comes_first(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    assert "No model yet" in texts(open_page())
    with store.writing() as db:
        make_version(db)
    app = open_page()
    assert "No version serves yet" in texts(app)
    assert "rollout_start" not in keys(app)


def test_users_and_days_are_shown_before_the_start(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        make_pair(db)
    app = open_page()
    assert "No answer of this model was rated" in texts(app)
    need = table(app, "Users who rate")
    assert need["Share"] == ["5 %", "25 %", "50 %"]
    users = [int(each.replace(",", "")) for each in need["Users who rate"]]
    assert users == sorted(users, reverse=True)
    app.number_input(key="rollout_drop").set_value(10.0).run()
    fewer = [int(each.replace(",", "")) for each in table(app, "Users who rate")["Users who rate"]]
    assert fewer[0] < users[0] / 3


def test_a_canary_is_started_only_by_its_typed_name(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        make_pair(db)
    app = open_page()
    app.button(key="rollout_start").click().run()
    assert "rules are kept" in " ".join(each.label for each in app.expander)
    assert app.button(key="rollout_start_confirm").disabled
    app.text_area(key="rollout_reason").set_value("better on the test rows")
    app.text_input(key="rollout_typed").set_value("reward v2").run()
    app.button(key="rollout_start_confirm").click().run()
    assert not app.exception
    running = find_running(store)
    assert running is not None
    assert (running.name, running.traffic_percent) == ("reward v2", 5.0)
    assert running.plan is not None
    assert running.plan.is_planned
    assert running.gates
    assert "reward v2 against v1" in texts(app)


def test_both_sides_stand_beside_each_other_with_the_verdict(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    deployment = start_new(store)
    with store.writing() as db:
        serve(db, deployment, Arm.CONTROL, [1] * 30 + [-1] * 10)
        serve(db, deployment, Arm.TREATMENT, [1] * 32 + [-1] * 8)
    app = open_page()
    assert "approval is 5 points higher under the treatment" in texts(app)
    figures = table(app, "Figure")
    by_name = dict(
        zip(figures["Figure"], zip(figures["Control, v1"], figures["Treatment, v2"], strict=True),
            strict=True)
    )  # fmt: skip
    assert by_name["Thumbs up / down"] == ("30 / 10", "32 / 8")
    assert by_name["Approval"] == ("75.0%", "80.0%")
    assert by_name["Requests"] == ("40", "40")
    assert "the sample ratio is as it should be" in texts(app)
    assert "No worker has looked" not in texts(app)


def test_next_step_raises_the_share_with_a_reason(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    start_new(store, traffic_percent=5.0)
    app = open_page()
    app.button(key="rollout_step").click().run()
    app.button(key="rollout_confirm").click().run()
    assert "Say why" in texts(app)
    app.text_area(key="rollout_reason").set_value("no harm so far")
    app.button(key="rollout_confirm").click().run()
    running = find_running(store)
    assert running is not None
    assert running.traffic_percent == 25.0
    assert table(app, "Decision")["Why"] == ["try it", "no harm so far"]


@pytest.mark.parametrize(
    ("button", "state"),
    [("rollout_back", DeploymentState.ROLLED_BACK), ("rollout_stop", DeploymentState.STOPPED)],
)
def test_roll_back_and_stop_end_it(
    button: str, state: DeploymentState, store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    start_new(store)
    app = open_page()
    app.button(key=button).click().run()
    app.text_area(key="rollout_reason").set_value("users complain")
    app.button(key="rollout_confirm").click().run()
    assert find_running(store) is None
    with store.reading() as db:
        (ended,) = list_deployments(db, actor=SYSTEM)
    assert (ended.state, ended.end_reason) == (state, "users complain")
    assert table(app, "Ended as")["Why"] == ["users complain"]


def test_promotion_goes_through_the_rules_and_ends_the_deployment(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    deployment = start_new(store, traffic_percent=25.0)
    app = open_page()
    app.button(key="rollout_promote").click().run()
    assert app.button(key="promote_confirm").disabled
    assert "ask an admin to pass over them" in texts(app)
    with store.writing() as db:
        examine(db, registry.get_version(db, deployment.version_id, actor=SYSTEM))
    app.button(key="rollout_promote").click().run()
    app.text_area(key="promote_reason").set_value("no worse")
    app.text_input(key="promote_typed").set_value("reward v2").run()
    app.button(key="promote_confirm").click().run()
    assert not app.exception
    with store.reading() as db:
        assert registry.get_alias(db, "reward", actor=SYSTEM).number == 2
        (ended,) = list_deployments(db, actor=SYSTEM)
    assert ended.state is DeploymentState.PROMOTED


def test_a_canary_taken_back_while_the_dialog_is_open_is_not_promoted(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    deployment = start_new(store, traffic_percent=25.0)
    with store.writing() as db:
        examine(db, registry.get_version(db, deployment.version_id, actor=SYSTEM))
    app = open_page()
    app.button(key="rollout_promote").click().run()
    app.text_area(key="promote_reason").set_value("no worse")
    app.text_input(key="promote_typed").set_value("reward v2").run()
    assert not app.button(key="promote_confirm").disabled
    with store.writing() as db:
        end_deployment(db, deployment.id, actor=SYSTEM, state=DeploymentState.ROLLED_BACK,
                       reason="harm", expected_revision=0)  # fmt: skip
    app.button(key="promote_confirm").click().run()
    with store.reading() as db:
        assert registry.get_alias(db, "reward", actor=SYSTEM).number == 1


def test_most_users_get_a_version_only_if_it_keeps_the_rules(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    start_new(store, traffic_percent=5.0)
    app = open_page()
    app.button(key="rollout_step").click().run()
    assert not app.button(key="rollout_confirm").disabled
    app.number_input(key="rollout_percent").set_value(75.0).run()
    assert "It was not examined yet." in texts(app)
    assert app.button(key="rollout_confirm").disabled
    app.number_input(key="rollout_percent").set_value(2.0).run()
    assert not app.button(key="rollout_confirm").disabled


def test_a_change_by_somebody_else_is_a_sentence(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    deployment = start_new(store)
    app = open_page()
    app.button(key="rollout_back").click().run()
    with store.writing() as db:
        set_traffic(db, deployment.id, actor=SYSTEM, percent=60.0, expected_revision=0,
                    reason="more")  # fmt: skip
    app.text_area(key="rollout_reason").set_value("users complain")
    app.button(key="rollout_confirm").click().run()
    assert "Somebody else changed the share" in texts(app)
    assert find_running(store) is not None


def test_a_roll_back_by_itself_is_told_with_its_verdict(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    deployment = start_new(store)
    with store.writing() as db:
        serve(db, deployment, Arm.CONTROL, [1] * 95 + [-1] * 5)
        serve(db, deployment, Arm.TREATMENT, [1] * 20 + [-1] * 80)
    assert check_running(store)
    app = open_page()
    before = table(app, "Ended as")
    assert (before["Ended as"], before["Verdict"]) == (["Rolled back"], ["Harm"])
    assert before["Decided by"] == ["by itself"]
    assert "was rolled back (by itself)" in texts(app)


def test_a_dead_watch_is_told(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    deployment = start_new(store)
    with store.writing() as db:
        row = db.get_one(Deployment, deployment.id)
        row.started_at = utcnow() - timedelta(minutes=5)
    assert "No worker has looked at it yet" in texts(open_page())


def test_system_prompts_are_tested_on_the_version_that_serves(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        policy_pair(db)
    app = open_page()
    app.segmented_control(key="rollout_kind_assistant").set_value(DeploymentKind.AB_TEST).run()
    assert app.button(key="rollout_start").disabled
    app.text_area(key="rollout_treatment_prompt").set_value("Answer in one sentence.").run()
    app.button(key="rollout_start").click().run()
    app.text_area(key="rollout_reason").set_value("shorter answers")
    app.text_input(key="rollout_typed").set_value("assistant v1").run()
    app.button(key="rollout_start_confirm").click().run()
    running = find_running(store)
    assert running is not None
    assert running.kind is DeploymentKind.AB_TEST
    assert (running.control_prompt, running.treatment_prompt) == (None, "Answer in one sentence.")
    assert "rollout_promote" not in keys(app)


def test_orders_are_interleaved_on_half_of_the_users(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        make_pair(db)
    app = open_page()
    app.segmented_control(key="rollout_kind_reward").set_value(DeploymentKind.INTERLEAVING).run()
    assert app.number_input(key="rollout_share_interleaving").value == 50.0
    assert "far fewer users" in texts(app)
    with store.writing() as db:
        version = registry.get_version_by_number(db, "reward", 2, actor=SYSTEM)
        start(db, version, kind=DeploymentKind.INTERLEAVING, plan=make_plan())
    assert "Keep waiting: 0 users chose the treatment's picks" in texts(open_page())


def test_what_was_live_names_production_and_who_had_a_share(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    start_new(store)
    app = open_page()
    yesterday = (utcnow() - timedelta(days=1)).date()
    assert "reward v1 served, and reward v2 against v1 runs on 50 %" in texts(app).replace("**", "")
    app.date_input(key="live_at_day").set_value(yesterday).run()
    assert "no version of reward served" in texts(app)


def test_an_analyst_looks_but_decides_nothing_and_text_of_others_is_text(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    start_new(store, reason="![x](http://evil.example/a.png) <b>")
    app = open_page()
    assert "reward v2 against v1" in texts(app)
    assert not {"rollout_step", "rollout_back", "rollout_promote"} & keys(app)
    assert "![x]" not in "\n".join(each.value for each in app.caption)
    assert "![x](http://evil.example/a.png) <b>" in texts(app)


def test_damaged_deployment_is_said_and_can_be_stopped(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    start_new(store)
    with store.writing() as db:
        db.execute(sa.update(Deployment).values(plan={"canary": {"alpha": 1}}))
    app = open_page()
    assert "It is not judged: its plan or its last verdict is damaged." in texts(app)
    app.button(key="rollout_stop").click().run()
    app.text_area(key="rollout_reason").set_value("it is damaged").run()
    app.button(key="rollout_confirm").click().run()
    assert find_running(store) is None
