"""Groups of failures that share a meaning: the table, and the chosen group in full."""

import math
from datetime import timedelta

import pandas as pd
import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.failure_choice import CLUSTER_PARAM
from pages._ui.insight_charts import draw_lines
from pages._ui.insight_rows import link_to_rows, make_key
from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.agreement import Interval
from rlhf_core.analytics.failure_clusters import (
    ClusteringView,
    ClusterView,
    count_bad_days,
    list_examples,
)
from rlhf_core.analytics.filters import Filters
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import AlikeBy

ALIKE_NAMES = {
    AlikeBy.BOTH: "Both",
    AlikeBy.PROMPT: "Prompts",
    AlikeBy.COMPLETION: "Answers",
}
COMPARED = {
    AlikeBy.BOTH: "Prompts compared, and answers",
    AlikeBy.PROMPT: "Prompts compared",
    AlikeBy.COMPLETION: "Answers compared",
}
NUM_OPEN = 2  # examples; the others are in an expander
MAX_DAYS_FILLED = 730
ALL_TIME = Filters()
FIRM = 0.6
"""A group that other samples find again to this degree is told from chance."""


def show_groups(search: ClusteringView, actor: Actor) -> None:
    """The table; the group that is clicked, or else the first, in full."""
    in_groups = search.num_items - search.num_outliers
    said = [
        COMPARED[search.params.alike_by],
        f"{in_groups:,} of {search.num_items:,} bad answers lie in a group",
        f"{_percent(search.num_outliers / max(1, search.num_items))} in none",
        f"searched {search.created_at:%Y-%m-%d %H:%M} UTC",
    ]
    if search.stability is not None:
        said.insert(3, f"stability {search.stability:.2f}")
    st.caption(" · ".join(said))
    if not search.clusters:
        st.info(
            "The bad answers of this search are too unlike each other: no group was found. Choose "
            "a longer period or a smaller smallest group.",
            icon=":material/scatter_plot:",
        )
        return
    clusters = _choose_kind(search)
    if not clusters:
        st.caption("No group of this kind was found.")
        return
    _show_group(_choose(clusters), actor)


def _choose_kind(search: ClusteringView) -> list[ClusterView]:
    """The groups of one kind of text, where two were compared: alike prompts, or alike answers."""
    if search.params.alike_by is not AlikeBy.BOTH:
        return list(search.clusters)
    of_kind = {
        kind: [one for one in search.clusters if one.alike_by is kind]
        for kind in (AlikeBy.PROMPT, AlikeBy.COMPLETION)
    }

    def name(kind: AlikeBy) -> str:
        num_worse = sum(one.is_worse for one in of_kind[kind])
        return f"{ALIKE_NAMES[kind]} ({num_worse:,} worse)"

    with_worse = [kind for kind, found in of_kind.items() if any(one.is_worse for one in found)]
    chosen = st.segmented_control(
        "Alike are",
        list(of_kind),
        format_func=name,
        default=next(iter(with_worse), AlikeBy.PROMPT),
        required=True,
        key=f"failure_kind_{search.id.hex}",
    )
    return of_kind[chosen]


def _choose(clusters: list[ClusterView]) -> ClusterView:
    clusters = sorted(clusters, key=lambda one: (not one.is_worse, _least_gap(one), one.number))
    frame = pd.DataFrame(
        {
            "Group": [one.number + 1 for one in clusters],
            "Typical words": [", ".join(one.words) for one in clusters],
            "Bad answers": [one.size for one in clusters],
            "Approval": [_hundredfold(one.approval) for one in clusters],
            "Of the rest": [_hundredfold(one.rest) for one in clusters],
            "Verdict": ["worse than the rest" if one.is_worse else "" for one in clusters],
            "Stability": [one.stability for one in clusters],
        }
    )
    number = st.column_config.NumberColumn
    chosen = st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(clusters) < 10 else 380,
        column_config={
            "Group": number(width="small"),
            "Typical words": st.column_config.TextColumn(width="large"),
            "Bad answers": number(format="localized"),
            "Approval": number(
                format="%.0f %%", help="Of answers like these that did not choose the group."
            ),
            "Of the rest": number(format="%.0f %%"),
            "Stability": number(
                format="%.2f", help="How much of it is found again in other samples: 1 is all."
            ),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"failure_groups_{make_key([one.id for one in clusters])}",
        alt="Groups of failures: those worse than the rest first, the surest before the others",
    )
    places = [place for place in chosen.selection.rows if place < len(clusters)]
    return clusters[places[0] if places else 0]


def _show_group(cluster: ClusterView, actor: Actor) -> None:
    with get_store().reading() as db:
        examples = list_examples(db, cluster.id, actor=actor, limit=6)
        days = count_bad_days(db, cluster.id, actor=actor)
    with st.container(border=True, key="failure_group"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**Group {cluster.number + 1}**", width="content")
            for word in cluster.words:
                st.badge(plain(word), color="gray")
        st.markdown(explain_approval(cluster))
        if cluster.stability is not None and cluster.stability < FIRM:
            st.caption(
                f"Stability {cluster.stability:.2f}: other samples find it only in part; read the "
                "examples before you act on it."
            )
        _show_actions(cluster, actor)
        st.markdown("**Most typical**")
        for number, example in enumerate(examples):
            if number == NUM_OPEN:
                break
            _show_example(example.prompt, example.completion, f"{cluster.id.hex}_{number}")
        if examples[NUM_OPEN:]:
            with st.expander("More examples", key=f"failure_more_{cluster.id.hex}"):
                for number, example in enumerate(examples[NUM_OPEN:], NUM_OPEN):
                    _show_example(example.prompt, example.completion, f"{cluster.id.hex}_{number}")
        _show_days(days, cluster)


def explain_approval(cluster: ClusterView) -> str:
    """What the held-out answers say of the group, in a sentence or two."""
    ours, rest, gap = cluster.approval, cluster.rest, cluster.difference
    if ours is None:
        return (
            f"**{cluster.size:,} bad answers.** No other answer like these was rated: how such "
            "answers are received is not known."
        )
    n = cluster.num_held_out
    among = (
        f"Among {n:,} answer{'' if n == 1 else 's'} like these to other prompts, good and bad, "
        f"approval is {_percent(ours.value)} ({_percent(ours.low)} to {_percent(ours.high)})"
    )
    if rest is None or gap is None:
        return f"**{cluster.size:,} bad answers.** {among}."
    points = f"{100 * gap.value:+.0f} points ({100 * gap.low:+.0f} to {100 * gap.high:+.0f})"
    firm = (
        "worse than the rest, beyond chance"
        if cluster.is_worse
        else "which chance may explain"
        if gap.value < 0
        else "no worse than the rest"
    )
    return (
        f"**{cluster.size:,} bad answers.** {among}, of the rest {_percent(rest.value)}: "
        f"{points}, {firm}."
    )


def _show_actions(cluster: ClusterView, actor: Actor) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        params = {CLUSTER_PARAM: str(cluster.id)}
        if actor.may(Permission.MANAGE_QUEUES) and st.button(
            "Make a rating queue", icon=":material/playlist_add:", key="failure_queue"
        ):
            st.session_state["queues_part_wanted"] = "New queue"
            st.switch_page("pages/collect/queues.py", query_params=params)
        if actor.may(Permission.MANAGE_DATASETS) and st.button(
            "Make a dataset", icon=":material/dataset:", key="failure_dataset"
        ):
            st.session_state["dataset_part_wanted"] = "Build"
            st.switch_page("pages/train/datasets.py", query_params=params)
        link_to_rows("Its ratings", ALL_TIME, cluster_id=cluster.id)


def _show_example(prompt: str, completion: str, key: str) -> None:
    with st.container(border=True, gap="xsmall"):
        st.caption("Prompt")
        draw_text(prompt, key=f"example_prompt_{key}")
        st.caption("Completion")
        draw_text(completion or "(empty)", key=f"example_completion_{key}")


def _show_days(days: list[tuple[object, int]], cluster: ClusterView) -> None:
    """How often these answers were called bad, day by day; days without any are 0."""
    frame = pd.DataFrame(days, columns=["Day (UTC)", "Called bad"])
    frame["Day (UTC)"] = pd.to_datetime(frame["Day (UTC)"])
    if frame.empty:
        return
    first, last = frame["Day (UTC)"].min(), frame["Day (UTC)"].max()
    if last - first <= timedelta(days=MAX_DAYS_FILLED):
        every = pd.date_range(first, last, freq="D", name="Day (UTC)")
        frame = frame.set_index("Day (UTC)").reindex(every, fill_value=0).reset_index()
    points = pd.DataFrame({"x": frame["Day (UTC)"], "name": "", "value": frame["Called bad"]})
    total = int(frame["Called bad"].sum())
    show_chart(
        draw_lines(points, title="Called bad a day"),
        frame,
        key=f"failure_days_{cluster.id.hex}",
        alt=f"How often answers of group {cluster.number + 1} were called bad, by day: {total:,} "
        f"times from {first:%Y-%m-%d} to {last:%Y-%m-%d}.",
        name=f"failure-group-{cluster.number + 1}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _least_gap(cluster: ClusterView) -> float:
    """The upper end of how its approval differs: the lower, the surer it is worse."""
    return math.inf if cluster.difference is None else cluster.difference.high


def _hundredfold(interval: Interval | None) -> float | None:
    return None if interval is None else 100 * interval.value
