"""Approval and ratings over time, told apart as one likes, and how ratings and aspects fall."""

import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.guard import require_page
from pages._ui.insight_empty import show_nothing_here
from pages._ui.insight_filters import ask_filters
from pages._ui.insight_pages import (
    APPROVAL,
    MAX_NAMES,
    MEASURES,
    read_trends_page,
)
from pages._ui.insight_rows import link_to_rows
from pages._ui.insight_tables import (
    SPLIT_NAMES,
    THUMB_NAMES,
    columns_of_ratings,
    columns_of_thumbs,
    table_of_aspects,
    table_of_columns,
)
from pages._ui.messages import plain, reporting
from pages._ui.trend_parts import choose_grain, count_days, link_to_point, list_grains, show_marks
from rlhf_core.accounts.permissions import Permission
from rlhf_core.analytics.trends import Grain, Split

actor = require_page(Permission.READ_ANALYTICS)
st.title("Trends")
with reporting():
    filters = ask_filters(actor)
    num_days = count_days(actor, filters)
    grains = list_grains(filters, num_days)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = st.segmented_control(
            "Figure", list(MEASURES), format_func=MEASURES.__getitem__, default=APPROVAL,
            required=True, key="trend_figure", bind="query-params",
        )  # fmt: skip
        grain = st.segmented_control(
            "By", grains, format_func=lambda one: one.value.capitalize(),
            default=choose_grain(filters, num_days), required=True, key="trend_grain",
            bind="query-params",
        )  # fmt: skip
        by = st.selectbox(
            "Told apart by", ["", *Split], key="trend_split", bind="query-params", width=180,
            format_func=lambda one: SPLIT_NAMES[one] if one else "Nothing",
        )  # fmt: skip
    split = by or None
    shown = read_trends_page(actor, filters, grain, split, measure)
    if not shown.trend:
        show_nothing_here(actor)
        st.stop()
    show_chart(
        shown.trend_chart,
        shown.trend_table,
        key="trend",
        alt=f"{MEASURES[measure]} by {grain.value}"
        + (f", told apart by {SPLIT_NAMES[split].lower()}" if split else "")
        + (", with 95 % intervals" if measure == APPROVAL else "")
        + "; below it how many there were",
        name="trend",
        draw_chosen=lambda place: link_to_point(shown.trend[place], filters, grain, split),
    )
    if split and len({point.name for point in shown.trend}) > MAX_NAMES:
        st.caption(f"The {MAX_NAMES} with the most feedback; the others are one line.")
    if grain in (Grain.WEEK, Grain.MONTH):
        st.caption(f"The first and the last {grain.value} may be incomplete.")
    show_marks(shown.marks, key="trend")

    left, right = st.columns(2)
    with left:
        st.header("Ratings")
        ratings = columns_of_ratings(shown.ratings)
        show_chart(
            shown.ratings_chart,
            table_of_columns(ratings, "Rating") if shown.ratings.num_ratings else ratings[:0],
            key="trend_ratings",
            alt="How often each rating from 1 to 5 was given",
            name="ratings",
            draw_chosen=lambda place: link_to_rows(
                f"Rows rated {place + 1}", filters, rating=place + 1
            ),
        )
    with right:
        st.header("Thumbs")
        thumbs = columns_of_thumbs(shown.ratings)
        show_chart(
            shown.thumbs_chart,
            table_of_columns(thumbs, "Thumb") if thumbs["value"].any() else thumbs[:0],
            key="trend_thumbs",
            alt="How often each thumb was given",
            name="thumbs",
            draw_chosen=lambda place: link_to_rows(
                "Rows with this thumb", filters, thumb=list(THUMB_NAMES)[place]
            ),
        )
    if shown.aspects:
        st.header("Aspects")
        names = [aspect.name for aspect in shown.aspects if aspect.num_ratings]
        show_chart(
            shown.aspects_chart,
            table_of_aspects(shown.aspects),
            key="trend_aspects",
            alt="The mean rating of each aspect, the most often rated first",
            name="aspects",
            draw_chosen=lambda place: link_to_rows(
                f"Rows that rate {plain(names[place])}",
                filters,
                aspect=names[place],
            ),
        )
