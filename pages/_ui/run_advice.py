"""What to do about a run that failed: which setting of the launch page its sentence means."""

import re

from pages._ui.launch_options import OPTIONS
from pages._ui.launch_policy_options import MORE, USUAL
from pages._ui.measures import POLICY_KINDS
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.policy_params import parse_policy_params
from rlhf_core.jobs.service import JobView
from rlhf_core.vocabulary import JobState

LABELS = {
    option.name: option.label for options in (*OPTIONS.values(), USUAL, MORE) for option in options
}
AT_ONCE = "micro_batch_size"
_MEMORY = re.compile(r"\bmemory\b", re.IGNORECASE)
_WORD = re.compile(r"\b[a-z][a-z_]+\b")


def advise(job: JobView) -> str | None:
    """A sentence of ours (Markdown) beside that of a failed run; None where that says it all."""
    if job.state is not JobState.FAILED or not job.message:
        return None
    if _MEMORY.search(job.message) and job.kind in POLICY_KINDS:
        return _advise_on_memory(job)
    words = _WORD.findall(job.message)
    named = [name for name in dict.fromkeys(words) if name in LABELS and _is_setting(name)]
    if not named:
        return None
    said = ", ".join(f"`{name}` is **{LABELS[name]}**" for name in named)
    return f"*Copy with changes* leads to these settings: {said}."


def _is_setting(name: str) -> bool:
    """Whether the word can mean nothing else: `epochs` or `seed` may be words of the sentence."""
    return "_" in name or name in ("lr", "beta", "precision")


def _advise_on_memory(job: JobView) -> str:
    try:
        params = parse_policy_params(job.params).learner_params()
    except RlhfError:
        params = None
    rows = getattr(params, AT_ONCE, None)
    begin = f"Choose *Copy with changes* and lower **{LABELS[AT_ONCE]}**"
    if rows == 1:
        begin = f"Choose *Copy with changes* and lower **{LABELS['response_tokens']}**"
    elif rows:
        begin += f" from {rows} to {rows // 2}: the result stays the same"
    if getattr(params, "lora_rank", 1) == 0:
        begin += "; or train with a **LoRA rank** of 16"
    return f"{begin}."
