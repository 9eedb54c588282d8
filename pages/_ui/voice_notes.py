"""Voice notes: recorded, kept at once, played back; written down where there is a speech model."""

import logging
import threading
import uuid
from typing import Any

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.interaction_view import draw_text
from pages._ui.messages import reporting
from pages._ui.rating_guard import FOCUS
from pages._ui.rating_place import FAILURE, Place, change
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.config import get_settings
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.attachments import (
    add_voice_note,
    read_voice_note,
    remove_voice_note,
    set_transcript,
)
from rlhf_core.feedback.views import VoiceNoteView
from rlhf_core.serving.client import InferenceClient
from rlhf_core.store.engine import get_store

OPEN = "rating_voice"  # (item and occasion, whether open)
TAKES = "rating_takes"  # how many recordings this tab kept: each gets a recorder of its own
TRANSCRIBE_TIMEOUT_S = 120.0
LOGGER = logging.getLogger(__name__)


def draw_voice_button(place: Place) -> None:
    """Opens and closes the voice notes."""
    num = len(_notes(place))
    st.button(
        f"Voice ({num})" if num else "Voice",
        key=f"voice_open_{place.key}",
        icon=":material/mic:",
        shortcut="V",
        on_click=_open_or_close,
        args=(place,),
    )


def draw_voice_notes(place: Place, actor: Actor) -> None:
    """The recorder, and what was recorded; nothing while closed."""
    if st.session_state.get(OPEN) != (place.spot, True):
        return
    with st.container(border=True, key="voice", gap="small"):
        take_key = f"voice_{place.key}_{st.session_state.get(TAKES, 0)}"
        st.audio_input("Record a voice note", key=take_key, on_change=_keep, args=(place, take_key))
        for note in _notes(place):
            with reporting():
                _draw_note(place, note, actor)
        if not get_settings().speech_model:
            st.caption("Played back only: no speech model is configured to write it down.")


def _draw_note(place: Place, note: VoiceNoteView, actor: Actor) -> None:
    with get_store().reading() as db:
        sound = read_voice_note(db, note.id, actor=actor)
    st.audio(sound.content, format=sound.media_type, alt="Your voice note")
    if sound.transcript:
        draw_text(sound.transcript, key=f"transcript_{note.id.hex}")
    with st.container(horizontal=True, gap="xsmall"):
        if not sound.transcript and get_settings().speech_model:
            st.button("Write down", key=f"transcribe_{note.id.hex}", type="tertiary",
                      on_click=_transcribe_again, args=(note.id, sound.content))  # fmt: skip
        st.button("Remove", key=f"voice_remove_{note.id.hex}", type="tertiary", on_click=_remove,
                  args=(place, note.id))  # fmt: skip


def _notes(place: Place) -> tuple[VoiceNoteView, ...]:
    mine = place.item.my_feedback
    return () if mine is None else mine.voice_notes


def _open_or_close(place: Place) -> None:
    is_open = st.session_state.get(OPEN) != (place.spot, True)
    st.session_state[OPEN] = (place.spot, is_open)
    if is_open:
        st.session_state[FOCUS] = ".st-key-voice button"


def _keep(place: Place, take_key: str) -> None:
    upload = st.session_state.get(take_key)
    if upload is None:
        return
    content = upload.getvalue()
    kept: list[tuple[uuid.UUID, Actor]] = []

    def work(db: Any, actor: Actor) -> None:
        note_id = add_voice_note(
            db, place.item.id, content, actor=actor, occasion=place.item.occasion
        )
        kept.append((note_id, actor))

    if not change(work):
        return
    st.session_state[TAKES] = st.session_state.get(TAKES, 0) + 1
    notify("Voice note saved")
    if get_settings().speech_model:
        # nobody waits for it: the text is there when the item is looked at again
        threading.Thread(target=_transcribe_quietly, args=(*kept[0], content), daemon=True).start()


def _remove(place: Place, note_id: uuid.UUID) -> None:
    def work(db: Any, actor: Actor) -> None:
        remove_voice_note(db, place.item.id, note_id, actor=actor, occasion=place.item.occasion)

    if change(work):
        notify("Voice note removed")


def _transcribe_again(note_id: uuid.UUID, content: bytes) -> None:
    """A callback: it asks again who is signed in."""
    actor = require_page(Permission.RATE)
    try:
        _transcribe(note_id, actor, content)
    except RlhfError as error:
        st.session_state[FAILURE] = error


def _transcribe_quietly(note_id: uuid.UUID, actor: Actor, content: bytes) -> None:
    try:
        _transcribe(note_id, actor, content)
    except RlhfError as error:
        LOGGER.warning("Voice note %s was not written down: %s", note_id, error)


def _transcribe(note_id: uuid.UUID, actor: Actor, content: bytes) -> None:
    with InferenceClient(timeout_s=TRANSCRIBE_TIMEOUT_S) as client:
        text = client.transcribe(content)
    with get_store().writing() as db:
        set_transcript(db, note_id, text, actor=actor)
