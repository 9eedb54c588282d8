"""Trains a tiny reward model, and is killed on the way: run by test_transformer_resume.py.

    python -m tests.core.rewards.killed_run BASE FOLDER KILLS

Imports once, then forks: each child trains and has its life ended by SIGKILL a few steps after the
last checkpoint, at a moment that may lie within a step or within the writing of a checkpoint. The
last child is left to finish. Writes one JSON line: how often it was killed, and at which steps.
"""

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

import huggingface_hub  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.optimize  # noqa: F401
import torch
import transformers.models.bert.modeling_bert  # noqa: F401
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

from rlhf_core.rewards.transformer import TransformerParams, train_transformer
from rlhf_core.training import NoOpTracker
from tests.learning.rated import make_rows


class Assassin(NoOpTracker):
    """Ends the process within a few hundredths of a second after so many steps."""

    def __init__(self, steps: int, delay_s: float) -> None:
        self.left = steps
        self.delay_s = delay_s

    def should_stop(self) -> bool:
        self.left -= 1
        if self.left == 0:
            threading.Timer(self.delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return False


def train(base: str, folder: Path, tracker: NoOpTracker) -> None:
    """One training in this process; the model lies in `folder/model` in the end."""
    torch.set_num_threads(1)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    report = train_transformer(
        make_rows(120),
        params=TransformerParams(
            base=base, epochs=12, batch_size=4, lr=1e-3, max_tokens=48, precision="fp32",
            checkpoint_every=5, patience=0,
        ),
        out_dir=folder / "model",
        work_dir=folder / "work",
        tracker=tracker,
    )  # fmt: skip
    told = {"metrics": report.metrics, "history": report.details["history"]}
    (folder / "report.json").write_text(json.dumps(told))


def main() -> None:
    base, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    drawn = random.Random(7)
    killed_at = []
    while True:
        done = len(killed_at) >= kills
        steps, delay_s = drawn.randint(6, 9), drawn.random() * 0.03
        child = os.fork()
        if child == 0:
            train(base, folder, NoOpTracker() if done else Assassin(steps, delay_s))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            checkpoints = sorted(path.name for path in (folder / "work").glob("step-*"))
            killed_at.append(checkpoints[-1] if checkpoints else "")
            continue
        sys.stdout.write(json.dumps({"killed_at": killed_at, "status": status}) + "\n")
        return


if __name__ == "__main__":
    main()
