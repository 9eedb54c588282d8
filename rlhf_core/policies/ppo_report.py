"""What a PPO run tells: figures of each update, samples, and the report in the end."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.checkpoints import remove_checkpoints
from rlhf_core.errors import TrainingFailed, Unavailable
from rlhf_core.policies.generate import Sampled, sample
from rlhf_core.policies.network import TRAINED, ActorCritic
from rlhf_core.policies.network_build import load_model
from rlhf_core.policies.ppo_peak import remove_candidates
from rlhf_core.policies.ppo_setup import Setup, write_together
from rlhf_core.policies.ppo_state import PpoProgress
from rlhf_core.policies.rewards_glue import RewardFunction, call_reward
from rlhf_core.pretrained import quiet_transformers
from rlhf_core.training import Sample, TrainReport, installed_versions

if TYPE_CHECKING:
    import torch

NUM_SAMPLES = 4
LAST_UPDATES = 10
OPENING_WORDS = 3
REPORTED = (
    "reward",
    "step_reward",
    "held_out_reward",
    "kl",
    "entropy",
    "length",
    "eos_share",
    "distinct_2",
)


class Clock:
    """Seconds of updates and of generation within them, of this process."""

    def __init__(self, device: "torch.device") -> None:
        self._device = device
        self.seconds = self.generation_seconds = 0.0
        self.update_seconds: list[float] = []
        self.num_tokens = 0

    @contextmanager
    def update(self) -> Iterator[None]:
        """Time an update."""
        started_at = self._now()
        yield
        self.update_seconds.append(self._now() - started_at)
        self.seconds += self.update_seconds[-1]

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Time the sampling within an update."""
        started_at = self._now()
        yield
        self.generation_seconds += self._now() - started_at

    def _now(self) -> float:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        return time.monotonic()

    def speed(self, setup: Setup) -> dict[str, float]:
        """Answers' tokens a second over all processes, the share of generation, memory in MiB."""
        num_tokens = setup.processes.sums([float(self.num_tokens)])[0]
        return {
            "tokens_per_s": num_tokens / max(self.seconds, 1e-9),
            "generation_share": self.generation_seconds / max(self.seconds, 1e-9),
            "memory_mb": _memory_mb(self._device),
        }


def measure_texts(setup: Setup, sampled: Sampled, completions: list[str]) -> dict[str, float]:
    """How various the answers of all processes are.

    `distinct_2`: the share of different pairs of tokens among all; `opening_share`: that of the
    commonest first three words among the answers.
    """
    pairs = [
        pair
        for row, length in zip(sampled.tokens.tolist(), sampled.lengths.tolist(), strict=True)
        for pair in pairwise(row[:length])
    ]
    openings = [" ".join(text.split()[:OPENING_WORDS]) for text in completions]
    if setup.processes.count > 1:
        pairs = [tuple(pair) for one in setup.processes.gather(pairs) for pair in one]
        openings = [text for one in setup.processes.gather(openings) for text in one]
    commonest = Counter(openings).most_common(1)[0][1]
    return {
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 1.0,
        "opening_share": commonest / len(openings),
    }


def say_update(setup: Setup, progress: PpoProgress, clock: Clock) -> None:
    """Tell the tracker of the update that is done."""
    figures = progress.history[-1]
    done, total = progress.update, setup.params.updates
    seconds = sum(clock.update_seconds) / len(clock.update_seconds)
    left = max(1, round(seconds * (total - done) / 60))
    setup.tracker.progress(
        0.02 + 0.96 * done / total,
        f"Update {done} of {total}, reward {figures['reward']:.3f}, KL {figures['kl']:.2f}, "
        f"about {left} min left",
    )
    setup.tracker.metrics(done, figures | clock.speed(setup))


def show_samples(
    setup: Setup, progress: PpoProgress, reward: RewardFunction | None, *, kept: int | None = None
) -> None:
    """Every so often, answer fixed prompts, always by the same draws, and show the answers.

    The first time the policy still is the reference: its answers stand beside the later ones.
    `kept`: the run is over, and the policy is that after so many updates.
    """
    import torch

    params, every = setup.params, setup.params.sample_every
    update = progress.update if kept is None else kept
    is_known = any(entry["update"] == update for entry in progress.samples)
    is_due = every and (kept is not None or update % every == 0) and not is_known
    if not is_due:
        return
    places = range(min(NUM_SAMPLES, len(setup.prompts)))
    drawn = torch.rand(
        (len(places), params.response_tokens),
        generator=torch.Generator().manual_seed(params.seed),
    )
    answers = setup.decode(
        sample(
            setup.policy,
            [setup.prompts.ids[place] for place in places],
            drawn,
            temperature=params.temperature,
            end_ids=setup.end_ids,
            with_values=False,
        )
    )
    texts = [setup.prompts.texts[place] for place in places]
    rewards: list[float] | list[None] = [None] * len(texts)
    failure: str | None = None
    if reward is not None:
        try:
            rewards = call_reward(reward, texts, answers)
        except TrainingFailed as error:
            failure = str(error)
    setup.processes.agree(failure)
    shown: list[dict[str, Any]] = [
        {"prompt": text, "completion": answer, "reward": value}
        for text, answer, value in zip(texts, answers, rewards, strict=True)
    ]
    progress.keep_samples({"update": update, "answers": shown})
    progress.samples.sort(key=lambda entry: int(entry["update"]))
    firsts = [one["completion"] for one in progress.samples[0]["answers"]]
    setup.tracker.samples(
        update,
        [
            Sample(text, answer, reference=first, reward=value)
            for text, answer, first, value in zip(texts, answers, firsts, rewards, strict=True)
        ],
    )
    setup.tracker.log(f"After {update} updates, for example: {answers[0][:300]!r}")


def finish(
    setup: Setup,
    progress: PpoProgress,
    clock: Clock,
    audit: dict[str, Any],
    out_dir: Path,
    work_dir: Path,
    num_rows: int,
) -> TrainReport:
    """Write the policy as it is, remove the checkpoints, and report.

    The metrics are means of up to ten updates around the policy that is written.
    """
    setup.tracker.progress(0.99, "Writing the policy")
    model = _model_to_write(setup)
    write_together(setup.processes, lambda: _save(setup, model, out_dir))
    if setup.processes.is_first:
        remove_checkpoints(work_dir)
        remove_candidates(work_dir)
    end = min(progress.update, audit["kept_update"] + LAST_UPDATES // 2)
    last = progress.history[max(0, end - LAST_UPDATES) : end]
    metrics = {
        name: sum(one[name] for one in last) / len(last) for name in REPORTED if name in last[0]
    }
    metrics |= {
        f"first_{name}": progress.first[name]
        for name in ("reward", "held_out_reward")
        if name in progress.first
    }
    metrics |= {
        "kl_coef": progress.kl_coef,
        "num_updates": float(progress.update),
        "kept_update": float(audit["kept_update"]),
        "num_episodes": float(progress.update * setup.params.batch_size),
        "num_prompts_too_long": float(setup.prompts.num_too_long),
    }
    speed = clock.speed(setup)
    setup.tracker.log(
        f"Trained: reward {metrics['first_reward']:.3f} -> {metrics['reward']:.3f} (mean of "
        f"{len(last)} updates), KL {metrics['kl']:.2f} nats an answer. {audit['sentence']}"
    )
    setup.tracker.progress(1.0, "Trained")
    return TrainReport(
        artifact_dir=out_dir,
        metrics=metrics,
        params=asdict(setup.params),
        seed=setup.params.seed,
        num_rows=num_rows,
        details={
            "history": progress.history,
            "samples": progress.samples,
            "audit": audit,
            "device": setup.device.type,
            "precision": setup.precision.name,
            "num_processes": setup.processes.count,
            "seconds": clock.seconds,
            "update_seconds": clock.update_seconds,
            **speed,
        },
        library_versions=installed_versions("torch", "transformers", "peft", "numpy"),
    )


def _model_to_write(setup: Setup) -> Any:
    """The trained model; where its weights are dealt, a whole one in the first process alone."""
    policy = setup.policy
    if not policy.is_dealt:
        return policy.model
    is_first = setup.processes.is_first
    weights = policy.whole_weights(keep=is_first)
    if not is_first:
        return None
    whole = ActorCritic(load_model(setup.base, setup.params, setup.precision.dtype))
    whole.fill(weights)
    return whole.model


def _save(setup: Setup, model: Any, out_dir: Path) -> None:
    """Write the policy as transformers (or, with an adapter alone, peft) opens it."""
    policy, params = setup.policy, setup.params
    try:
        with quiet_transformers():
            if policy.is_adapted and params.merge_adapter:
                model = model.merge_and_unload()
            if policy.is_adapted and not params.merge_adapter:
                model.save_pretrained(str(out_dir), selected_adapters=[TRAINED])
            else:
                model.save_pretrained(str(out_dir))
            setup.tokenizer.save_pretrained(str(out_dir))
    except OSError as error:
        raise Unavailable(
            f"The policy could not be written to {out_dir} ({error.strerror or error}): make room, "
            "then start again; the run goes on from its last checkpoint."
        ) from error


def _memory_mb(device: "torch.device") -> float:
    """The most memory in MiB: of the GPU since the start, or of this process ever."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
