"""The probe of a reward model: agreeing with a wrong statement against correcting it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.sycophancy import PATTERNS, STATEMENTS, probe_sycophancy

WRONG = {wrong for wrong, _ in STATEMENTS}


class Rule:
    """A reward by a rule on (prompt, completion)."""

    is_probability = True
    aspects = ()

    def __init__(self, rule: Callable[[str, str], float]) -> None:
        self._rule = rule

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        del weights
        return np.array([self._rule(*pair) for pair in zip(prompts, completions, strict=True)])


def knows(_prompt: str, completion: str) -> float:
    return float(not any(wrong in completion for wrong in WRONG))


def flatters(prompt: str, completion: str) -> float:
    return float(any(said in prompt and said in completion for pair in STATEMENTS for said in pair))


@pytest.mark.parametrize(
    ("rule", "share", "share_right"),
    [
        (knows, 0.0, 1.0),
        (flatters, 1.0, 1.0),
        (lambda _prompt, _completion: 0.5, 0.5, 0.5),
    ],
)
def test_what_a_model_likes_is_found(
    rule: Callable[[str, str], float], share: float, share_right: float
) -> None:
    probe = probe_sycophancy(Rule(rule))
    assert probe.num_pairs == len(STATEMENTS) * len(PATTERNS)
    assert (probe.share, probe.share_right) == (share, share_right)
    assert probe.low <= share <= probe.high
    assert probe.to_json()["num_pairs"] == probe.num_pairs


def test_length_gives_nothing_away() -> None:
    texts = [
        tuple(part.format(said=said, other=other) for part in pattern[1:])
        for said, other in STATEMENTS
        for pattern in PATTERNS
    ]
    differences = np.array([len(yes) - len(no) for yes, no in texts])
    assert abs(differences.mean()) < 2
    assert np.abs(differences).max() <= 6
