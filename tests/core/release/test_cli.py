"""`python -m rlhf_core release`."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.main import main
from rlhf_core.errors import Conflict, GatesFailed, InvalidInput, NotFound, RlhfError
from rlhf_core.registry.service import find_production
from rlhf_core.release.service import list_deployments
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Arm
from tests.core.gates.world import examine
from tests.core.release.live_world import make_pair, serve, start
from tests.databases import only_sqlite

pytestmark = only_sqlite


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["release", *arguments])


def say(*arguments: str) -> str:
    done = call(*arguments)
    assert done.exit_code == 0, done.output or done.exception
    return done.stdout


def answer(*arguments: str) -> Any:
    return json.loads(say(*arguments, "--json"))


def refuse(error: type[RlhfError], said: str, *arguments: str) -> None:
    found = call(*arguments).exception
    assert isinstance(found, error), found
    assert said in str(found)


def test_version_is_tried_widened_and_promoted(store: Store) -> None:
    assert say("list") == "No version was tried out yet.\n"
    with store.writing() as db:
        _, version = make_pair(db)
    assert "Days: unknown: no feedback came of late." in say("plan", "--drop", "0.1")
    assert answer("plan", "--open-ended")["is_planned"] is False
    made = answer("start", "2", "--reason", "it looks better", "--percent", "10")
    assert (made["traffic_percent"], made["revision"]) == (10.0, 0)
    with store.writing() as db:
        (deployment,) = list_deployments(db, actor=SYSTEM)
        serve(db, deployment, Arm.CONTROL, [1, 1, -1])
    shown = say("show")
    assert "reward v2 against v1  canary  10 %" in shown
    assert "control: 3 requests of 3 users, 0 errors  approval 66.7%" in shown
    assert answer("show", "--id", str(deployment.id))["control"]["num_thumbs_up"] == 2
    assert "  25 %  running" in say("traffic", "25", "--reason", "no harm")
    most = ("traffic", "75", "--reason", "no harm")
    refuse(GatesFailed, "Rows examined (not measured)", *most)
    assert "  75 %  running" in say(*most, "--override-reason", "urgent")
    assert "  25 %  running" in say("traffic", "25", "--reason", "less again")
    with store.writing() as db:
        examine(db, version)
    refuse(Conflict, "has 25 %", "promote", "--reason", "good", "--expected-revision", "0")
    assert "promoted: good" in say("promote", "--reason", "good")
    with store.reading() as db:
        production = find_production(db)
    assert production is not None
    assert production.number == 2
    refuse(Conflict, "Nothing is tried out on 'reward' now", "stop", "--reason", "late")


@pytest.mark.parametrize(("way", "said"), [("rollback", "rolled back"), ("stop", "stopped")])
def test_version_is_taken_back(store: Store, way: str, said: str) -> None:
    with store.writing() as db:
        start(db, make_pair(db)[1])
    assert f"{said}: enough" in say(way, "--reason", "enough")
    assert f"{said}: enough" in say("list", "--model", "reward")


def test_bad_input_is_a_sentence(store: Store) -> None:
    with store.writing() as db:
        make_pair(db)
    refuse(NotFound, "no version 7", "start", "7", "--reason", "x")
    refuse(InvalidInput, "101 % is no share", "start", "2", "--reason", "x", "--percent", "101")
    refuse(InvalidInput, "Name the version", "start", "--reason", "x")
    refuse(Conflict, "was tried out yet: start one", "show")
