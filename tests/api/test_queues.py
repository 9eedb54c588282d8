import uuid
from typing import Any

import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Feedback, RatingAssignment
from rlhf_core.vocabulary import AssignmentState, QueueSubject
from tests.builders import make_interaction
from tests.core.feedback.pairs import make_completions
from tests.databases import only_sqlite


def make_queue(store: Store, **fields: Any) -> uuid.UUID:
    with store.writing() as db:
        return create_queue(db, actor=SYSTEM, name="to rate", **fields).id


def post(
    client: TestClient, headers: dict[str, str], path: str, body: dict[str, Any] | None = None
) -> Any:
    response = client.post(f"/api/v1/{path}", json=body, headers=headers)
    assert response.status_code in (200, 201), response.text
    return response.json()


def test_a_program_works_through_a_queue(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    with store.writing() as db:
        ids = [make_interaction(db, steps=1, model_name="m 1").id for _ in range(3)]
    queue = make_queue(store, interaction_ids=ids)
    ask = f"queues/{queue}/next"
    first = post(client, writer_headers, ask)["item"]
    assert first["interaction_id"] == str(ids[0])
    assert first["prompt"].startswith("What is")
    assert [step["content"] for step in first["steps"]] == ["Step 0: add 0."]
    assert "m 1" not in str(first)
    assert post(client, writer_headers, ask)["item"]["item_id"] == first["item_id"]
    skipped = post(client, writer_headers, ask, {"after": first["item_id"]})["item"]
    assert skipped["interaction_id"] == str(ids[1])
    for item in (ids[1], ids[2], ids[0]):
        body = {"interaction_id": str(item), "queue_id": str(queue)}
        said = post(client, writer_headers, "feedback", {**body, "comment": "hm"})
        assert said["is_done"] is False
        assert post(client, writer_headers, "feedback", {**body, "rating": 4})["is_done"] is True
        post(client, writer_headers, ask)
    assert post(client, writer_headers, ask) == {"item": None}
    with store.reading() as db:
        assert set(db.scalars(sa.select(Feedback.queue_id))) == {queue}
        assert set(db.scalars(sa.select(RatingAssignment.state))) == {AssignmentState.DONE}


@only_sqlite
def test_steps_are_done_with_the_last_label_and_a_pair_with_its_comparison(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    with store.writing() as db:
        item = make_interaction(db, steps=2).id
        pair = make_completions(db)
    steps = make_queue(store, interaction_ids=[item], subject=QueueSubject.STEPS)
    body = {"interaction_id": str(item), "queue_id": str(steps), "label": 1}
    done = [
        post(client, writer_headers, "feedback", {**body, "step": n})["is_done"] for n in (0, 1)
    ]
    assert done == [False, True]
    with store.writing() as db:
        queue = create_queue(
            db, actor=SYSTEM, name="pairs", pairs=[(pair[0], pair[1])],
            subject=QueueSubject.COMPARISONS,
        ).id  # fmt: skip
    shown = post(client, writer_headers, f"queues/{queue}/next")["item"]
    assert {shown["completion"], shown["other_completion"]} == {
        f"Answer {n} to {shown['prompt']}" for n in (0, 1)
    }
    sides = {"left_id": shown["other_interaction_id"], "right_id": shown["interaction_id"]}
    said = {**sides, "choice": "left", "queue_id": str(queue)}
    assert post(client, writer_headers, "comparisons", said)["is_done"] is True
    assert post(client, writer_headers, f"queues/{queue}/next") == {"item": None}
    with store.reading() as db:
        assert list(db.scalars(sa.select(Comparison.queue_id))) == [queue]


@only_sqlite
def test_feedback_for_another_is_not_of_a_queue_and_an_unknown_queue_stores_nothing(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    with store.writing() as db:
        item = make_interaction(db).id
    queue = make_queue(store, interaction_ids=[item])
    for wrong, status in (
        ({"queue_id": str(queue), "rater": "kim"}, 422),
        ({"queue_id": str(queue), "rater_kind": "end_user"}, 422),
        ({"queue_id": str(uuid.uuid4())}, 404),
    ):
        body = {"interaction_id": str(item), "rating": 4, **wrong}
        response = client.post("/api/v1/feedback", json=body, headers=writer_headers)
        assert response.status_code == status, response.text
    unknown = client.post(f"/api/v1/queues/{uuid.uuid4()}/next", headers=writer_headers)
    assert unknown.status_code == 404
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 0


@only_sqlite
def test_a_comparison_that_its_queue_cannot_count_is_stored(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    with store.writing() as db:
        left, right = make_completions(db)[:2]
    queue = make_queue(store, interaction_ids=[left])
    said = {"left_id": str(left), "right_id": str(right), "choice": "left"}
    stored = post(client, writer_headers, "comparisons", {**said, "queue_id": str(queue)})
    assert stored["is_done"] is False
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Comparison)) == 1
