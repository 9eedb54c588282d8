"""Who gets which side."""

import uuid

import pytest

from rlhf_core.release.assignment import PRODUCTION_ROUTE, RunningDeployment, assign, read_running
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Arm, DeploymentKind
from tests.core.release.live_world import make_pair, start


def running(percent: float, *, id_: uuid.UUID | None = None, **fields: object) -> RunningDeployment:
    return RunningDeployment(
        id=id_ or uuid.uuid4(),
        model_name="assistant",
        kind=DeploymentKind.CANARY,
        version_id=uuid.uuid4(),
        baseline_version_id=uuid.uuid4(),
        traffic_percent=percent,
        **{"control_prompt": None, "treatment_prompt": None, "revision": 0, **fields},  # type: ignore[arg-type]
    )


def treated(deployment: RunningDeployment, num: int = 20_000) -> set[int]:
    return {n for n in range(num) if assign(deployment, f"user-{n}").arm is Arm.TREATMENT}


def test_without_a_deployment_production_answers() -> None:
    assert assign(None, "somebody") == PRODUCTION_ROUTE
    assert (PRODUCTION_ROUTE.version_id, PRODUCTION_ROUTE.propensity) == (None, 1.0)


@pytest.mark.parametrize("percent", [0.5, 5, 25, 50, 95])
def test_each_side_gets_its_share_of_the_users(percent: float) -> None:
    share = len(treated(running(percent))) / 20_000
    deviation = (percent / 100 * (1 - percent / 100) / 20_000) ** 0.5
    assert abs(share - percent / 100) < 4 * deviation


def test_user_keeps_a_side_and_a_raised_share_keeps_who_is_in_it() -> None:
    id_ = uuid.uuid4()
    small, large = (treated(running(percent, id_=id_), 2_000) for percent in (5, 25))
    assert small == treated(running(5, id_=id_), 2_000)
    assert small < large
    assert len(treated(running(100, id_=id_), 2_000)) == 2_000


def test_next_deployment_draws_anew() -> None:
    one, other = treated(running(10)), treated(running(10))
    both = len(one & other) / 20_000
    assert 0.005 < both < 0.015, "as many as chance has in both, so nobody is always the first"


def test_request_without_a_user_is_drawn_each_time() -> None:
    deployment = running(50)
    arms = [assign(deployment, None).arm for _ in range(400)]
    assert 120 < arms.count(Arm.TREATMENT) < 280


def test_route_says_version_share_and_prompt_of_its_side() -> None:
    deployment = running(25, control_prompt="Be kind.", treatment_prompt="Be short.")
    routes = {assign(deployment, str(n)).arm: assign(deployment, str(n)) for n in range(100)}
    control, treatment = routes[Arm.CONTROL], routes[Arm.TREATMENT]
    assert (treatment.version_id, treatment.propensity) == (deployment.version_id, 0.25)
    assert (control.version_id, control.propensity) == (deployment.baseline_version_id, 0.75)
    assert (treatment.system_prompt, control.system_prompt) == ("Be short.", "Be kind.")
    assert treatment.deployment_id == control.deployment_id == deployment.id


def test_any_text_names_a_user() -> None:
    deployment = running(50)
    for key in ("", "ü" * 500, "\udcff", "0"):
        assert assign(deployment, key) == assign(deployment, key)


def test_serving_reads_what_runs(store: Store) -> None:
    with store.writing() as db:
        one, two = make_pair(db)
        assert read_running(db, "reward") is None
        made = start(db, two, traffic_percent=5.0)
        found = read_running(db, "reward")
        assert found is not None
        assert (found.id, found.model_name, found.traffic_percent) == (made.id, "reward", 5.0)
        assert (found.version_id, found.baseline_version_id) == (two.id, one.id)
        assert read_running(db, "assistant") is None
