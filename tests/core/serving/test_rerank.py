import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.serving import is_model_ready, rerank, rerank_candidates
from rlhf_core.store.engine import Store
from tests.core.serving.server import loaded_stub, serve
from tests.core.serving.test_client import by_length, free_port
from tests.core.serving.world import BAD, GOOD, PROMPT, promote_reward_model
from tests.databases import postgres_is_slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _fresh_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a program that was just started, on a machine where no inference process runs."""
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(free_port()))
    get_settings.cache_clear()
    rerank._client.cache_clear()
    rerank._slot.cache_clear()
    yield
    if rerank._client.cache_info().currsize:
        rerank._client().close()
    rerank._client.cache_clear()
    rerank._slot.cache_clear()


@postgres_is_slow
def test_without_a_model_the_order_stays(store: Store) -> None:
    assert not is_model_ready()
    found = rerank_candidates(PROMPT, [BAD, GOOD])
    assert (found.top, found.ranking, found.scores) == ((BAD, GOOD), (0, 1), (None, None))
    assert (found.is_fallback, found.reason) == (True, "No model is promoted yet.")


@postgres_is_slow
def test_without_a_process_the_promoted_model_is_loaded_here(store: Store) -> None:
    with store.writing() as db:
        version = promote_reward_model(db)
    assert is_model_ready()
    candidates: list[Any] = [BAD, {"text": GOOD, "id": 7}, BAD]
    found = rerank_candidates(PROMPT, candidates)
    assert found.ranking == (1, 0, 2)
    assert found.top == (candidates[1], BAD, BAD)
    assert found.scores[0] == found.scores[2]
    assert (found.is_fallback, found.version, found.version_id) == (False, "reward v1", version.id)
    assert rerank_candidates(PROMPT, candidates, top_k=1).top == (candidates[1],)
    scores = rerank.score_completions([PROMPT], [GOOD])
    assert scores.scores[0] == pytest.approx(found.scores[1], abs=1e-3)


@postgres_is_slow
def test_with_a_process_that_one_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(store, loaded_stub(by_length)) as (port, _):
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        assert is_model_ready()
        found = rerank_candidates("p", [{"text": "a"}, "bbb", "cc"], top_k=2)
        assert (found.top, found.version) == (("bbb", "cc"), "stub v1")


@pytest.mark.parametrize(
    ("query", "candidates", "top_k"),
    [
        (PROMPT, [GOOD, None], None),
        (PROMPT, [GOOD, 3.5], None),
        (PROMPT, [{"no": "text"}, GOOD], None),
        (PROMPT, [{"text": None}, GOOD], None),
        (None, [GOOD, BAD], None),
        (PROMPT, [GOOD, BAD], -1),
        (PROMPT, [GOOD, BAD], "two"),
    ],
)
@postgres_is_slow
def test_input_that_cannot_be_scored_comes_back_in_its_order(
    store: Store, query: Any, candidates: list[Any], top_k: Any
) -> None:
    with store.writing() as db:
        promote_reward_model(db)
    found = rerank_candidates(query, candidates, top_k=top_k)
    assert (found.top, found.is_fallback) == (tuple(candidates), True)
    assert found.reason


def test_no_candidates_and_no_list() -> None:
    assert rerank_candidates(PROMPT, []).top == ()
    nothing = rerank_candidates(PROMPT, None)  # type: ignore[arg-type]
    assert (nothing.top, nothing.is_fallback) == ((), True)


@postgres_is_slow
def test_damaged_files_leave_the_order(store: Store) -> None:
    with store.writing() as db:
        version = promote_reward_model(db)
    (version.folder / "manifest.json").unlink()
    assert not is_model_ready()
    found = rerank_candidates(PROMPT, [BAD, GOOD])
    assert (found.top, found.is_fallback) == ((BAD, GOOD), True)
    assert "manifest.json" in str(found.reason)
    with pytest.raises(Unavailable, match=r"manifest\.json"):
        rerank.score_completions([PROMPT], [GOOD])


def test_program_without_any_installation_keeps_the_order(tmp_path: Path) -> None:
    code = (
        "from rlhf_core.serving import is_model_ready, rerank_candidates\n"
        "found = rerank_candidates('q', ['b', 'a'])\n"
        "print(is_model_ready(), found.top, found.is_fallback)\n"
    )
    env = {"RLHF_DATA_DIR": str(tmp_path / "new"), "RLHF_INFERENCE_PORT": str(free_port())}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False ('b', 'a') True"


@postgres_is_slow
def test_scoring_texts_of_different_number_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="1 prompts"):
        rerank.score_completions(["p"], [])
