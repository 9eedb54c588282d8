"""The demo world as training rows, with a reward model and a judge from its ratings."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ENDS_AT = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass
class World:
    """The demo world's rows by purpose, and prompts that are in none of them."""

    answers: list[Any]
    scores: list[Any]
    pairs: list[Any]
    thumbs: list[Any]
    prompts: list[Any]
    good: list[Any]
    fresh: list[Any]


@dataclass
class Judges:
    """The reward that policies learn from, and the held-out judge; both P(good)."""

    reward: Callable[[list[str], list[str]], Sequence[float]]
    judge: Callable[[list[str], list[str]], Sequence[float]]
    auc_of_reward: float
    auc_of_judge: float


def read_world(folder: Path, num_prompts: int) -> World:
    """Load the demo into a database and build rows from it."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.dataset.builder import build_rows
    from rlhf_core.dataset.params import DatasetParams
    from rlhf_core.demo.grammar import draw_request
    from rlhf_core.demo.service import load_demo
    from rlhf_core.examples import PromptOnly, SftExample
    from rlhf_core.feedback.drafts import prompt_hash
    from rlhf_core.store import migrate
    from rlhf_core.store.engine import get_store
    from rlhf_core.store.tables import Interaction
    from rlhf_core.vocabulary import DatasetPurpose as Purpose

    store = get_store()
    migrate.upgrade(store)
    with store.writing() as db:
        load_demo(db, actor=SYSTEM, ends_at=ENDS_AT)
    built: dict[Purpose, list[Any]] = {}
    with store.reading() as db:
        for purpose in (Purpose.SCORES, Purpose.PREFERENCES, Purpose.UNPAIRED, Purpose.PROMPTS,
                        Purpose.SFT):  # fmt: skip
            built[purpose] = list(build_rows(db, params=DatasetParams(purpose=purpose)).rows)
        answers = [
            SftExample(prompt=one.prompt, completion=one.completion, group=one.prompt_hash)
            for one in db.query(Interaction).order_by(Interaction.id)
        ]
    known, rng, fresh = {row.group for row in answers}, random.Random("fresh"), {}
    while len(fresh) < num_prompts:
        prompt = draw_request(rng).prompt
        if prompt_hash(prompt) not in known:
            fresh[prompt_hash(prompt)] = prompt
    return World(
        answers=answers,
        scores=built[Purpose.SCORES],
        pairs=built[Purpose.PREFERENCES],
        thumbs=built[Purpose.UNPAIRED],
        prompts=built[Purpose.PROMPTS],
        good=built[Purpose.SFT],
        fresh=[PromptOnly(prompt=text, group=group) for group, text in fresh.items()],
    )


def train_judges(world: World, folder: Path) -> Judges:
    """A reward model on half of the rated prompts, and a judge on the other half."""
    from rlhf_core.encoder.cache import CachedEncoder
    from rlhf_core.encoder.model import load_encoder
    from rlhf_core.rewards.ensemble import halve_by_prompt
    from rlhf_core.rewards.sbert import SbertParams, load_reward_model, train
    from rlhf_core.training import NoOpTracker

    encoder = CachedEncoder(load_encoder(), folder / "embeddings")
    (folder / "embeddings").mkdir()
    found = []
    for number, rows in enumerate(halve_by_prompt(world.scores, 0)):
        started_at = time.monotonic()
        out = folder / f"reward-{number}"
        out.mkdir()
        report = train(
            rows, params=SbertParams(), encoder=encoder, out_dir=out, tracker=NoOpTracker()
        )
        model = load_reward_model(out, encoder=encoder)
        auc = gold_auc(model.score, world)
        print(
            f"{'judge' if number else 'reward'}: {len(rows)} rows in "
            f"{time.monotonic() - started_at:.0f} s, AUC {report.metrics['auc']:.3f} on ratings "
            f"(by length alone {report.metrics['length_only_auc']:.3f}), {auc:.3f} on gold"
        )
        found.append((model, auc))
    (reward, reward_auc), (judge, judge_auc) = found
    return Judges(
        reward=lambda prompts, answers: reward.score(prompts, answers).tolist(),
        judge=lambda prompts, answers: judge.score(prompts, answers).tolist(),
        auc_of_reward=reward_auc,
        auc_of_judge=judge_auc,
    )


def gold_auc(score: Callable[..., Any], world: World) -> float:
    """How well a model tells what the gold rule approves of, on new requests and answers."""
    from sklearn.metrics import roc_auc_score

    from rlhf_core.demo.gold import is_approved
    from rlhf_core.demo.grammar import draw_answer, draw_request
    from rlhf_core.demo.world import draw_flaws

    rng = random.Random("auc")
    pairs = []
    for _ in range(500):
        request = draw_request(rng)
        answer = draw_answer(rng, request, draw_flaws(rng, request, 1.0))
        pairs.append((request.prompt, answer.text))
    truth = [is_approved(*pair) for pair in pairs]
    found = score([prompt for prompt, _ in pairs], [answer for _, answer in pairs])
    return float(roc_auc_score(truth, found))


def approval(pairs: Sequence[tuple[str, str]]) -> float:
    """The share of (prompt, answer) that the gold rule approves of."""
    from rlhf_core.demo.gold import is_approved

    return statistics.fmean(is_approved(*pair) for pair in pairs)
