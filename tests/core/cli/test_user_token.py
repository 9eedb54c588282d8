import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import Permission
from rlhf_core.cli import token, user
from rlhf_core.errors import Conflict, InvalidInput
from rlhf_core.store.engine import Store
from tests.databases import postgres_is_slow

pytestmark = postgres_is_slow


def run(command: click.Command, *arguments: str, input: str | None = None) -> Any:
    """The JSON document that the command prints on stdout."""
    done = CliRunner().invoke(
        command, [*arguments, "--json"], input=input, catch_exceptions=False, standalone_mode=True
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_account_is_created_listed_changed_and_disabled(store: Store) -> None:
    made = run(user.command, "create", "kim", "--role", "rater")
    assert (made["name"], made["role"], made["disabled_at"]) == ("kim", "rater", None)
    assert run(user.command, "set-role", "kim", "trainer")["role"] == "trainer"
    assert run(user.command, "disable", "kim")["disabled_at"]
    assert run(user.command, "enable", "kim")["disabled_at"] is None
    assert [account["name"] for account in run(user.command, "list")] == ["kim"]


def test_password_comes_from_a_pipe_and_is_never_printed(store: Store) -> None:
    done = CliRunner().invoke(
        user.command,
        ["create", "kim", "--role", "rater", "--with-password"],
        input="correct horse battery\n",
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "correct horse" not in done.output
    with store.reading() as db:
        assert service.authenticate(db, "kim", "correct horse battery") is not None
    run(user.command, "password", "kim", input="another long one\n")
    with store.reading() as db:
        assert service.authenticate(db, "kim", "another long one") is not None


def test_link_signs_in_once(store: Store) -> None:
    run(user.command, "create", "kim", "--role", "rater")
    url = run(user.command, "link", "kim")["url"]
    with store.writing() as db:
        assert tokens.redeem_sign_in_link(db, url.split("token=")[1])


def test_token_is_shown_once_and_revoked(store: Store) -> None:
    run(user.command, "create", "bot", "--role", "trainer")
    arguments = ["create", "ci", "--account", "bot", "--scope", "score", "--scope", "rate"]
    secret = run(token.command, *arguments)["token"]
    with store.reading() as db:
        actor = tokens.find_api_actor(db, secret)
    assert actor is not None
    assert actor.scopes == {Permission.SCORE, Permission.RATE}
    [listed] = run(token.command, "list")
    assert secret not in json.dumps(listed)
    assert run(token.command, "revoke", listed["id"])["revoked_at"]
    with store.reading() as db:
        assert tokens.find_api_actor(db, secret) is None


def test_refusals_are_our_errors(store: Store) -> None:
    run(user.command, "create", "kim", "--role", "rater")
    with pytest.raises(Conflict, match="kim"):
        run(user.command, "create", "kim", "--role", "rater")
    with pytest.raises(InvalidInput, match="has no score"):
        run(token.command, "create", "x", "--account", "kim", "--scope", "score")
