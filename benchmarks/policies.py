"""Training on what people said of the demo world, measured by the rule that nobody trains on.

    python benchmarks/policies.py [--methods ppo,kto,dpo,best-of-n] [--seeds 3] [--threads 2]

The demo world is loaded into a database of its own, and rows are built from it as from any. A
starter policy is made of all its answers, good and bad. A reward model learns from the ratings of
half the prompts, a judge from those of the other half. Then each method trains the starter, with
each seed; PPO is watched by the judge, and its audit keeps a policy. The gold rule of the world
approves or not of answers to prompts that were in no dataset, the same prompts for all.

`kept` beside `best`: the gold approval around the update that the audit kept, and the highest
around any update, smoothed as the audit smooths. One JSON line last.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._demo_rows import Judges, World, approval, read_world, train_judges  # noqa: E402

PROMPT_TOKENS, RESPONSE_TOKENS = 64, 96
METHODS = ("ppo", "kto", "dpo", "sft", "rloo", "grpo", "best-of-n")
WANTED_GAIN, WANTED_GAP, WANTED_S = 15.0, 2.0, 300.0


@dataclass
class Bench:
    """What every method works with."""

    options: argparse.Namespace
    folder: Path
    world: World
    judges: Judges
    starter: Path
    base: dict[str, float]


def main() -> None:
    """Run everything that was asked for, print the table and one JSON line."""
    options = parse_options()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    folder = Path(tempfile.mkdtemp(prefix="policies-"))
    os.environ |= {"RLHF_DATA_DIR": str(folder / "data"), "RLHF_SECRET_KEY": "benchmark"}
    try:
        run(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--methods", default="ppo,kto,dpo,best-of-n", help=", ".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=400, help="to measure on")
    parser.add_argument("--n", type=int, default=8, help="of best-of-n")
    parser.add_argument("--starter", type=Path, help="a starter made before, instead of a new one")
    parser.add_argument("--keep-starter", type=Path, help="where to copy the starter")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.NAME=VALUE",
                        help="another parameter of a method, such as ppo.updates=20")  # fmt: skip
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> None:
    """World, reward, judge, starter; then each method with each seed."""
    import torch

    torch.set_num_threads(options.threads)
    world = read_world(folder, options.prompts)
    print(
        f"demo world: {len(world.answers)} answers, {len(world.scores)} rated, {len(world.pairs)} "
        f"pairs, {len(world.thumbs)} with a thumb, {len(world.prompts)} prompts; approved "
        f"{100 * approval([(row.prompt, row.completion) for row in world.answers]):.1f} %"
    )
    judges = train_judges(world, folder)
    starter, starter_s = find_starter(options, world, folder)
    base = measure(starter, world.fresh, judges)
    print(f"starter in {starter_s:.0f} s: {describe(base)}")
    bench = Bench(options, folder, world, judges, starter, base)
    results: dict[str, Any] = {}
    for method in filter(None, options.methods.split(",")):
        results[method] = [
            run_method(method, seed, bench)
            for seed in range(1 if method == "best-of-n" else options.seeds)
        ]
    report(base, results, judges, starter_s)


def find_starter(options: argparse.Namespace, world: World, folder: Path) -> tuple[Path, float]:
    """The starter's folder and the seconds that it took."""
    if options.starter:
        return options.starter, 0.0
    from rlhf_core.policies.starter import StarterParams, train_starter

    params = {"prompt_tokens": PROMPT_TOKENS, "response_tokens": RESPONSE_TOKENS}
    started_at = time.monotonic()
    out = train_in(
        folder / "starter",
        lambda **where: train_starter(
            world.answers, params=StarterParams(**params, **asked(options, "starter")), **where
        ),
    )[0]
    if options.keep_starter:
        shutil.copytree(out, options.keep_starter, dirs_exist_ok=True)
    return out, time.monotonic() - started_at


def run_method(method: str, seed: int, bench: Bench) -> dict[str, Any]:
    """Train with one method and seed, and measure; prints a line."""
    started_at = time.monotonic()
    if method == "best-of-n":
        figures = measure(bench.starter, bench.world.fresh, bench.judges, n=bench.options.n)
    else:
        curve: list[float] = []
        where = bench.folder / f"{method}-{seed}"
        out, report = train_in(where, trainer(method, seed, bench, curve))
        seconds = time.monotonic() - started_at
        figures = measure(out, bench.world.fresh, bench.judges) | {"seconds": seconds}
        if curve and report.details.get("audit"):
            figures |= compare_with_best(curve, report.details["audit"])
        shutil.rmtree(where, ignore_errors=True)
    figures.setdefault("seconds", time.monotonic() - started_at)
    figures["gain"] = 100 * (figures["approval"] - bench.base["approval"])
    print(f"{method} {seed}: {describe(figures)}, {figures['seconds']:.0f} s", flush=True)
    return figures


def trainer(method: str, seed: int, bench: Bench, curve: list[float]) -> Callable[..., Any]:
    """The learner of the method, ready to be told its folders; PPO fills the gold curve."""
    world, judges = bench.world, bench.judges
    given = {
        "base": str(bench.starter),
        "seed": seed,
        "prompt_tokens": PROMPT_TOKENS,
        "response_tokens": RESPONSE_TOKENS,
        **asked(bench.options, method),
    }
    rewards = {"reward": judges.reward, "held_out": judges.judge}
    if method == "ppo":
        from rlhf_core.policies.ppo import PpoParams, train_ppo

        params = PpoParams(**{**PPO, **given})
        watched = {**rewards, "held_out": watch(judges.judge, curve, params.batch_size)}
        return lambda **where: train_ppo(world.prompts, params=params, **watched, **where)
    if method == "rloo":
        from rlhf_core.policies.rloo import RlooParams, train_rloo

        rloo = RlooParams(**{**ONLINE, **given})
        return lambda **where: train_rloo(world.prompts, params=rloo, **rewards, **where)
    if method == "grpo":
        from rlhf_core.policies.grpo import GrpoParams, train_grpo

        grpo = GrpoParams(**{**ONLINE, **given})
        return lambda **where: train_grpo(world.prompts, params=grpo, **rewards, **where)
    if method == "dpo":
        from rlhf_core.policies.dpo import DpoParams, train_dpo

        dpo = DpoParams(**{**DPO, **given})
        return lambda **where: train_dpo(world.pairs, params=dpo, **where)
    if method == "kto":
        from rlhf_core.policies.kto import KtoParams, train_kto

        kto = KtoParams(**{**KTO, **given})
        return lambda **where: train_kto(world.thumbs, params=kto, **where)
    if method == "sft":
        from rlhf_core.policies.sft import SftParams, train_sft

        sft = SftParams(**{**SFT, **given})
        return lambda **where: train_sft(world.good, params=sft, **where)
    raise SystemExit(f"--methods {method}: choose from {', '.join(METHODS)}")


PPO: dict[str, Any] = {"updates": 85, "batch_size": 64, "micro_batch_size": 64, "lr": 5e-4,
                       "value_lr": 1e-3, "ppo_epochs": 2, "kl_coef": 0.02, "sample_every": 0,
                       "checkpoint_every": 10}  # fmt: skip
ONLINE: dict[str, Any] = {"lr": 1e-4}
DPO: dict[str, Any] = {"lr": 1e-4, "epochs": 3, "beta": 0.1}
KTO: dict[str, Any] = {"lr": 1e-4, "epochs": 2, "batch_size": 32, "micro_batch_size": 32}
SFT: dict[str, Any] = {"lr": 3e-4, "epochs": 3}


def asked(options: argparse.Namespace, method: str) -> dict[str, Any]:
    """What `--set METHOD.NAME=VALUE` says of the method; values are JSON, or words."""
    found: dict[str, Any] = {}
    for text in options.set:
        name, _, value = text.partition("=")
        whose, _, name = name.partition(".")
        if whose == method:
            try:
                found[name] = json.loads(value)
            except ValueError:
                found[name] = value
    return found


def train_in(folder: Path, train: Callable[..., Any]) -> tuple[Path, Any]:
    """Train with fresh folders; the policy's folder, and the report."""
    from rlhf_core.training import NoOpTracker

    out, work = folder / "policy", folder / "work"
    for one in (out, work):
        one.mkdir(parents=True)
    return out, train(out_dir=out, work_dir=work, tracker=NoOpTracker())


def watch(
    judge: Callable[..., Sequence[float]], curve: list[float], batch_size: int
) -> Callable[..., Any]:
    """The judge, which also notes the gold approval of each update's answers; it tells nobody."""

    def watched(prompts: list[str], answers: list[str]) -> Sequence[float]:
        if len(prompts) == batch_size:  # the audit's probe asks about fewer
            curve.append(approval(list(zip(prompts, answers, strict=True))))
        return judge(prompts, answers)

    return watched


def compare_with_best(curve: list[float], audit: dict[str, Any]) -> dict[str, float]:
    """Gold approval (percent) around the kept update and around the best, smoothed alike."""
    from rlhf_core.policies.audit import half_window, smooth

    updates = int(audit["num_updates"])
    values = smooth(curve[-updates:], half_window(updates))
    return {
        "kept_update": audit["kept_update"],
        "best_update": max(range(len(values)), key=values.__getitem__),
        "kept": 100 * values[audit["kept_update"]],
        "best": 100 * max(values),
    }


def measure(policy: Path, prompts: list[Any], judges: Judges, *, n: int = 1) -> dict[str, float]:
    """Figures of a sampled answer to each prompt, or of the best of n by the reward."""
    from rlhf_core.policies.best_of import best_of_n

    found = best_of_n(
        policy, prompts, n=n, reward=judges.reward, prompt_tokens=PROMPT_TOKENS,
        response_tokens=RESPONSE_TOKENS, precision="fp32", seed=7,
    )  # fmt: skip
    pairs = [(one.prompt, one.completion) for one in found]
    judged = judges.judge([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return {
        "approval": approval(pairs),
        "reward": statistics.fmean(one.reward for one in found),
        "judge": statistics.fmean(judged),
        "words": statistics.fmean(len(answer.split()) for _, answer in pairs),
        "distinct": len({answer for _, answer in pairs}) / len(pairs),
    }


def describe(figures: dict[str, float]) -> str:
    """Figures as words."""
    text = (
        f"approved {100 * figures['approval']:.1f} %, reward {figures['reward']:.3f}, judge "
        f"{figures['judge']:.3f}, {figures['words']:.1f} words"
    )
    if "kept" in figures:
        text += (
            f"; kept update {figures['kept_update']} ({figures['kept']:.1f} %), best "
            f"{figures['best_update']} ({figures['best']:.1f} %)"
        )
    return text


def report(
    base: dict[str, float], results: dict[str, list[dict[str, Any]]], judges: Judges, seconds: float
) -> None:
    """The table, what was wanted, and the JSON line."""
    print(f"\n{'method':<10} {'approved':>9} {'by seed':<22} {'gain':>6} {'judge':>6} {'s':>5}")
    print(f"{'starter':<10} {100 * base['approval']:>8.1f}% {'':<22} {'':>6} "
          f"{base['judge']:>6.3f} {seconds:>5.0f}")  # fmt: skip
    means = {}
    for method, runs in results.items():
        means[method] = statistics.fmean(one["approval"] for one in runs)
        by_seed = " ".join(f"{100 * one['approval']:.1f}" for one in runs)
        print(
            f"{method:<10} {100 * means[method]:>8.1f}% {by_seed:<22} "
            f"{100 * (means[method] - base['approval']):>+6.1f} "
            f"{statistics.fmean(one['judge'] for one in runs):>6.3f} "
            f"{statistics.fmean(one['seconds'] for one in runs):>5.0f}"
        )
    if means:
        print(f"best: {max(means, key=means.__getitem__)}")
    for one in results.get("ppo", []):
        is_met = one["gain"] >= WANTED_GAIN and one["seconds"] <= WANTED_S
        gap = one.get("best", 0.0) - one.get("kept", 0.0)
        print(
            f"  {'met' if is_met else 'MISSED'}: ppo {one['gain']:+.1f} points in "
            f"{one['seconds']:.0f} s, wanted +{WANTED_GAIN:g} in {WANTED_S:g} s; "
            f"{'met' if gap <= WANTED_GAP else 'MISSED'}: kept {gap:.1f} points under the best"
        )
    print(json.dumps({
        "starter": base | {"seconds": seconds}, "methods": results,
        "auc_gold": {"reward": judges.auc_of_reward, "judge": judges.auc_of_judge},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
