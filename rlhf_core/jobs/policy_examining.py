"""Examines a policy beside its base, and beside the one that serves, by a judge."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_core.examples import PromptOnly
from rlhf_core.jobs.learners import PartTracker
from rlhf_core.jobs.policy_bases import PolicyBase
from rlhf_core.jobs.policy_rewards import RewardSource, open_reward
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.training import Sample, Tracker

Figure = Mapping[str, float]
OWN = "policy"
BASE = "base"
PRODUCTION = "production"
MAX_PROMPTS = 128
"""More prompts than these tell little more, and each is answered by every policy."""
NUM_KEPT = 60
"""Prompts whose answers are kept: people can compare them, in an hour or so."""


def examine_policy(
    folder: Path,
    *,
    base: PolicyBase,
    production: PolicyBase | None,
    prompts: Sequence[PromptOnly],
    judge: RewardSource,
    seed: int,
    tracker: Tracker,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The examination as JSON: `num_rows`, flat `metrics` of the policy, and all the rest.

    `baselines` are the flat figures of the others, `names` what they are called. Only the first
    `MAX_PROMPTS` prompts are answered. `production` is left out where it is the base, or the policy
    itself.
    """
    from rlhf_core.policies.evaluate import EvaluatePolicyParams, evaluate_policy

    asked = list(prompts)[:MAX_PROMPTS]
    policies = {OWN: folder, BASE: Path(base.open())}
    if production is not None and production.location not in (base.location, str(folder)):
        policies[PRODUCTION] = Path(production.open())
    examination = evaluate_policy(
        policies,
        asked,
        judge=open_reward([judge]),
        baseline=BASE,
        params=EvaluatePolicyParams(**{"seed": seed, "num_samples": NUM_KEPT, **(options or {})}),
        tracker=tracker,
    )
    plain = examination.to_json()
    figures: dict[str, dict[str, Figure]] = plain["policies"]
    own = figures[OWN]
    names = {BASE: base.name, PRODUCTION: production.name if production else None}
    return {
        **plain,
        "purpose": "policy",
        "num_rows": examination.num_prompts,
        "metrics": _values(own),
        "intervals": {
            name: [figure["low"], figure["high"]] for name, figure in own.items() if "low" in figure
        },
        "baselines": {name: _values(figures[name]) for name in policies if name != OWN},
        "names": {name: names.get(name) for name in policies if name != OWN},
        "judge": {"name": judge.name, "version_id": judge.version_id},
    }


class ExaminingTracker(PartTracker):
    """The tracker of an examination at the end of a training run, whose samples it leaves alone."""

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Keep none: the examination holds the answers, and the steps are those of the training."""


def choose_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """How a policy that was trained with these parameters is to be asked."""
    names = ("prompt_tokens", "response_tokens", "temperature", "precision")
    return {name: params[name] for name in names if params.get(name) is not None}


def describe_policy(version: ModelVersionView, examined: Mapping[str, float] | None) -> str:
    """What a run has made, in a sentence or two."""
    metrics = version.metrics
    base = (version.details.get("base") or {}).get("name")
    told = []
    for name, word in (("reward", "reward"), ("held_out_reward", "held-out reward")):
        if name in metrics and f"first_{name}" in metrics:
            told.append(f"{word} {metrics[f'first_{name}']:.3f} to {metrics[name]:.3f}")
    for name, word in (("eval_loss", "held-out loss"), ("perplexity", "perplexity"),
                       ("accuracy", "accuracy"), ("kl", "KL")):  # fmt: skip
        if name in metrics:
            told.append(f"{word} {metrics[name]:.3g}")
    message = f"Trained {version.name}"
    if base:
        message += f" from {base}"
    if told:
        message += f": {', '.join(told[:3])}"
    if examined and "win_rate" in examined:
        message += f"; wins against its base {examined['win_rate']:.0%} on prompts not seen"
    audit = version.details.get("audit") or {}
    sentence = str(audit.get("sentence") or "").strip()
    return f"{message}." + (f" {sentence}" if sentence else "")


def _values(figures: Mapping[str, Figure]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in figures.items()}
