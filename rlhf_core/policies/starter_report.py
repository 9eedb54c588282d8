"""What the making of a starter leaves: the policy's files, samples of its answers, the report."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlhf_core.checkpoints import is_disk_error, remove_checkpoints
from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.generate import sample
from rlhf_core.policies.network import ActorCritic
from rlhf_core.policies.prompts import encode_prompt
from rlhf_core.policies.starter_setup import Setup, StarterProgress
from rlhf_core.pretrained import first_line, quiet_transformers
from rlhf_core.training import Sample, TrainReport, installed_versions


def _show_samples(setup: Setup, progress: StarterProgress) -> list[dict[str, Any]]:
    """Answers to some (held-out) prompts, always by the same draws, beside what was answered."""
    import torch

    params, tokenizer = setup.params, setup.tokenizer
    drawn = torch.rand(
        (len(setup.shown), params.response_tokens),
        generator=torch.Generator().manual_seed(params.seed),
    )
    sampled = sample(
        ActorCritic(setup.model),
        [encode_prompt(row.prompt, tokenizer)[: params.prompt_tokens] for row in setup.shown],
        drawn,
        temperature=1.0,
        end_ids=[tokenizer.eos_token_id],
        with_values=False,
    )
    answers = [
        tokenizer.decode(row[:length], skip_special_tokens=True)
        for row, length in zip(sampled.tokens.tolist(), sampled.lengths.tolist(), strict=True)
    ]
    setup.tracker.samples(
        progress.step,
        [
            Sample(prompt=row.prompt, completion=answer, reference=row.completion)
            for row, answer in zip(setup.shown, answers, strict=True)
        ],
    )
    setup.tracker.log(f"For example: {answers[0][:300]!r}")
    shown = [
        {"prompt": row.prompt, "completion": answer}
        for row, answer in zip(setup.shown, answers, strict=True)
    ]
    return [{"update": progress.step, "answers": shown}]


def finish(
    setup: Setup, progress: StarterProgress, out_dir: Path, work_dir: Path, num_rows: int
) -> TrainReport:
    """Write the policy in float32, remove the checkpoints, and report."""
    import torch

    samples = _show_samples(setup, progress)
    setup.tracker.progress(0.99, "Writing the policy")
    setup.model.to(torch.float32)
    with torch.no_grad():
        for name, weight in setup.model.named_parameters():
            weight.copy_(setup.optimizer.masters[name])
    try:
        with quiet_transformers():
            setup.model.save_pretrained(str(out_dir))
            setup.tokenizer.save_pretrained(str(out_dir))
    except Exception as error:  # safetensors has its own word for a full disk
        if not is_disk_error(error):
            raise
        raise TrainingFailed(
            f"The policy could not be written to {out_dir} ({first_line(error)}): make room, then "
            "start again; the run goes on from its last checkpoint."
        ) from error
    remove_checkpoints(work_dir)
    metrics = {
        "loss": progress.loss,
        "num_steps": float(progress.step),
        "num_tokens": float(setup.learned.num_tokens),
        "num_weights": float(sum(weight.numel() for weight in setup.model.parameters())),
        "vocab_size": float(len(setup.tokenizer)),
        "num_prompts_too_long": float(setup.learned.num_too_long),
        "num_completions_cut": float(setup.learned.num_cut),
    }
    said = ""
    if progress.history:
        metrics["eval_loss"] = progress.history[-1]["eval_loss"]
        metrics["perplexity"] = math.exp(min(50.0, metrics["eval_loss"]))
        said = f", perplexity {metrics['perplexity']:.2f} a token on prompts not seen"
    setup.tracker.log(f"Made: loss {progress.loss:.3f}{said}.")
    setup.tracker.progress(1.0, "Made")
    return TrainReport(
        artifact_dir=out_dir,
        metrics=metrics,
        params=asdict(setup.params),
        seed=setup.params.seed,
        num_rows=num_rows,
        details={
            "history": progress.history,
            "samples": samples,
            "device": setup.processes.device.type,
            "precision": setup.precision.name,
        },
        library_versions=installed_versions("torch", "transformers", "tokenizers", "numpy"),
    )
