"""The form of a rule, and what it would have told in the past."""

from dataclasses import Field, dataclass, fields
from typing import Any

import streamlit as st

from pages._ui.alert_words import CHOICE_NAMES, CHOICES, number_words
from pages._ui.insight_data import fresh_db
from pages._ui.insight_filters import name_value, read_filter_choices
from pages._ui.messages import plain, show_error
from rlhf_core.accounts.permissions import Actor
from rlhf_core.alerts.backtest import REPLAYED_DAYS, Replay, replay_rule
from rlhf_core.alerts.channels import Channels, list_channel_troubles, split_targets
from rlhf_core.alerts.messages import KIND_NAMES
from rlhf_core.alerts.params import PARAMS, Params, Watched, kind_of, params_to_json, parse_params
from rlhf_core.alerts.service import RuleView
from rlhf_core.alerts.watch import DAY, replay_step
from rlhf_core.errors import InvalidInput, RlhfError
from rlhf_core.vocabulary import AlertKind

MAX_SHOWN = 5  # firings of the past, in words


@dataclass(frozen=True)
class Wanted:
    """What the form says. `problem`: why it cannot be stored."""

    name: str
    params: Params
    channels: Channels
    problem: str | None = None


def ask_rule(key: str, actor: Actor, old: RuleView | None = None) -> Wanted:
    """The widgets, with what the rule says now. The kind of a rule stays."""
    kind = old.kind if old else _ask_kind(key)
    base = old.params if old else PARAMS[kind]()
    # A key a kind: the numbers of another kind are none of this one's.
    own = f"{key}_{kind.value}"
    name = st.text_input(
        "Name", value=old.name if old else KIND_NAMES[kind], max_chars=200, key=f"{own}_name"
    )
    values = params_to_json(base)
    columns = st.columns(2)
    asked = [one for one in fields(base) if one.metadata]
    for number, known in enumerate(asked):
        with columns[number % 2]:
            values[known.name] = _ask_value(own, base, known)
    if isinstance(base, Watched):
        values |= _ask_watched(own, base, actor)
    channels, problem = _ask_channels(own, old.channels if old else Channels())
    if not name.strip():
        problem = "Give it a name."
    return Wanted(name, parse_params(kind, values), channels, problem)


def _ask_kind(key: str) -> AlertKind:
    kind = st.selectbox(
        "What it watches", list(AlertKind), format_func=KIND_NAMES.__getitem__, key=f"{key}_kind"
    )
    return AlertKind(kind)


def _ask_value(key: str, base: Params, known: Field[Any]) -> Any:
    value, name = getattr(base, known.name), known.name
    if "choices" in known.metadata:
        return st.selectbox(
            CHOICES[name],
            known.metadata["choices"],
            format_func=CHOICE_NAMES.__getitem__,
            index=known.metadata["choices"].index(value),
            key=f"{key}_{name}",
        )
    words = number_words(type(base), name)
    low, high = known.metadata["low"], known.metadata["high"]
    if isinstance(known.default, int) or words.is_share:
        times = 100 if words.is_share else 1
        number = st.number_input(
            words.label,
            min_value=round(low * times),
            max_value=round(high * times),
            value=round(value * times),
            help=words.help or None,
            key=f"{key}_{name}",
        )
        return number / times if words.is_share else number
    return st.number_input(
        words.label,
        min_value=float(low),
        max_value=float(high),
        value=float(value),
        step=0.05,
        help=words.help or None,
        key=f"{key}_{name}",
    )


def _ask_watched(key: str, base: Watched, actor: Actor) -> dict[str, list[str]]:
    """Which feedback it looks at; asked only of what there are several of."""
    choices = read_filter_choices(actor)
    values = {}
    for name, label in (
        ("sources", "Source"),
        ("action_types", "Action type"),
        ("model_names", "Model"),
    ):
        chosen: tuple[str, ...] = getattr(base, name)
        options = list(dict.fromkeys([*getattr(choices, name), *chosen]))
        if len(options) > 1 or chosen:
            values[name] = st.multiselect(
                label, options, default=list(chosen), format_func=name_value, placeholder="All",
                key=f"{key}_{name}",
            )  # fmt: skip
    return values


def _ask_channels(key: str, old: Channels) -> tuple[Channels, str | None]:
    emails = st.text_input(
        "E-mail to", value=", ".join(old.emails), key=f"{key}_emails",
        placeholder="ops@example.org, ...", max_chars=2_000,
    )  # fmt: skip
    webhooks = st.text_input(
        "Webhooks", value=" ".join(old.webhooks), key=f"{key}_webhooks",
        placeholder="https://...", max_chars=5_000,
        help="Gets a JSON document by POST, with the HMAC-SHA256 of `<timestamp>.<body>` in "
        "`X-RLHF-Signature`. Addresses inside the own network are refused.",
    )  # fmt: skip
    try:
        channels = Channels(split_targets(emails), split_targets(webhooks))
    except InvalidInput as error:
        st.caption(f":material/error: {plain(str(error))}")
        return Channels(), str(error)
    for trouble in list_channel_troubles(channels):
        st.caption(f":material/info: {plain(trouble)}")
    return channels, None


def show_past(key: str, actor: Actor, params: Params) -> None:
    """What the rule would have told. What reads rows and not counts is asked for by a button."""
    if replay_step(params) > DAY:
        asked = f"{key}_asked_past"
        if st.button("Try it on the past", icon=":material/history:", key=f"{key}_past"):
            st.session_state[asked] = params
        if st.session_state.get(asked) != params:
            return
    try:
        replay = _replay(actor, kind_of(params), params)
    except RlhfError as error:
        show_error(error)
        return
    st.markdown(f":material/history: {plain(say_past(replay))}")
    for one in replay.firings[-MAX_SHOWN:]:
        until = f"{one.ended_at:%Y-%m-%d}" if one.ended_at else "now"
        name = f"{one.slice_key}: " if one.slice_key else ""
        st.caption(plain(f"{one.opened_at:%Y-%m-%d} to {until}: {name}{one.said}"))
    if replay_step(params) > DAY:
        st.caption(
            f"It was asked of {replay.num_moments} moments of them, as it reads each rating."
        )
    for one in replay.now[:MAX_SHOWN] if len(replay.now) == 1 else ():
        is_well = not one.is_firing and not one.is_unsure
        st.caption("Now: all well." if is_well else plain(f"Now: {one.said}"))


def say_past(replay: Replay) -> str:
    """How often it would have fired, in a sentence."""
    if not replay.num_told:
        return (
            f"Nothing can be said of the last {REPLAYED_DAYS} days: there is too little to look at."
        )
    num = len(replay.firings)
    times = {0: "not have fired", 1: "have fired once"}.get(num, f"have fired {num:,} times")
    return f"It would {times} in the last {REPLAYED_DAYS} days."


@st.cache_data(ttl=30, max_entries=50, show_spinner="Looking at the past")
def _replay(_actor: Actor, kind: AlertKind, params: Params) -> Replay:
    """By kind too: the parameters of two kinds may look alike."""
    with fresh_db() as db:
        return replay_rule(db, actor=_actor, params=params)
