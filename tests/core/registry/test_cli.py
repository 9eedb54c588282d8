import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rlhf_core.cli.main import main
from rlhf_core.config import get_settings
from rlhf_core.errors import Conflict, InvalidInput, RlhfError, Unavailable
from rlhf_core.serving import rerank
from rlhf_core.store.engine import Store
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.core.serving.server import loaded_stub, serve
from tests.core.serving.test_client import by_length, free_port
from tests.databases import only_sqlite

pytestmark = only_sqlite


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def answer(*arguments: str) -> object:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refusal(*arguments: str) -> RlhfError:
    error = call(*arguments).exception
    assert isinstance(error, RlhfError)
    return error


def use_port(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def _fresh_program() -> Iterator[None]:
    """Each command is a program of its own: nothing is kept from the one before."""
    yield
    if rerank._client.cache_info().currsize:
        rerank._client().close()
    rerank._client.cache_clear()
    rerank._slot.cache_clear()


def test_versions_are_listed_shown_promoted_and_rolled_back(store: Store) -> None:
    assert answer("models", "list") == []
    assert "no model version" in call("models", "list").stdout
    with store.writing() as db:
        for _ in range(2):
            examine(db, make_version(db))
    assert [row["number"] for row in answer("models", "list")] == [2, 1]  # type: ignore[attr-defined]
    shown = answer("models", "show", "2")
    assert isinstance(shown, dict)
    assert (shown["name"], shown["metrics"]["auc"], shown["seed"]) == ("reward v2", 0.7, 7)
    for number, revision in (("1", 1), ("2", 2)):
        moved = answer("models", "promote", number, "--reason", "better")
        assert isinstance(moved, dict)
        assert (moved["number"], moved["revision"]) == (int(number), revision)
    late = ("models", "promote", "1", "--reason", "late", "--expected-revision", "1")
    assert isinstance(refusal(*late), Conflict)
    back = answer("models", "rollback", "--reason", "worse")
    assert isinstance(back, dict)
    assert (back["number"], back["revision"]) == (1, 3)
    said = call("models", "history").stdout.splitlines()
    assert "v2 -> v1  rolled back by command line: worse" in said[0]
    assert "production" in call("models", "list").stdout


def test_completions_are_scored(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "p", "completion": "aaa"}\n\n{"prompt": "q", "completion": ""}\n')
    with serve(store, loaded_stub(by_length)) as (port, _):
        use_port(monkeypatch, port)
        found = answer("score", "--prompt", "p", "--completion", "a", "--completion", "bb")
        assert isinstance(found, dict)
        assert (found["scores"], found["version"]) == ([0.01, 0.02], "stub v1")
        assert answer("score", "--file", str(pairs))["scores"] == [0.03, 0.0]  # type: ignore[index]
        assert "0.0100  a" in call("score", "--prompt", "p", "--completion", "a").stdout


def test_without_a_model_scoring_is_unavailable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_port(monkeypatch, free_port())
    error = refusal("score", "--prompt", "p", "--completion", "c")
    assert isinstance(error, Unavailable)
    assert str(error) == "No model is promoted yet."


@pytest.mark.parametrize(
    "content", ["no json\n", '{"prompt": "p"}\n', "[1]\n", '{"prompt": 1, "completion": "c"}\n', ""]
)
def test_file_that_cannot_be_scored_is_named(store: Store, tmp_path: Path, content: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)
    error = refusal("score", "--file", str(path))
    assert isinstance(error, InvalidInput)
    assert "pairs.jsonl" in str(error)


def test_candidates_are_reranked_from_options_and_files(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines, texts = tmp_path / "candidates.jsonl", tmp_path / "candidates.txt"
    lines.write_text('"a"\n{"text": "ccc", "id": 1}\n"bb"\n')
    texts.write_text("a\nccc\n\nbb\n")
    with serve(store, loaded_stub(by_length)) as (port, _):
        use_port(monkeypatch, port)
        options = [part for text in ("a", "ccc", "bb") for part in ("--candidate", text)]
        for given in (options, ["--file", str(lines)], ["--file", str(texts)]):
            found = answer("rerank", "--query", "q", *given, "--top-k", "2")
            assert isinstance(found, dict)
            assert (found["ranking"], found["is_fallback"]) == ([1, 2], False)
        assert "0.0300  ccc" in call("rerank", "--query", "q", "--file", str(lines)).stdout


def test_without_a_model_the_order_stays_and_a_message_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_port(monkeypatch, free_port())
    done = call("rerank", "--query", "q", "--candidate", "b", "--candidate", "a", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["top"], found["is_fallback"]) == (["b", "a"], True)
    assert "No model is promoted yet." in done.stderr


def test_missing_and_double_arguments_are_refused(store: Store) -> None:
    assert isinstance(refusal("score", "--prompt", "p"), InvalidInput)
    assert isinstance(refusal("rerank", "--query", "q"), InvalidInput)
