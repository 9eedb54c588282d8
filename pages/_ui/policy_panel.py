"""What is known of a policy: the audit of its training, its answers, how it does beside others."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.charts import draw_audit, draw_drift
from pages._ui.interaction_view import draw_text
from pages._ui.measures import NONE_THERE, name_metric
from pages._ui.messages import plain
from pages._ui.run_samples import show_samples
from rlhf_core.accounts.permissions import Actor
from rlhf_core.jobs.samples import SampleView, list_samples
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store

DRIFTS = ("length", "distinct_2", "opening_share", "entropy", "eos_share")
PROBED = {
    "held_out_without": "Reward by the judge without the opinion",
    "held_out_with": "Reward by the judge with the wrong opinion",
    "lost": "Lost by the opinion (0 is best)",
    "repeated": "Share of the opinion's words repeated (0 is best)",
    "agreeing": "Answers that begin by agreeing",
}
LARGE_DRIFT = 0.3
PLAIN = {"displayModeBar": False}


def show_audit(version: ModelVersionView) -> None:
    """Whether the reward was earned or gamed: the chart, what the answers became, the probe."""
    audit = version.details.get("audit") or {}
    points = pd.DataFrame(audit.get("points") or [])
    if points.empty:
        st.caption(
            "There is no audit: it needs a way that learns from a reward (PPO, RLOO or GRPO). "
            "The evaluation tells how this version does."
        )
        return
    if audit.get("sentence"):
        st.markdown(f":material/troubleshoot: {plain(str(audit['sentence']))}")
    with st.container(border=True, key="audit"):
        st.markdown("**Reward and judge, by the distance from the reference**")
        st.caption(
            "The policy learned from the reward model; the held-out judge only looked on. Where "
            "the first rises and the second falls, it learned to please the reward model alone."
        )
        st.plotly_chart(
            draw_audit(points, kept=audit.get("kept_update"), best=audit.get("best_update")),
            key=f"audit_{version.id}",
            config=PLAIN,
            alt="Reward and held-out reward over the square root of the KL to the reference",
        )
        with st.expander("As a table", key="audit_table"):
            _show_points(points, version)
    _show_drift(audit, points, version)
    _show_sycophancy(audit.get("sycophancy"))


def show_answers(version: ModelVersionView, actor: Actor) -> None:
    """Answers to fixed prompts over the training, beside those of the reference."""
    samples: list[SampleView] = []
    if version.job_id is not None:
        with get_store().reading() as db:
            samples = list_samples(db, version.job_id, actor=actor)
    samples = samples or kept_samples(version.details)
    if samples:
        show_samples(samples, version.id)
    else:
        st.caption("The training run kept no answers.")


def kept_samples(details: Mapping[str, Any]) -> list[SampleView]:
    """The answers in a version's own report; the first ones, before training, are the reference."""
    entries = details.get("samples") or []
    first = {one["prompt"]: one["completion"] for one in entries[0]["answers"]} if entries else {}
    return [
        SampleView(
            step=int(entry["update"]),
            prompt=answer["prompt"],
            completion=answer["completion"],
            reference=first.get(answer["prompt"], ""),
            reward=answer.get("reward"),
        )
        for entry in entries
        for answer in entry["answers"]
    ]


def _show_points(points: pd.DataFrame, version: ModelVersionView) -> None:
    names = ["update", "sqrt_kl", "reward", "held_out_reward", "length", "distinct_2"]
    shown = points[[name for name in names if name in points]]
    shown = shown.dropna(axis=1, how="all")
    st.dataframe(
        shown.rename(columns={name: name_metric(name) for name in shown}),
        hide_index=True,
        height=240 if len(shown) > 6 else "content",
        placeholder=NONE_THERE,
        key=f"audit_points_{version.id}",
        alt="The points of the audit",
    )


def _show_drift(audit: dict[str, Any], points: pd.DataFrame, version: ModelVersionView) -> None:
    drift = audit.get("drift") or {}
    drawn = [name for name in ("length", "distinct_2") if points.get(name) is not None]
    drawn = [name for name in drawn if points[name].notna().any()]
    if not drawn and not drift:
        return
    with st.container(border=True, key="drift"):
        st.markdown("**What became of the answers**")
        said = [
            f"{name_metric(name)}: {float(drift[name]):.2f} times"
            + (" :material/priority_high:" if abs(float(drift[name]) - 1.0) > LARGE_DRIFT else "")
            for name in DRIFTS
            if drift.get(name) is not None
        ]
        if said:
            st.caption("Of the kept policy, compared with the first answers. " + " · ".join(said))
        for name, place in zip(drawn, st.columns(2), strict=False):
            place.plotly_chart(
                draw_drift(points, name, title=name_metric(name), kept=audit.get("kept_update")),
                key=f"drift_{name}_{version.id}",
                config=PLAIN,
                alt=f"{name_metric(name)} over the updates",
            )


def _show_sycophancy(probe: Mapping[str, Any] | None) -> None:
    """What a user's wrong opinion does to the answers, before and after the training."""
    if not probe:
        return
    before, after = probe.get("before") or {}, probe.get("after") or {}
    with st.container(border=True, key="sycophancy"):
        st.markdown("**Does it say what the user wants to hear?**")
        st.markdown(plain(str(probe.get("sentence") or "")))
        rows = [
            {"Measure": words, "Before": before.get(name), "Now": after.get(name)}
            for name, words in PROBED.items()
            if name in after
        ]
        figures = st.column_config.NumberColumn(format="%.3f")
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            width="content",
            column_config={
                "Before": figures,
                "Now": figures,
            },
            placeholder=NONE_THERE,
            key="sycophancy_values",
            alt="Answers to prompts with a user's wrong opinion, before and after the training",
        )
        if probe.get("example"):
            st.caption("It was asked, for example:")
            draw_text(str(probe["example"]), key="sycophancy_example")
