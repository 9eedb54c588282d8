"""What others said of an item: shown to those who rated it themselves, nobody named."""

import streamlit as st

from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain, show_error
from pages._ui.rating_place import Place
from rlhf_core.accounts.permissions import Actor
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.others import OtherOpinion, list_others
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import RaterKind

OPEN = "rating_others"  # (item and occasion, whether open)
LABELS = {1: "good", 0: "neutral", -1: "wrong"}
KINDS = {RaterKind.SME: "Rater", RaterKind.END_USER: "End user", RaterKind.MODEL: "Model"}


def draw_others_button(place: Place) -> None:
    """Opens and closes what others said; only after one's own rating of the first occasion."""
    is_labelled = any(step.my_label is not None for step in place.item.steps)
    if place.item.occasion == 0 and (place.item.is_rated or is_labelled):
        st.button("Others", key=f"others_open_{place.key}", shortcut="O", on_click=_open_or_close,
                  help="What others said of this item", args=(place,))  # fmt: skip


def draw_others(place: Place, actor: Actor) -> None:
    """What others said; nothing while closed."""
    if st.session_state.get(OPEN) != (place.spot, True):
        return
    try:
        with get_store().reading() as db:
            opinions = list_others(db, place.item.id, actor=actor)
    except RlhfError as error:
        show_error(error)
        return
    with st.container(border=True, key="others", gap="xsmall"):
        if not opinions:
            st.caption("Nobody else has rated this item yet.")
        for opinion in opinions:
            _draw_opinion(opinion, key=f"{place.key}_{opinion.number}")


def _draw_opinion(opinion: OtherOpinion, *, key: str) -> None:
    said = []
    if opinion.rating is not None:
        said.append(f"{opinion.rating} of 5")
    if opinion.thumb is not None:
        said.append({1: "thumb up", 0: "no thumb", -1: "thumb down"}[opinion.thumb])
    said += [f"{plain(name)} {rating}" for name, rating in opinion.aspects.items()]
    said += [
        f"step {position + 1} {LABELS[label]}" for position, label in sorted(opinion.labels.items())
    ]
    st.caption(f"{KINDS[opinion.rater_kind]} {opinion.number}: {', '.join(said) or 'a comment'}")
    if opinion.comment:
        draw_text(opinion.comment, key=f"other_comment_{key}")
    if opinion.correction:
        with st.expander("Their correction", key=f"other_correction_{key}"):
            draw_text(opinion.correction, key=f"other_correction_text_{key}")


def _open_or_close(place: Place) -> None:
    is_open = st.session_state.get(OPEN) != (place.spot, True)
    st.session_state[OPEN] = (place.spot, is_open)
