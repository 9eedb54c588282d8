"""PPO beside TRL's last (1.12): the same model, prompts, batch, lengths and passes, in one run.

    pip install --no-deps --target DIR trl==1.12.0
    python benchmarks/ppo.py --peer-trl DIR [--threads 2] [--updates 3] [--only fp32,bf16]

Both train a random Llama of 5.5 million weights (batch 32, prompt 32, response 48, 4 passes) by
a reward model of the same size; the own one reads texts by length, eight at once. Each case runs
in a process of its own, peer and own in turn.

`fp32`, `bf16` and `lora`: every answer at full length, beside the peer in float32. `eos`: answers
end by themselves after a third of the maximum on average, float32 both; `eos_bf16` likewise, the
own one in bfloat16 (only where `--only` asks for it: on a CPU each new shape of a bfloat16 product
costs some 0.7 MB for good, up to a bound, and answers of many lengths make many). The learning
rate is so small that answers keep their lengths.

The peer learns from `--micro` rows at once, the own trainer from up to `--own-micro`. Memory is the
peak above what the imports take; processor time beside the wall's tells on a machine with other
work. Without `--peer-trl` only the own figures are printed. One JSON line last.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CASES = ("fp32", "bf16", "eos", "lora")
PAD, EOS, UNK = 0, 1, 2


def build_base(folder: Path, options: argparse.Namespace, end_share: float) -> None:
    """A random Llama whose every token ends the answer with probability `end_share` (0: chance).

    One of the state's numbers is held constant through all layers, so that the output layer can
    give the end token a logit of its own.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<eos>": EOS, "<unk>": UNK}
    words |= {f"w{place}": place for place in range(3, options.vocab)}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=plain, padding_side="left", **special).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape_of(options)))
    with torch.no_grad():
        head, trunk = model.lm_head.weight, model.model
        trunk.embed_tokens.weight[:, 0] = 1.0
        for layer in trunk.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        head[:, 0] = 0.0
        head[EOS] = 0.0
        constant = float(trunk(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state[0, -1, 0])
        logit = -30.0
        if end_share:
            logit = math.log(options.vocab * end_share / (1.0 - end_share))
        head[EOS, 0] = logit / constant
    model.save_pretrained(folder)


def shape_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of all models here."""
    return {
        "vocab_size": options.vocab, "hidden_size": options.hidden,
        "intermediate_size": options.hidden * 3, "num_hidden_layers": options.layers,
        "num_attention_heads": max(1, options.hidden // 64),
        "num_key_value_heads": max(1, options.hidden // 64), "pad_token_id": PAD,
        "eos_token_id": EOS, "bos_token_id": EOS, "max_position_embeddings": 2048,
    }  # fmt: skip


def draw_prompts(options: argparse.Namespace) -> list[list[int]]:
    """As many prompts as there are answers in the run, drawn by a fixed seed."""
    import torch

    count = options.batch * 4
    drawn = torch.Generator().manual_seed(1)
    return torch.randint(3, options.vocab, (count, options.prompt), generator=drawn).tolist()


def peak_mb() -> float:
    """The most memory that this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held_mb() -> float:
    """What this process holds now, in MiB."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


class Stopwatch:
    """Seconds between stops, by the wall and of this process's processor time."""

    def __init__(self) -> None:
        self.stops: list[tuple[float, float]] = []

    def stop(self) -> None:
        """An update is over (the first time: the run begins)."""
        self.stops.append((time.perf_counter(), time.process_time()))

    def read(self) -> dict[str, float]:
        """Medians an update, without the first, which has the start in it."""
        laps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(self.stops)]
        wall, cpu = zip(*(laps[1:] or laps), strict=True)
        return {"seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu)}


def run_peer(options: argparse.Namespace) -> dict[str, Any]:
    """TRL's trainer, in this process."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    imports_mb = held_mb()
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    policy, reference = (LlamaForCausalLM.from_pretrained(options.base) for _ in range(2))
    shape = LlamaConfig(**shape_of(options), num_labels=1)
    judge, critic = (LlamaForSequenceClassification(shape) for _ in range(2))
    rows = Dataset.from_dict({"input_ids": draw_prompts(options)})
    has_gpu = torch.cuda.is_available()
    stopwatch = Stopwatch()

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            stopwatch.stop()

    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            PPOConfig(
                output_dir=folder,
                per_device_train_batch_size=options.micro,
                gradient_accumulation_steps=options.batch // options.micro,
                num_mini_batches=1,
                num_ppo_epochs=options.ppo_epochs,
                response_length=options.response,
                total_episodes=options.batch * options.updates,
                local_rollout_forward_batch_size=options.batch,
                report_to=[], num_sample_generations=0, use_cpu=not has_gpu, bf16=has_gpu,
                stop_token="eos" if options.case == "eos" else None, save_strategy="no",
                logging_strategy="no", learning_rate=1e-8, disable_tqdm=True,
                temperature=1.0,
            ),
            tokenizer, policy, reference, judge, rows, critic,
            eval_dataset=rows.select(range(options.batch)), callbacks=[Watch()],
        )  # fmt: skip
        stopwatch.stop()
        trainer.train()
    return {**stopwatch.read(), "memory_mb": peak_mb() - imports_mb}


def run_own(options: argparse.Namespace) -> dict[str, Any]:
    """This project's trainer, in this process."""
    import peft  # noqa: F401
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    from rlhf_core.examples import PromptOnly
    from rlhf_core.policies.ppo import PpoParams, train_ppo
    from rlhf_core.training import NoOpTracker

    stopwatch = Stopwatch()

    class Watch(NoOpTracker):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            stopwatch.stop()

    imports_mb = held_mb()
    torch.set_num_threads(options.threads)
    torch.manual_seed(2)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    judge = LlamaForSequenceClassification(LlamaConfig(**shape_of(options), num_labels=1)).eval()

    def reward(prompts: list[str], completions: list[str]) -> list[float]:
        texts = [f"{one} {two}" for one, two in zip(prompts, completions, strict=True)]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place].split()))
        scores = [0.0] * len(texts)
        for start in range(0, len(order), 8):
            places = order[start : start + 8]
            inputs = tokenizer(
                [texts[place] for place in places], padding=True, return_tensors="pt",
                return_token_type_ids=False,
            )  # fmt: skip
            with torch.inference_mode():
                found = judge(**inputs).logits[:, 0].tolist()
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        return scores

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.mkdir()
        stopwatch.stop()
        report = train_ppo(
            [
                PromptOnly(" ".join(f"w{one}" for one in ids), str(place))
                for place, ids in enumerate(draw_prompts(options))
            ],
            params=PpoParams(
                base=options.base, updates=options.updates, batch_size=options.batch,
                micro_batch_size=options.own_micro, ppo_epochs=options.ppo_epochs,
                response_tokens=options.response, prompt_tokens=options.prompt + 8, lr=1e-8,
                precision="bf16" if options.case.endswith("bf16") else "fp32", sample_every=0,
                lora_rank=8 if options.case == "lora" else 0, checkpoint_every=10**6,
            ),
            reward=reward, out_dir=out, work_dir=Path(folder, "work"), tracker=Watch(),
        )  # fmt: skip
    return {
        **stopwatch.read(),
        "memory_mb": peak_mb() - imports_mb,
        "length": report.metrics["length"],
        "generation_share": report.details["generation_share"],
    }


def run_apart(role: str, case: str, base: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One case in a process of its own."""
    names = ("hidden", "layers", "vocab", "batch", "micro", "own_micro", "prompt", "response",
             "updates", "ppo_epochs", "threads")  # fmt: skip
    sizes = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    if role == "peer":
        environment["PYTHONPATH"] = options.peer_trl
    done = subprocess.run(
        [sys.executable, __file__, f"--role={role}", f"--case={case}", f"--base={base}", *sizes],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{role} {case} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All cases, peer and own in turn; prints a line for each."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        bases = {"full": Path(folder, "full"), "eos": Path(folder, "eos")}
        build_base(bases["full"], options, 0.0)
        build_base(bases["eos"], options, share_for(options.response / 3, options.response))
        peers: dict[str, Any] = {}
        for case in options.only.split(","):
            kind = "eos" if case.startswith("eos") else "full"
            if options.peer_trl and kind not in peers:
                peers[kind] = run_apart("peer", kind, bases[kind], options)
            own = run_apart("own", case, bases[kind], options)
            found[case] = line = describe(own, peers.get(kind), options)
            print(f"{case:8} {json.dumps(line)}", flush=True)
    return found


def describe(
    own: dict[str, Any], peer: dict[str, Any] | None, options: argparse.Namespace
) -> dict[str, float]:
    """Tokens a second, memory, and the ratios to the peer."""
    num_tokens = options.batch * own["length"]
    line = {"tokens_per_s": num_tokens / own["seconds"], **own}
    if peer:
        line |= {"peer_tokens_per_s": num_tokens / peer["seconds"]}
        line |= {f"peer_{name}": value for name, value in peer.items()}
        line |= {
            "times_as_fast": peer["seconds"] / own["seconds"],
            "times_as_little_cpu": peer["cpu_seconds"] / own["cpu_seconds"],
            "share_of_memory": own["memory_mb"] / peer["memory_mb"],
        }
    return {name: round(value, 3) for name, value in line.items()}


def share_for(mean: float, longest: int) -> float:
    """The probability of an end at each token with which answers have `mean` tokens."""
    low, high = 1e-6, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        found = (1.0 - (1.0 - middle) ** longest) / middle
        low, high = (middle, high) if found > mean else (low, middle)
    return low


def main() -> None:
    """Run all cases, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (
        ("hidden", 256), ("layers", 4), ("vocab", 4096), ("batch", 32), ("micro", 8),
        ("own-micro", 32), ("prompt", 32), ("response", 48), ("updates", 4), ("ppo-epochs", 4),
        ("threads", 2),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peer-trl", default="")
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--role", choices=["own", "peer"])
    parser.add_argument("--case", default="fp32")
    parser.add_argument("--base", default="")
    options = parser.parse_args()
    if options.role:
        print(json.dumps(run_own(options) if options.role == "own" else run_peer(options)))
    else:
        print(json.dumps({"benchmark": "ppo", **compare(options)}))


if __name__ == "__main__":
    main()
