"""Which feedback the pages of analysis show: a bar of filters, kept in the address.

The address is the truth, so a view is shared by its link. What was chosen on one page holds on the
next ones of the same tab, too.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any, Literal

import streamlit as st

from pages._ui.insight_charts import NOT_GIVEN
from pages._ui.insight_data import READ_AGAIN_S, fresh_db
from pages._ui.messages import plain
from pages._ui.state import is_new_page
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.filters import FilterChoices, Filters, list_filter_choices, today
from rlhf_core.vocabulary import DEMO_SOURCE, RaterKind

DEFAULT_PERIOD = "30d"
CUSTOM = "custom"
PERIOD_NAMES = {
    "7d": "7 d",
    "30d": "30 d",
    "90d": "90 d",
    "365d": "1 y",
    "all": "All",
    CUSTOM: "Dates",
}
RATER_KIND_NAMES = {
    RaterKind.SME: "Experts",
    RaterKind.END_USER: "End users",
    RaterKind.MODEL: "Models",
}

_SLICES = {"source": "Source", "action": "Action type", "model": "Model", "kind": "Raters"}
_NAMES = ("period", "since", "until", *_SLICES)  # in the address
_KEPT = "_insight_filters"
_KEY = "insight_"

_Params = dict[str, list[str]]


def ask_filters(actor: Actor) -> Filters:
    """The bar, at the place where it is called; returns what is chosen."""
    params = _follow_address()
    filters = read_filters(params)
    choices = read_filter_choices(actor)
    # the days have labels above them, which the rest must not hang in the middle of
    place: Literal["bottom", "center"] = "bottom" if _period_of(params) == CUSTOM else "center"
    with st.container(
        horizontal=True, vertical_alignment=place, gap="small", key="insight_filters"
    ):
        _ask_period(params, filters, choices)
        _ask_slices(params, choices)
        _say_slices(params)
        if set(filters.sources or choices.sources) == {DEMO_SOURCE}:
            st.badge("demo", icon=":material/science:", color="violet", help="Made-up data.")
    return filters


@st.cache_data(ttl=READ_AGAIN_S, show_spinner=False)
def read_filter_choices(_actor: Actor) -> FilterChoices:
    """What there is to choose from, at most 10 s old."""
    with fresh_db() as db:
        return list_filter_choices(db, actor=_actor)


def read_filters(params: Mapping[str, list[str]]) -> Filters:
    """The filters that an address means. What it cannot mean is left out."""
    last = today()
    since = until = None
    period = _period_of(params)
    if period == CUSTOM:
        since, until = _day(params, "since"), _day(params, "until")
        if since is not None and until is not None and since > until:
            since, until = until, since
    elif period != "all":
        since, until = last - timedelta(days=int(period[:-1]) - 1), last
    kinds = {kind.value for kind in RaterKind}
    return Filters(
        since=since,
        until=until,
        sources=tuple(params.get("source", ())),
        action_types=tuple(params.get("action", ())),
        model_names=tuple(params.get("model", ())),
        rater_kinds=tuple(RaterKind(one) for one in params.get("kind", ()) if one in kinds),
    )


def write_filters(filters: Filters) -> _Params:
    """The query parameters that mean these filters, for `st.page_link(query_params=...)`."""
    params: _Params = {}
    length = None if filters.since is None else (today() - filters.since).days + 1
    if filters.since is None and filters.until is None:
        params["period"] = ["all"]
    elif filters.until == today() and f"{length}d" in PERIOD_NAMES:
        params["period"] = [f"{length}d"]
    else:
        for name, day in (("since", filters.since), ("until", filters.until)):
            if day is not None:
                params[name] = [day.isoformat()]
    slices = {
        "source": filters.sources,
        "action": filters.action_types,
        "model": filters.model_names,
        "kind": tuple(kind.value for kind in filters.rater_kinds),
    }
    return params | {name: list(values) for name, values in slices.items() if values}


def name_value(value: str) -> str:
    """A source, action type or model as shown: `''` means that none was given."""
    return value or NOT_GIVEN


def show_all_time() -> None:
    """Choose the whole time and all slices; a callback, for the button of an empty page."""
    _set_address({"period": ["all"]})


def _follow_address() -> _Params:
    """The parameters in the address; on arrival without any, those of the page before."""
    params = _address()
    if not params and is_new_page() and st.session_state.get(_KEPT):
        params = st.session_state[_KEPT]
        _set_address(params)
    st.session_state[_KEPT] = params
    return params


def _address() -> _Params:
    return {name: st.query_params.get_all(name) for name in _NAMES if name in st.query_params}


def _set_address(params: Mapping[str, list[str]]) -> None:
    """Replace the filters in the address; a default and an empty list are not written."""
    for name in _NAMES:
        values = list(params.get(name, ()))
        if values and (name, values) != ("period", [DEFAULT_PERIOD]):
            if st.query_params.get_all(name) != values:
                st.query_params[name] = values
        else:
            st.query_params.pop(name, None)


def _period_of(params: Mapping[str, list[str]]) -> str:
    period = (params.get("period") or [""])[-1]
    if period in PERIOD_NAMES and period != CUSTOM:
        return period
    has_days = _day(params, "since") is not None or _day(params, "until") is not None
    return CUSTOM if has_days else DEFAULT_PERIOD


def _day(params: Mapping[str, list[str]], name: str) -> date | None:
    try:
        return date.fromisoformat((params.get(name) or [""])[-1])
    except ValueError:
        return None


def _ask_period(params: _Params, filters: Filters, choices: FilterChoices) -> None:
    _show("period", _period_of(params))
    st.segmented_control(
        "Period",
        list(PERIOD_NAMES),
        format_func=PERIOD_NAMES.__getitem__,
        required=True,
        key=f"{_KEY}period",
        label_visibility="collapsed",
        wrap=True,
        on_change=_choose_period,
        args=(filters, choices),
    )
    if _period_of(params) == CUSTOM:
        ends = {"since": "From (UTC)", "until": "To, included"}
        for name, label in ends.items():
            _show(name, getattr(filters, name))
            st.date_input(
                label,
                value=None,
                min_value=date.min,
                max_value=date.max,
                format="YYYY-MM-DD",
                key=f"{_KEY}{name}",
                width=170,
                on_change=_choose_days,
            )


def _choose_period(filters: Filters, choices: FilterChoices) -> None:
    chosen = st.session_state[f"{_KEY}period"]
    params = {**_address(), "period": [chosen], "since": [], "until": []}
    if chosen == CUSTOM:  # begin with what is shown now
        since = filters.since or choices.first_day or today()
        params |= {"period": [], "since": [since.isoformat()]}
        params["until"] = [(filters.until or max(today(), since)).isoformat()]
    _set_address(params)


def _choose_days() -> None:
    days = {name: st.session_state.get(f"{_KEY}{name}") for name in ("since", "until")}
    given = {name: [day.isoformat()] if day else [] for name, day in days.items()}
    _set_address({**_address(), **given, "period": [] if any(days.values()) else ["all"]})


def _ask_slices(params: _Params, choices: FilterChoices) -> None:
    there: dict[str, tuple[tuple[str, ...], Callable[[str], str]]] = {
        "source": (choices.sources, name_value),
        "action": (choices.action_types, name_value),
        "model": (choices.model_names, name_value),
        "kind": (tuple(kind.value for kind in RaterKind), _name_kind),
    }
    num_chosen = sum(bool(params.get(name)) for name in _SLICES)
    with st.popover(
        f"Filters ({num_chosen})" if num_chosen else "Filters",
        icon=":material/filter_list:",
        key=f"{_KEY}more",
    ):
        for name, (values, in_words) in there.items():
            chosen = [one for one in params.get(name, []) if name != "kind" or one in values]
            options = list(dict.fromkeys([*values, *chosen]))
            _show(name, chosen)
            st.multiselect(
                _SLICES[name],
                options,
                format_func=in_words,
                key=f"{_KEY}{name}",
                placeholder="All",
                on_change=_choose_slice,
                args=(name,),
            )
        if num_chosen:
            st.button("Clear", key=f"{_KEY}clear", icon=":material/close:", on_click=_clear_slices)


def _choose_slice(name: str) -> None:
    _set_address({**_address(), name: st.session_state[f"{_KEY}{name}"]})


def _clear_slices() -> None:
    _set_address({name: values for name, values in _address().items() if name not in _SLICES})


def _say_slices(params: _Params) -> None:
    """The chosen slices in words, beside the closed popover."""
    said = []
    for name, label in _SLICES.items():
        in_words = _name_kind if name == "kind" else name_value
        if values := params.get(name):
            said.append(f"{label}: {', '.join(plain(in_words(value)) for value in values)}")
    if said:
        st.caption(" · ".join(said), width="content")


def _name_kind(value: str) -> str:
    return RATER_KIND_NAMES[RaterKind(value)] if value in set(RaterKind) else value


def _show(name: str, value: Any) -> None:
    """Let the widget show what the address says; untouched where it does (a click may be near)."""
    if st.session_state.get(f"{_KEY}{name}") != value or f"{_KEY}{name}" not in st.session_state:
        st.session_state[f"{_KEY}{name}"] = value
