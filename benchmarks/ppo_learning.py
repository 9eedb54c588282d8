"""Does PPO here learn as much from as many answers as TRL's last (1.12) did?

    pip install --no-deps --target DIR trl==1.12.0
    python benchmarks/ppo_learning.py --peer-trl DIR [--threads 2] [--seeds 3] [--updates 60]

Both train the same random Llama (0.2 million weights) on the same prompts by the same judge, a
fixed random classifier, with equal batches, lengths, passes, rates and price of KL. Every answer
has its full length. What is compared is the judge's mean score of the answers of the last fifth of
the run; each seed has another judge and other draws. Prints one JSON line last.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ppo

SCALE = 10.0  # of the judge's scores: spread wide enough that there is something to gain
LR, KL_COEF = 1e-3, 0.05


def build_judge(folder: Path, options: argparse.Namespace) -> None:
    """A random classifier with one score."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(100 + options.seed)
    judge = LlamaForSequenceClassification(LlamaConfig(**ppo.shape_of(options), num_labels=1))
    with torch.no_grad():
        judge.score.weight.mul_(SCALE)
    judge.save_pretrained(folder)


def run_peer(options: argparse.Namespace) -> list[float]:
    """The judge's mean score of each update's answers, by TRL's trainer."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    policy, reference = (LlamaForCausalLM.from_pretrained(options.base) for _ in range(2))
    judge, critic = (LlamaForSequenceClassification.from_pretrained(options.judge)
                     for _ in range(2))  # fmt: skip
    rows = Dataset.from_dict({"input_ids": ppo.draw_prompts(options)})
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            PPOConfig(
                output_dir=folder,
                per_device_train_batch_size=options.micro,
                gradient_accumulation_steps=options.batch // options.micro,
                num_mini_batches=1, num_ppo_epochs=options.ppo_epochs,
                response_length=options.response, total_episodes=options.batch * options.updates,
                local_rollout_forward_batch_size=options.batch, kl_coef=KL_COEF,
                report_to=[], num_sample_generations=0, use_cpu=True, bf16=False,
                save_strategy="no", learning_rate=LR, lr_scheduler_type="constant",
                disable_tqdm=True, temperature=1.0, seed=options.seed,
            ),
            AutoTokenizer.from_pretrained(options.base), policy, reference, judge, rows, critic,
            eval_dataset=rows.select(range(options.batch)),
        )  # fmt: skip
        trainer.train()
        told = trainer.state.log_history
    return [line["objective/scores"] for line in told if "objective/scores" in line]


def run_own(options: argparse.Namespace) -> list[float]:
    """The same by this project's trainer."""
    import peft  # noqa: F401
    import torch
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    from rlhf_core.examples import PromptOnly
    from rlhf_core.policies.ppo import PpoParams, train_ppo
    from rlhf_core.training import NoOpTracker

    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    judge = LlamaForSequenceClassification.from_pretrained(options.judge).eval()
    scores: list[float] = []

    class Keep(NoOpTracker):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            if "reward" in values:
                scores.append(values["reward"])

    def reward(prompts: list[str], completions: list[str]) -> list[float]:
        texts = [f"{one} {two}" for one, two in zip(prompts, completions, strict=True)]
        inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            return judge(**inputs).logits[:, 0].tolist()

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.mkdir()
        train_ppo(
            [PromptOnly(" ".join(f"w{one}" for one in ids), str(place))
             for place, ids in enumerate(ppo.draw_prompts(options))],
            params=PpoParams(
                base=options.base, updates=options.updates, batch_size=options.batch,
                micro_batch_size=options.micro, ppo_epochs=options.ppo_epochs,
                response_tokens=options.response, prompt_tokens=options.prompt + 8, lr=LR,
                value_lr=LR, kl_coef=KL_COEF, precision="fp32", sample_every=0,
                checkpoint_every=10**6, reward_clip=None, missing_eos_penalty=None,
                seed=options.seed, max_kl=1e6, min_entropy_share=0.0,
            ),
            reward=reward, out_dir=out, work_dir=Path(folder, "work"), tracker=Keep(),
        )  # fmt: skip
    return scores


def run_apart(role: str, options: argparse.Namespace) -> list[float]:
    """One run in a process of its own."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in vars(options).items()
             if name not in ("role", "peer_trl", "seeds")]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    if role == "peer":
        environment["PYTHONPATH"] = options.peer_trl
    command = [sys.executable, __file__, f"--role={role}", *given]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{role} failed:\n{done.stderr[-3000:]}")
    scores: list[float] = json.loads(done.stdout.splitlines()[-1])
    return scores


def end_of(scores: list[float]) -> float:
    """The mean of the last fifth."""
    return statistics.fmean(scores[-max(1, len(scores) // 5) :])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All seeds, peer and own in turn."""
    ends: dict[str, list[float]] = {"own": [], "peer": []}
    for seed in range(options.seeds):
        options.seed = seed
        with tempfile.TemporaryDirectory() as folder:
            options.base, options.judge = f"{folder}/base", f"{folder}/judge"
            ppo.build_base(Path(options.base), options, 0.0)
            build_judge(Path(options.judge), options)
            for role in ("peer", "own") if options.peer_trl else ("own",):
                scores = run_apart(role, options)
                ends[role].append(end_of(scores))
                shown = [round(score, 2) for score in scores[:: max(1, len(scores) // 8)]]
                print(f"seed {seed} {role:4} {ends[role][-1]:.2f} at the end {shown}", flush=True)
    return {
        "answers": options.updates * options.batch,
        **{f"{role}_scores": [round(end, 3) for end in told] for role, told in ends.items()},
    }


def main() -> None:
    """Run all seeds, or one run in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (
        ("hidden", 64), ("layers", 2), ("vocab", 256), ("batch", 64), ("micro", 64),
        ("prompt", 8), ("response", 8), ("updates", 60), ("ppo-epochs", 4), ("threads", 2),
        ("seed", 0), ("seeds", 3),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peer-trl", default="")
    parser.add_argument("--role", choices=["own", "peer"])
    parser.add_argument("--base", default="")
    parser.add_argument("--judge", default="")
    options = parser.parse_args()
    if options.role:
        print(json.dumps(run_own(options) if options.role == "own" else run_peer(options)))
    else:
        print(json.dumps({"benchmark": "ppo_learning", **compare(options)}))


if __name__ == "__main__":
    main()
