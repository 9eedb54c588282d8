"""`gates ...`, and how `models promote` and `rollback` obey."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rlhf_core.cli.main import main
from rlhf_core.errors import GatesFailed, InvalidInput
from rlhf_core.store.engine import Store
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def answer(*arguments: str) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_rules_are_listed_changed_and_taken_back(store: Store) -> None:
    with store.writing() as db:
        make_version(db)
    first = call("gates", "list").stdout
    assert (
        "num_rows       required, must be measured once another version serves  min_rows=30"
        in first
    )
    changed = answer(
        "gates", "set", "num_rows", "min_rows=80", "--model", "reward", "--warn",
        "--must-be-measured",
    )  # fmt: skip
    assert (changed["params"], changed["is_required"]) == ({"min_rows": 80.0}, False)
    said = call("gates", "list", "--model", "reward").stdout
    assert "warns, must be measured  min_rows=80  (set for the model)" in said
    assert answer("gates", "reset", "--model", "reward") == {"num_reset": 1}
    wrong = call("gates", "set", "num_rows", "80")
    assert isinstance(wrong.exception, InvalidInput)


def test_promotion_is_checked_refused_and_passed_over(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version, num_rows=3)
    checked = answer("gates", "check", "1")
    assert checked["is_blocked"] is True
    said = call("gates", "check", "1").stdout
    assert "fail          BLOCKS  Rows examined: 3 rows" in said
    assert "1 rules keep reward v1 from users." in said
    assert answer("gates", "check", "1", "--share")["is_blocked"] is False
    promote = ("models", "promote", "1", "--reason", "good")
    assert isinstance(call(*promote).exception, GatesFailed)
    assert answer(*promote, "--override-reason", "few rows are all there is")["number"] == 1


def test_veto_and_its_withdrawal(store: Store) -> None:
    with store.writing() as db:
        make_version(db)
    veto = answer("gates", "veto", "1", "--reason", "It invents laws.")
    refused = call("models", "promote", "1", "--reason", "good").exception
    assert isinstance(refused, GatesFailed)
    assert "It invents laws." in str(refused)
    answer("gates", "withdraw-veto", veto["id"], "--reason", "mended")
    assert answer("models", "promote", "1", "--reason", "good")["number"] == 1


def test_roll_back_to_a_named_version(store: Store) -> None:
    with store.writing() as db:
        for _ in range(3):
            examine(db, make_version(db))
    for number in ("1", "2", "3"):
        answer("models", "promote", number, "--reason", "better")
    assert answer("models", "rollback", "--to", "1", "--reason", "harm")["number"] == 1
    with pytest.raises(AssertionError, match="no version 9"):
        answer("models", "rollback", "--to", "9", "--reason", "harm")
