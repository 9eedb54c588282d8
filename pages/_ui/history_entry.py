"""One of one's own ratings in full: what it is about, changing it, and how it came to be."""

from typing import Any

import streamlit as st
from pydantic import ValidationError

from pages._ui.guard import require_page
from pages._ui.history_list import (
    CHOICE_NAMES,
    LABEL_NAMES,
    STRENGTH_NAMES,
    THUMB_NAMES,
    close_entry,
    describe_said,
    describe_subject,
)
from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain, reporting, show_error
from pages._ui.rating_place import forget_left
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import Forbidden, RlhfError
from rlhf_core.feedback.comparisons import submit_comparison, withdraw_comparison
from rlhf_core.feedback.drafts import MAX_COMMENT_CHARS, FeedbackDraft, PreferenceDraft, explain
from rlhf_core.feedback.history import (
    Change,
    HistoryEntry,
    OtherOpinion,
    Subject,
    list_changes,
    list_others,
)
from rlhf_core.feedback.service import submit_feedback, withdraw_feedback
from rlhf_core.feedback.views import get_interaction
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Choice, RaterKind, RevisionKind

FAILURE = "history_failure"
KIND_NAMES = {
    RevisionKind.EDIT: "Changed",
    RevisionKind.WITHDRAW: "Withdrawn",
    RevisionKind.RESTORE: "Said again",
}
NEEDED = ("choice", "label")
FIELD_NAMES = {"reason": "why", "spans": "tagged passages"}
RATER_NAMES = {RaterKind.SME: "Expert", RaterKind.END_USER: "End user", RaterKind.MODEL: "Model"}


def show_entry(entry: HistoryEntry, actor: Actor) -> None:
    """The entry beside what can be done with it."""
    error = st.session_state.pop(FAILURE, None)
    if error is not None:
        show_error(error)
    with st.container(horizontal=True, vertical_alignment="center"):
        said = f"{describe_subject(entry).capitalize()}: {plain(describe_said(entry))}"
        st.header(said, width="stretch")
        st.button("Close", key="history_close", on_click=close_entry)
    left, right = st.columns([3, 2], gap="medium")
    with left, reporting():
        _show_subject(entry, actor)
    with right:
        with st.container(border=True, key="history_edit"):
            _draw_form(entry)
        with st.container(border=True, key="history_changes"), reporting():
            _show_changes(entry, actor)
        _show_others(entry, actor)


def _show_subject(entry: HistoryEntry, actor: Actor) -> None:
    with get_store().reading() as db:
        one = get_interaction(db, entry.interaction_id, actor=actor)
        other = None
        if entry.other_interaction_id is not None:
            other = get_interaction(db, entry.other_interaction_id, actor=actor)
    key = entry.id.hex
    with st.container(border=True):
        st.markdown("**Prompt**")
        draw_text(one.prompt, key=f"prompt_{key}")
    if other is not None:
        for column, name, item in zip(st.columns(2), ("Left", "Right"), (one, other), strict=True):
            with column, st.container(border=True):
                st.markdown(f"**{name}**")
                draw_text(item.completion or "(empty)", key=f"{name}_{key}")
        return
    with st.container(border=True):
        st.markdown("**Completion**")
        draw_text(one.completion or "(empty)", key=f"completion_{key}")
    if entry.position is not None:
        with st.container(border=True):
            st.markdown(f"**Step {entry.position + 1}**")
            draw_text(one.steps[entry.position].content, key=f"step_{key}")
    if entry.correction is not None:
        with st.container(border=True):
            st.markdown("**Your correction**")
            draw_text(entry.correction, key=f"correction_{key}")


def _draw_form(entry: HistoryEntry) -> None:
    key = f"{entry.id.hex}_{entry.num_changes}"
    with st.form(f"edit_{key}", border=False):
        match entry.subject:
            case Subject.COMPARISON:
                names = {one: name.removesuffix(" is better") for one, name in CHOICE_NAMES.items()}
                _choose("choice", names, entry.choice, key)
                _choose("strength", STRENGTH_NAMES, entry.strength, key)
            case Subject.STEP:
                if entry.label is not None:
                    _choose("label", LABEL_NAMES, entry.label, key)
            case Subject.COMPLETION:
                _choose("rating", {n: str(n) for n in range(1, 6)}, entry.rating, key)
                _choose("thumb", THUMB_NAMES, entry.thumb, key)
        st.text_area(
            "Why" if entry.subject is Subject.COMPARISON else "Comment",
            entry.comment or "",
            key=f"comment_{key}",
            max_chars=MAX_COMMENT_CHARS,
            height=80,
        )
        is_gone = entry.withdrawn_at is not None
        st.form_submit_button(
            "Say it again" if is_gone else "Save",
            type="primary",
            key="history_save",
            on_click=_save,
            args=(entry, key),
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        if not is_gone:
            st.button(
                "Withdraw",
                icon=":material/delete:",
                key="history_withdraw",
                help="Takes it out of all counts and datasets; what it said is kept",
                on_click=_withdraw,
                args=(entry,),
            )
        is_pair = entry.subject is Subject.COMPARISON
        ids = [entry.interaction_id, entry.other_interaction_id]
        forget_left()  # the link means the item that it names
        where = {"item": ".".join(str(one) for one in ids if one is not None)}
        if entry.occasion:
            where["occasion"] = str(entry.occasion)
        st.page_link(
            "pages/collect/compare.py" if is_pair else "pages/collect/rate.py",
            label="Open in Compare" if is_pair else "Open in Rate",
            icon=":material/open_in_new:",
            query_params=where,
        )


def _choose(name: str, names: dict[Any, str], value: Any, key: str) -> None:
    """Radio buttons; what may be left unsaid has one for that."""
    options = list(names) if name in NEEDED else [None, *names]
    st.radio(
        name.capitalize(),
        options,
        index=options.index(value),
        format_func=lambda one: names.get(one, "none"),
        horizontal=True,
        key=f"{name}_{key}",
    )


def _save(entry: HistoryEntry, key: str) -> None:
    def given(name: str) -> Any:
        return st.session_state.get(f"{name}_{key}")

    def work(db: Any, actor: Actor) -> None:
        comment = (given("comment") or "").strip()
        if entry.other_interaction_id is not None:
            has_side = given("choice") in (Choice.LEFT, Choice.RIGHT)
            preference = PreferenceDraft(
                choice=given("choice"),
                strength=given("strength") if has_side else None,
                reason=comment or None,
                occasion=entry.occasion,
            )
            pair = entry.interaction_id, entry.other_interaction_id
            submit_comparison(db, *pair, preference, actor=actor)
            return
        if entry.position is not None:
            said = {"step": entry.position, "label": given("label")}
        else:
            said = {"rating": given("rating"), "thumb": given("thumb")}
        draft = FeedbackDraft(**said, comment=comment, occasion=entry.occasion)
        submit_feedback(db, entry.interaction_id, draft, actor=actor)

    _change(work, "Saved")


def _withdraw(entry: HistoryEntry) -> None:
    def work(db: Any, actor: Actor) -> None:
        if entry.subject is Subject.COMPARISON:
            withdraw_comparison(db, entry.id, actor=actor)
        else:
            withdraw_feedback(db, entry.id, actor=actor)

    _change(work, "Withdrawn")


def _change(work: Any, done: str) -> None:
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            work(db, actor)
    except ValidationError as error:
        st.session_state[FAILURE] = explain(error)
    except RlhfError as error:
        st.session_state[FAILURE] = error
    else:
        notify(done)


def _show_changes(entry: HistoryEntry, actor: Actor) -> None:
    with get_store().reading() as db:
        changes = list_changes(db, entry.id, actor=actor)
    st.markdown("**What changed when**")
    for change in reversed(changes):
        who = "a program" if change.by is None else plain(change.by)
        what = "Made" if change.kind is None else KIND_NAMES[change.kind]
        undone = ", undoing an earlier change" if change.is_undo else ""
        st.caption(f"{change.at:%Y-%m-%d %H:%M} UTC · {what} by {who}{undone}")
        lines = describe_fields(change)
        if lines:
            st.text("\n".join(lines))


def describe_fields(change: Change) -> list[str]:
    """A line for each field that changed."""
    lines = []
    for name, before, after in change.fields:
        shown = FIELD_NAMES.get(name, name)
        if before is None:
            lines.append(f"{shown}: {_show(name, after)}")
        else:
            lines.append(f"{shown}: {_show(name, before)} → {_show(name, after)}")
    return lines


def _show(name: str, value: Any) -> str:
    if value is None:
        return "none"
    match name:
        case "choice":
            return CHOICE_NAMES[Choice(value)]
        case "strength":
            return STRENGTH_NAMES.get(value, str(value))
        case "label":
            return LABEL_NAMES.get(value, str(value))
        case "thumb":
            return THUMB_NAMES.get(value, str(value))
        case "aspects":
            return ", ".join(f"{aspect} {rating}" for aspect, rating in sorted(value.items()))
        case "spans":
            return ", ".join(f"{tag} ({start}-{end})" for start, end, tag, _ in value)
        case _:
            return str(value)


def _show_others(entry: HistoryEntry, actor: Actor) -> None:
    if entry.withdrawn_at is not None or entry.occasion:
        return
    try:
        with get_store().reading() as db:
            others = list_others(
                db,
                entry.interaction_id,
                actor=actor,
                other_interaction_id=entry.other_interaction_id,
            )
    except Forbidden:
        return
    with st.expander(f"What others said ({len(others)})", key=f"others_{entry.id.hex}"):
        if not others:
            st.caption("Nobody else has said anything yet.")
        for opinion in others:
            said = describe_opinion(opinion, entry)
            st.markdown(f"**{RATER_NAMES[opinion.rater_kind]} {opinion.number}** · {plain(said)}")
            if opinion.comment:
                draw_text(opinion.comment, key=f"said_{entry.id.hex}_{opinion.number}")


def describe_opinion(opinion: OtherOpinion, entry: HistoryEntry) -> str:
    """What another rater said, in a few words; left and right as the entry has them."""
    parts = []
    if opinion.rating is not None:
        parts.append(f"{opinion.rating} of 5")
    if opinion.thumb is not None:
        parts.append(THUMB_NAMES[opinion.thumb])
    parts += [f"{name} {rating}" for name, rating in sorted(opinion.aspects.items())]
    parts += [f"step {n + 1} {LABEL_NAMES[label]}" for n, label in sorted(opinion.labels.items())]
    if opinion.preferred_id is not None:
        side = "left" if opinion.preferred_id == entry.interaction_id else "right"
        how = STRENGTH_NAMES.get(opinion.strength or 0)
        parts.append(f"{side} is {how} better" if how else f"{side} is better")
    elif opinion.choice is not None:
        parts.append(CHOICE_NAMES[opinion.choice])
    return ", ".join(parts) or "only a comment"
