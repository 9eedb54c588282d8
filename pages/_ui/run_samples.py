"""What a policy answers on its way, beside the reference's answers to the same prompts."""

import uuid
from collections.abc import Mapping, Sequence

import streamlit as st

from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain
from rlhf_core.jobs.samples import SampleView

Answer = tuple[str, float | None]
"""A text, and its reward where it is known."""
LATEST = -1  # whatever step that is: the choice stays when a later one comes


def show_samples(samples: Sequence[SampleView], run_id: uuid.UUID) -> None:
    """The answers after one step, the latest unless another is chosen."""
    if not samples:
        return
    steps = sorted({sample.step for sample in samples})
    st.subheader("What it answers")
    chosen = LATEST
    if len(steps) > 1:

        def name(step: int) -> str:
            return f"the latest: {steps[-1]}" if step == LATEST else str(step)

        chosen = st.selectbox(
            "After step",
            [LATEST, *reversed(steps[:-1])],
            format_func=name,
            key=f"sample_step_{run_id}",
            width=240,
        )
    step = steps[-1] if chosen == LATEST else chosen
    shown = [sample for sample in samples if sample.step == step]
    if len(steps) == 1 and step:
        st.caption(f"After step {step}.")
    for number, sample in enumerate(shown):
        answers = {
            "The policy": (sample.completion, sample.reward),
            "The reference": (sample.reference, None),
        }
        show_beside(sample.prompt, answers, key=f"{run_id.hex}_{step}_{number}")


def show_beside(prompt: str, answers: Mapping[str, Answer], *, key: str) -> None:
    """A prompt, and what each of some policies answers, by name; texts exactly as they are."""
    with st.container(border=True, key=f"sample_{key}"):
        st.markdown(":gray[Prompt]")
        draw_text(prompt, key=f"prompt_{key}")
        columns = st.columns(len(answers))
        for number, (name, (text, reward)) in enumerate(answers.items()):
            with columns[number]:
                said = "" if reward is None else f" · reward **{reward:.2f}**"
                st.markdown(f":gray[{plain(name)}]{said}")
                if text.strip():
                    draw_text(text, key=f"answer_{key}_{number}")
                else:
                    st.caption("Empty: it answered nothing.")
