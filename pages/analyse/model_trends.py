"""Whether newer models are better, and whether reward models still measure what people mean."""

from dataclasses import replace

import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.guard import require_page
from pages._ui.insight_charts import draw_bars, draw_lines
from pages._ui.insight_empty import show_nothing_here
from pages._ui.insight_filters import ask_filters, name_value
from pages._ui.insight_rows import link_to_rows
from pages._ui.measures import name_metric, name_short
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.model_trend_parts import (
    bars_of_models,
    bounds_of,
    list_metrics,
    name_version,
    points_of_drift,
    points_of_examinations,
    read_drift_of,
    read_model_trends_page,
    say_drift,
    say_newest,
    table_of_drift,
    table_of_examinations,
    table_of_models,
)
from rlhf_core.accounts.permissions import Permission
from rlhf_core.vocabulary import Verdict

actor = require_page(Permission.READ_ANALYTICS)
st.title("Model trends")
with reporting():
    filters = ask_filters(actor)
    shown = read_model_trends_page(actor, filters)
    models = shown.models

    st.header("Approval by model")
    if not models:
        show_nothing_here(actor)
    else:
        if said := say_newest(models):
            st.markdown(said)
        show_chart(
            draw_bars(
                bars_of_models(models), title="Approval", as_percent=True, count_word="verdicts"
            ),
            table_of_models(models),
            key="model_approval",
            alt="Approval of each model in the order in which they came, with 95 % intervals",
            name="approval by model",
            draw_chosen=lambda place: link_to_rows(
                f"What was bad of {plain(name_value(models[place].name))}",
                replace(filters, model_names=(models[place].name,)),
                verdict=Verdict.BAD,
            ),
        )
        st.caption(
            "In the order of their first answer, the oldest on top. Other things than the model "
            "changed between their times, too: a canary or an A/B test tells them apart."
        )

    st.header("Reward models when examined")
    metrics = list_metrics(shown.examinations)
    if not metrics:
        empty_state(
            "No reward model was examined yet",
            "Each training ends with an examination; a version can be examined on newer rows, too.",
            icon=":material/fact_check:",
            page="pages/models/registry.py",
            page_label="Models",
        )
    else:
        metric = metrics[0]
        if len(metrics) > 1:
            chosen = st.segmented_control(
                "Figure", metrics, format_func=name_short, default=metrics[0], required=True,
                key="examined_by", label_visibility="collapsed",
            )  # fmt: skip
            metric = chosen or metric
        show_chart(
            draw_lines(
                points_of_examinations(shown.examinations, metric), title=name_metric(metric),
                bounds=bounds_of(metric), count_word="rows",
            ),
            table_of_examinations(shown.examinations, metric),
            key=f"examined_{metric}",
            alt=f"{name_metric(metric)} of reward models over time, a line for each model and the "
            "rows it was examined on, with 95 % intervals",
            name="reward models",
        )  # fmt: skip

    st.header("Reward against ratings, by week")
    if not shown.versions:
        empty_state(
            "No reward model has scored the stored answers yet",
            "Score them with a version on its page, or `python -m rlhf_core score`: then its "
            "rewards are held against what people say.",
            icon=":material/monitoring:",
            page="pages/models/registry.py",
            page_label="Models",
        )
    else:
        version = shown.versions[0]
        if len(shown.versions) > 1:
            version = st.selectbox(
                "Version", shown.versions, key="drift_version", width=320,
                format_func=name_version,
            )  # fmt: skip
        weeks = read_drift_of(actor, version.id, filters)
        show_chart(
            draw_lines(
                points_of_drift(weeks), title="AUC", bounds=(0, 1), with_volume=True,
                count_word="verdicts",
            ),
            table_of_drift(weeks),
            key="reward_drift",
            alt="How well the rewards tell good answers from bad ones by week, with 95 % intervals",
            name="reward drift",
        )  # fmt: skip
        if weeks:
            st.caption(
                "AUC: how often an answer called good has the higher reward than one called bad; "
                "0.5 is chance. " + say_drift(weeks)
            )
