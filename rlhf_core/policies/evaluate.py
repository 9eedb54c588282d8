"""How policies answer prompts that they were not trained on, side by side.

All answer the same prompts with the same random numbers. A judge, which none of them learned from,
rewards the answers: how often is a policy's better than the baseline's to the same prompt? Judges
like long answers, so the rate is also given for equal lengths. Intervals draw prompts.
"""

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInput, TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.answering import (
    Answerer,
    Answers,
    draw_uniforms,
    keep_fitting,
    open_answerer,
)
from rlhf_core.policies.conversations import cut_batch
from rlhf_core.policies.estimates import Estimate, PromptBootstrap
from rlhf_core.policies.logprobs import all_logprobs
from rlhf_core.policies.ppo_setup import sentences_for_the_machine
from rlhf_core.policies.rewards_glue import RewardFunction, call_reward
from rlhf_core.pretrained import PRECISIONS, PrecisionName
from rlhf_core.training import Sample, Tracker, require_between, require_choice

OPENING_WORDS = 3
NGRAMS = (1, 2, 3)
PRODUCTION = "production"
SHOWN_SAMPLES = 8
REFUSAL_CHARACTERS = 200
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)(?: very| so)? sorry,? but|i (?:can(?:'|no)t|will not|won't|am not able to"
    r"|'m not able to|am unable to|'m unable to) (?:help|assist|answer|provide|comply|do that|"
    r"support|discuss)|i(?:'m| am) unable to|i must decline|as an ai\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class EvaluatePolicyParams:
    """How to evaluate.

    Each prompt is answered `answers` times at `temperature`; a prompt may have `prompt_tokens`, an
    answer `response_tokens`. `num_samples` prompts are shown with all answers; the time of one
    answer is taken on `latency_prompts` prompts, one at a time (0: not at all).
    """

    answers: int = 1
    temperature: float = 1.0
    prompt_tokens: int = 512
    response_tokens: int = 128
    precision: PrecisionName = "auto"
    seed: int = 0
    num_samples: int = 8
    latency_prompts: int = 5

    def __post_init__(self) -> None:
        require_choice(self, "precision", PRECISIONS)
        require_between(self, "temperature", 0.0, 10.0, above=True)
        for name, low, high in (
            ("answers", 1, 64), ("prompt_tokens", 1, 10**6), ("response_tokens", 1, 10**6),
            ("seed", 0, 2**32 - 1), ("num_samples", 0, 1_000), ("latency_prompts", 0, 1_000),
        ):  # fmt: skip
            require_between(self, name, low, high)


@dataclass(frozen=True)
class PolicyExamination:
    """Figures by policy, beside the `baseline`.

    `reward` is the judge's. `win_rate` (0..1) against the baseline counts ties half;
    `win_rate_length_controlled` is that of equally long answers; `win_rate_production` is against
    the policy of that name. `kl` to the baseline in nats an answer, where both have one tokenizer.
    `length` in tokens, `words` in words; `distinct_n`: different sequences of n words among all;
    `opening_share`: answers with the commonest first three words; `eos_share`: answers that ended
    by themselves; `refusal_share` by English turns of phrase; `latency_s`: an answer alone, the
    median; `tokens_per_s`: answered together. `samples`: prompts with answers and rewards by
    policy.
    """

    baseline: str
    num_prompts: int
    num_left_out: int
    params: dict[str, Any]
    policies: dict[str, dict[str, Estimate]]
    samples: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored: a figure is `{"value", "low", "high"}`."""
        return {
            "baseline": self.baseline,
            "num_prompts": self.num_prompts,
            "num_left_out": self.num_left_out,
            "params": self.params,
            "policies": {
                policy: {name: figure.to_json() for name, figure in figures.items()}
                for policy, figures in self.policies.items()
            },
            "samples": [dict(one) for one in self.samples],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Judged:
    """A policy's answers, row by row, with the judge's rewards."""

    answers: Answers
    rewards: list[float]
    latencies_s: list[float]

    @property
    def lengths(self) -> list[int]:
        lengths: list[int] = self.answers.sampled.lengths.tolist()
        return lengths


def evaluate_policy(
    policies: Mapping[str, Path],
    prompts: Sequence[PromptOnly],
    *,
    judge: RewardFunction,
    baseline: str,
    params: EvaluatePolicyParams,
    tracker: Tracker,
) -> PolicyExamination:
    """Let the policies (folders by name, the `baseline` among them) answer; judge the answers.

    Raises InvalidInput where a folder is none of a policy or `baseline` is not among them,
    NotEnoughData without a prompt, TrainingFailed where no prompt fits, the judge fails, the memory
    does not suffice, or `tracker` asked to stop.
    """
    if baseline not in policies:
        raise InvalidInput(
            f"baseline {baseline!r}: choose one of {', '.join(sorted(policies))}.", field="baseline"
        )
    order = [baseline, *(name for name in policies if name != baseline)]
    with sentences_for_the_machine():
        tracker.progress(0.0, "Opening the policies")
        opened = {name: open_answerer(policies[name], precision=params.precision) for name in order}
        fitting = keep_fitting(
            prompts,
            list(opened.values()),
            prompt_tokens=params.prompt_tokens,
            response_tokens=params.response_tokens,
        )
        asked = [row for row in fitting for _ in range(params.answers)]
        judged: dict[str, _Judged] = {}
        for number, name in enumerate(order):
            tracker.progress(0.02 + 0.9 * number / len(order), f"Asking {name}")
            judged[name] = _ask(opened[name], asked, judge, params)
            if tracker.should_stop():
                raise TrainingFailed("Stopped on request: nothing is kept of an evaluation.")
        tracker.progress(0.95, "Comparing the answers")
        bootstrap = PromptBootstrap([row.group or row.prompt for row in asked], seed=params.seed)
        figures = {
            name: describe_answers(one.answers, one.latencies_s, bootstrap)
            | {"reward": bootstrap.mean(one.rewards)}
            for name, one in judged.items()
        }
        notes: list[str] = []
        for name in order[1:]:
            _compare(figures[name], judged[name], judged[baseline], bootstrap)
            kl = _measure_kl(opened[name], opened[baseline], judged[name].answers, asked, params)
            if kl is None:
                notes.append(f"{name} and {baseline} have other tokenizers: no KL between them.")
            else:
                figures[name]["kl"] = bootstrap.mean(kl)
    if PRODUCTION in judged and baseline != PRODUCTION:
        for name in order:
            if name != PRODUCTION:
                wins = _wins(judged[name], judged[PRODUCTION])
                figures[name]["win_rate_production"] = bootstrap.mean(wins)
    num_left_out = len(prompts) - len(fitting)
    if num_left_out:
        notes.append(f"{num_left_out} prompts were empty or too long for one of the policies.")
    samples = _show(asked, judged, params, tracker)
    tracker.progress(1.0, "Evaluated")
    return PolicyExamination(
        baseline=baseline,
        num_prompts=len(fitting),
        num_left_out=num_left_out,
        params=asdict(params),
        policies={name: figures[name] for name in policies},
        samples=samples,
        notes=tuple(notes),
    )


def describe_answers(
    answers: Answers, latencies_s: Sequence[float], bootstrap: PromptBootstrap
) -> dict[str, Estimate]:
    """What can be said of a policy's answers without a judge."""
    texts = answers.texts
    lengths = [float(one) for one in answers.sampled.lengths.tolist()]
    openings = Counter(" ".join(text.split()[:OPENING_WORDS]).lower() for text in texts)
    found = {
        "length": bootstrap.mean(lengths),
        "words": bootstrap.mean([float(len(text.split())) for text in texts]),
        "eos_share": bootstrap.mean([float(one) for one in answers.sampled.has_ended.tolist()]),
        "refusal_share": bootstrap.mean([float(is_refusal(text)) for text in texts]),
        **{f"distinct_{size}": Estimate(distinct_share(texts, size)) for size in NGRAMS},
        "opening_share": Estimate(openings.most_common(1)[0][1] / len(texts)),
        "tokens_per_s": Estimate(sum(lengths) / max(answers.took_s, 1e-9)),
    }
    if latencies_s:
        found["latency_s"] = Estimate(statistics.median(latencies_s))
    return found


def is_refusal(text: str) -> bool:
    """Whether an answer begins as refusals do in English."""
    return (
        REFUSAL.search(text[:REFUSAL_CHARACTERS].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
        is not None
    )


def distinct_share(texts: Sequence[str], size: int) -> float:
    """The share of different sequences of `size` words among all of them; 1 where there is none."""
    found: list[tuple[str, ...]] = []
    for text in texts:
        words = text.lower().split()
        found += zip(*(words[start:] for start in range(size)), strict=False)
    return len(set(found)) / len(found) if found else 1.0


def _ask(
    answerer: Answerer,
    asked: Sequence[PromptOnly],
    judge: RewardFunction,
    params: EvaluatePolicyParams,
) -> _Judged:
    """The policy's answers: the same draws for every policy, row by row."""
    uniforms = draw_uniforms(len(asked), params.response_tokens, [params.seed])
    texts = [row.prompt for row in asked]
    ids = answerer.encode(texts)
    latencies = [
        answerer.answer(
            ids[row : row + 1], uniforms[row : row + 1], temperature=params.temperature
        ).took_s
        for row in range(
            0, min(params.latency_prompts * params.answers, len(asked)), params.answers
        )
    ]
    answers = answerer.answer(ids, uniforms, temperature=params.temperature)
    rewards = call_reward(judge, texts, answers.texts, "judge")
    return _Judged(answers, rewards, latencies)


def _compare(
    figures: dict[str, Estimate], own: _Judged, other: _Judged, bootstrap: PromptBootstrap
) -> None:
    """Add the win rates against the baseline to the figures."""
    wins = _wins(own, other)
    figures["win_rate"] = bootstrap.mean(wins)
    figures["tie_share"] = Estimate(sum(one == 0.5 for one in wins) / len(wins))
    figures["reward_gain"] = bootstrap.mean(
        [mine - theirs for mine, theirs in zip(own.rewards, other.rewards, strict=True)]
    )
    figures["win_rate_length_controlled"] = bootstrap.win_rate_at_even_length(
        wins,
        [float(len(text)) for text in own.answers.texts],
        [float(len(text)) for text in other.answers.texts],
    )


def _wins(own: _Judged, other: _Judged) -> list[float]:
    """1 where the own reward is higher, 0 where it is lower, a half where they are the same.

    The same text is no better than itself, whatever a judge makes of its place in a batch.
    """
    mine = zip(own.rewards, own.answers.texts, strict=True)
    theirs = zip(other.rewards, other.answers.texts, strict=True)
    return [
        0.5
        if reward == reward_of_other or text == text_of_other
        else float(reward > reward_of_other)
        for (reward, text), (reward_of_other, text_of_other) in zip(mine, theirs, strict=True)
    ]


def _measure_kl(
    own: Answerer,
    other: Answerer,
    answers: Answers,
    asked: Sequence[PromptOnly],
    params: EvaluatePolicyParams,
) -> list[float] | None:
    """The KL of each answer to the other policy in nats (k1, on the policy's own answers).

    None where the two do not have the same tokens for the same text.
    """
    import torch

    ids = answers.sampled.prompts
    if own.tokenizer.get_vocab() != other.tokenizer.get_vocab() or ids != other.encode(
        [row.prompt for row in asked]
    ):
        return None
    sampled, network = answers.sampled, other.network
    lengths = sampled.lengths.tolist()
    totals = [len(prompt) + length for prompt, length in zip(ids, lengths, strict=True)]
    found = torch.zeros(len(lengths), dtype=torch.float64)
    with torch.no_grad():
        for some in cut_batch(range(len(lengths)), totals):
            real = sampled.mask[some]
            tokens = sampled.tokens[some]
            of_some = [lengths[row] for row in some]
            states = network.answer_states([ids[row] for row in some], tokens, of_some)
            theirs = all_logprobs(network.head, states, tokens[real], params.temperature)
            gaps = (sampled.logprobs[some][real] - theirs).double().cpu()
            for row, part in zip(some, torch.split(gaps, of_some), strict=True):
                found[row] = part.sum()
    kl: list[float] = found.tolist()
    return kl


def _show(
    asked: Sequence[PromptOnly],
    judged: Mapping[str, _Judged],
    params: EvaluatePolicyParams,
    tracker: Tracker,
) -> tuple[dict[str, Any], ...]:
    """The first prompts with the answers of all policies; a run shows those of the first two."""
    places = range(0, len(asked), params.answers)[: params.num_samples]
    names = list(judged)
    for name in names[1:2]:
        tracker.samples(
            0,
            [
                Sample(
                    prompt=asked[place].prompt,
                    completion=judged[name].answers.texts[place],
                    reference=judged[names[0]].answers.texts[place],
                    reward=judged[name].rewards[place],
                )
                for place in places[:SHOWN_SAMPLES]
            ],
        )
    return tuple(
        {
            "prompt": asked[place].prompt,
            "answers": {name: one.answers.texts[place] for name, one in judged.items()},
            "rewards": {name: one.rewards[place] for name, one in judged.items()},
        }
        for place in places
    )
