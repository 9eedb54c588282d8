"""What end users do: sessions, who comes back, funnels, and what a model changes in it."""

from dataclasses import replace

import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.engagement_parts import (
    SEGMENT_NAMES,
    bars_of_funnel,
    bars_of_segments,
    columns_of_lengths,
    draw_cards,
    points_of_days,
    read_effects_of,
    read_engagement_page,
    say_part_of_paths,
    table_of_days,
    table_of_effects,
    table_of_funnel,
    table_of_segments,
)
from pages._ui.guard import require_page
from pages._ui.insight_charts import draw_bars, draw_columns, draw_lines
from pages._ui.insight_empty import show_nothing_here
from pages._ui.insight_filters import ask_filters, name_value
from pages._ui.insight_rows import link_to_rows
from pages._ui.messages import empty_state, reporting
from rlhf_core.accounts.permissions import Permission
from rlhf_core.analytics.funnels import MAX_STAGES, build_funnel, count_names, suggest_stages
from rlhf_core.analytics.sessions import Segment
from rlhf_core.vocabulary import RaterKind

actor = require_page(Permission.READ_ANALYTICS)
SEND = (
    "Send interactions with their `user` and `chat_id`, and what users do as events "
    "(`POST /api/v1/events`), with the chat as `session_key`."
)
st.title("Engagement")
with reporting():
    filters = ask_filters(actor)
    shown = read_engagement_page(actor, filters)
    if not shown.sessions.num_sessions:
        show_nothing_here(actor, what="sessions")
        empty_state("How sessions come about", SEND, icon=":material/web_traffic:")
        st.stop()
    draw_cards(shown)

    left, right = st.columns(2)
    with left:
        st.header("Sessions by day")
        show_chart(
            draw_lines(
                points_of_days(shown.days), title="With feedback", as_percent=True,
                with_volume=True, count_word="sessions",
            ),
            table_of_days(shown.days),
            key="session_days",
            alt="The share of sessions with feedback by day, with 95 % intervals; below it how "
            "many sessions there were",
            name="sessions",
        )  # fmt: skip
    with right:
        st.header("How long they last")
        lengths = columns_of_lengths(shown.sessions)
        show_chart(
            draw_columns(lengths, title="Sessions", across="Length"),
            lengths.drop(columns="name").rename(columns={"x": "Length", "value": "Sessions"}),
            key="session_lengths",
            alt="How many sessions lasted how long",
            name="session lengths",
        )

    st.header("Satisfaction of end users")
    by = st.segmented_control(
        "By", list(Segment), format_func=SEGMENT_NAMES.__getitem__, default=Segment.ACTION_TYPE,
        required=True, key="engagement_by", label_visibility="collapsed",
    )  # fmt: skip
    segments = shown.segments[by]
    show_chart(
        draw_bars(
            bars_of_segments(segments), title="Satisfaction", as_percent=True, count_word="ratings"
        ),
        table_of_segments(segments, by),
        key=f"satisfaction_{by.value}",
        alt=f"Satisfaction of end users by {SEGMENT_NAMES[by].lower()}, with 95 % intervals",
        name="satisfaction",
    )
    st.caption(
        "Good counts 1, neutral a half, bad 0. A session belongs to the action type and the model "
        "of its first answer."
    )
    if any(one.num_feedback for one in segments):
        link_to_rows("What users said", replace(filters, rater_kinds=(RaterKind.END_USER,)))

    st.header("Funnel")
    names = [name for name, _ in count_names(shown.paths)]
    if len(names) < 2:
        st.caption("A funnel needs events of two names or more. " + SEND)
    else:
        stages = st.multiselect(
            "Events in order", names, default=suggest_stages(shown.paths),
            max_selections=MAX_STAGES, key="funnel_names",
        )  # fmt: skip
        if len(stages) < 2:
            st.caption("Choose two events or more, in the order in which they should come.")
        else:
            funnel = build_funnel(shown.paths, stages)
            show_chart(
                draw_bars(
                    bars_of_funnel(funnel), title="Of the sessions that began", as_percent=True,
                    count_word="sessions",
                ).update_xaxes(range=[0, 1.1]),  # room for the figure behind a full bar
                table_of_funnel(funnel),
                key="funnel",
                alt="The share of sessions that got to each event, in this order",
                name="funnel",
            )  # fmt: skip
            st.caption("Within one session, with other events between. Days and sources apply.")
        if said := say_part_of_paths(shown):
            st.caption(said)

    st.header("What a model changes")
    models = [one.name for one in shown.segments[Segment.MODEL_NAME] if one.sessions.num_sessions]
    if len(models) < 2:
        st.caption("Two models or more are needed: send `model_name` with each interaction.")
    else:
        with st.container(horizontal=True):
            model = st.selectbox("Model", models, format_func=name_value, key="effect_model")
            others = [name for name in models if name != model]
            baseline = st.selectbox("Against", others, format_func=name_value, key="effect_base")
        effects = read_effects_of(actor, filters, model, baseline)
        st.dataframe(
            table_of_effects(effects), hide_index=True, key="effects",
            alt="What differs between users of the two models, with 95 % intervals",
        )  # fmt: skip
        st.caption(
            "With 95 % intervals, clustered by user. Nobody drew who met which model: other "
            "differences between their users and times are in it. A canary tells them apart."
        )
