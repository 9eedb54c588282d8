"""Gates, promotion and roll back over HTTP."""

from collections.abc import Callable

from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.gates.vetoes import set_veto
from rlhf_core.store.engine import Store
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite

Bearer = Callable[..., dict[str, str]]
MODELS = "/api/v1/models"


def test_gates_promotion_and_roll_back(store: Store, client: TestClient, bearer: Bearer) -> None:
    with store.writing() as db:
        versions = [make_version(db) for _ in range(3)]
        for version in versions[:2]:
            examine(db, version)
        examine(db, versions[2], num_rows=3)
    reader = bearer(Permission.READ_MODELS)
    mover = bearer(Permission.PROMOTE_MODELS, Permission.READ_MODELS)
    answer = client.get(f"{MODELS}/reward/3/gates", headers=reader).json()
    assert (answer["version"], answer["is_blocked"]) == ("reward v3", True)
    rows = next(gate for gate in answer["gates"] if gate["kind"] == "num_rows")
    assert (rows["state"], rows["blocks"], rows["numbers"]) == (
        "fail", True, {"rows": 3, "need": 30},
    )  # fmt: skip
    of_share = client.get(f"{MODELS}/reward/3/gates?share=true", headers=reader).json()
    assert of_share["is_blocked"] is False

    for number, revision in ((1, 1), (2, 2)):
        moved = client.post(
            f"{MODELS}/reward/{number}/promote",
            headers=mover,
            json={"reason": "better", "expected_revision": revision - 1},
        )
        assert moved.json() == {"model_name": "reward", "number": number, "revision": revision}
    late = client.post(
        f"{MODELS}/reward/1/promote", headers=mover, json={"reason": "x", "expected_revision": 1}
    )
    assert (late.status_code, late.json()["error"]["type"]) == (409, "Conflict")
    refused = client.post(f"{MODELS}/reward/3/promote", headers=mover, json={"reason": "x"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "GatesFailed")
    assert "3 rows" in refused.json()["error"]["message"]
    over = {"reason": "x", "override_reason": "I may"}
    assert client.post(f"{MODELS}/reward/3/promote", headers=mover, json=over).status_code == 403
    chief = bearer(Permission.PROMOTE_MODELS, Permission.READ_MODELS, Permission.OVERRIDE_GATES)
    done = client.post(f"{MODELS}/reward/3/promote", headers=chief, json=over)
    assert done.json()["number"] == 3

    with store.writing() as db:
        set_veto(db, versions[0].id, actor=SYSTEM, reason="It invents laws.")
    way = f"{MODELS}/reward/rollback"
    refused = client.post(way, headers=mover, json={"reason": "harm", "number": 1})
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "GatesFailed")
    assert client.post(way, headers=mover, json={"number": 1, **over}).status_code == 403
    back = client.post(way, headers=chief, json={"number": 1, **over})
    assert back.json() == {"model_name": "reward", "number": 1, "revision": 4}


def test_unknown_versions_and_callers_without_the_scope_are_refused(
    store: Store, client: TestClient, bearer: Bearer
) -> None:
    with store.writing() as db:
        make_version(db)
    reader, mover = bearer(Permission.READ_MODELS), bearer(Permission.PROMOTE_MODELS)
    why = {"reason": "x"}
    assert client.get(f"{MODELS}/reward/9/gates", headers=reader).status_code == 404
    assert client.get(f"{MODELS}/reward/1/gates").status_code == 401
    promote = f"{MODELS}/reward/1/promote"
    assert client.post(promote, headers=reader, json=why).status_code == 403
    assert client.post(promote, headers=mover, json={}).status_code == 422
    assert client.post(f"{MODELS}/reward/rollback", headers=reader, json=why).status_code == 403
