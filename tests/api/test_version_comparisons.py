"""Comparing versions over HTTP, and on the command line."""

import json
import uuid
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.cli.compare import command
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.jobs.service import list_jobs
from rlhf_core.registry.comparisons import ComparisonView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.jobs.test_evaluate import freeze
from tests.core.queues.test_reward_pairs import keep, row_of, two_versions
from tests.databases import only_sqlite

PATH = "/api/v1/version-comparisons"
BODY = {"model": "reward", "numbers": [1, 2], "dataset": "ratings", "split": "all"}


@pytest.fixture
def kept(store: Store) -> ComparisonView:
    """Two versions that disagree on three completions."""
    with store.writing() as db:
        versions = two_versions(db)
        rows = [
            row_of(versions, (0.9, 0.2), interaction_id=str(make_interaction(db).id), group=str(n))
            for n in range(3)
        ]
        figure = {"value": 0.05, "low": 0.01, "high": 0.09}
        first, second = (str(version.id) for version in versions)
        return keep(
            db, versions, "scores", rows, deciding="auc", differences={second: {"auc": figure}},
            versions={first: {"auc": {"value": 0.7}}, second: {"auc": {"value": 0.75}}},
        )  # fmt: skip


@only_sqlite
def test_a_comparison_is_queued_once_for_its_key(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]], kept: ComparisonView
) -> None:
    with store.writing() as db:
        make_feedback(db, make_interaction(db).id, actor=make_actor(db), rating=5)
    freeze(store, "ratings", DatasetParams())
    who = bearer(Permission.RUN_JOBS, Permission.READ_MODELS, Permission.MANAGE_DATASETS)
    who["Idempotency-Key"] = uuid.uuid4().hex
    answers = [client.post(PATH, headers=who, json=BODY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    with store.reading() as db:
        (job,) = list_jobs(db, kind=JobKind.COMPARE_VERSIONS)
    assert job.params["version_ids"] == [str(one) for one in kept.version_ids]
    del who["Idempotency-Key"]
    for wrong, word in (
        ({"numbers": [1]}, "numbers"),
        ({"numbers": [1, 9]}, "no version 9"),
        ({"numbers": [1, 1]}, "2 to 5 different versions"),
        ({"dataset": "nothing"}, "no dataset"),
    ):
        refused = client.post(PATH, headers=who, json={**BODY, **wrong})
        assert refused.status_code in (404, 422)
        assert word in refused.text


@only_sqlite
def test_reader_sees_figures_and_a_queue_brings_people_in(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]], kept: ComparisonView
) -> None:
    reader = bearer(Permission.READ_MODELS)
    (listed,) = client.get(PATH, headers=reader, params={"model": "reward"}).json()["comparisons"]
    assert (listed["id"], listed["num_rows"], listed["people"]) == (str(kept.id), 3, [])
    assert client.get(PATH, headers=reader, params={"model": "x"}).json() == {"comparisons": []}
    assert client.get(f"{PATH}/{uuid.uuid4()}", headers=reader).status_code == 404
    queue = f"{PATH}/{kept.id}/queue"
    assert client.post(queue, headers=reader, json={"number": 2}).status_code == 403
    manager = bearer(Permission.MANAGE_QUEUES, Permission.READ_MODELS)
    made = client.post(queue, headers=manager, json={"number": 2})
    assert (made.status_code, made.json()["num_items"]) == (201, 3)
    assert client.post(queue, headers=manager, json={"number": 2}).status_code == 409
    assert client.post(queue, headers=manager, json={"number": 1}).status_code == 422
    found = client.get(f"{PATH}/{kept.id}", headers=reader).json()
    (people,) = found["people"]
    assert (people["version"], people["other"]) == ("reward v2", "reward v1")
    assert (people["num_items"], people["num_judged"], people["win_rate"]) == (3, 0, None)


@only_sqlite
def test_command_line_lists_shows_and_asks(store: Store, kept: ComparisonView) -> None:
    def call(*words: str) -> str:
        done = CliRunner().invoke(command, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert f"{kept.id}" in call("list")
    assert "reward v2 AUC 0.750 against 0.700, +0.050 (+0.010 to +0.090): better." in call(
        "show", str(kept.id)
    )
    assert "3 items wait" in call("ask", str(kept.id), "2")
    assert "nobody has judged the 3 items" in call("show", str(kept.id))
    assert json.loads(call("show", str(kept.id), "--json"))["people"][0]["version"] == "reward v2"
    with store.writing() as db:
        rater = make_actor(db)
        for row in kept_ids(store, kept):
            make_feedback(db, row, actor=rater, rating=1)
    assert "People side with reward v2 against reward v1 in 100% of 3 items" in call(
        "show", str(kept.id)
    )


def kept_ids(store: Store, kept: ComparisonView) -> list[uuid.UUID]:
    from rlhf_core.registry.comparisons import read_rows

    return [uuid.UUID(row["interaction_id"]) for row in read_rows(kept)]
