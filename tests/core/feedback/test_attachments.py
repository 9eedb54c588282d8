import io
import threading
import uuid
import wave

import pytest

from rlhf_core.errors import Forbidden, InvalidInput, NotFound, TooLarge
from rlhf_core.feedback import attachments
from rlhf_core.feedback.attachments import (
    add_voice_note,
    check_recording,
    read_voice_note,
    remove_voice_note,
    set_transcript,
)
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.service import submit_feedback, undo_last
from rlhf_core.feedback.views import MyFeedback, get_interaction
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.builders import make_actor, make_feedback, make_interaction


def recording(seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> bytes:
    """A WAV file of silence."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"\0\0" * channels * int(seconds * rate))
    return out.getvalue()


def test_recording_is_known_by_its_bytes() -> None:
    assert check_recording(recording(1.5)) == pytest.approx(1.5)
    whole = recording()
    for wrong in (b"", b"RIFF", b"<html>not a sound</html>" * 10, b"\x89PNG" + whole, whole[:20]):
        with pytest.raises(InvalidInput, match="no WAV recording"):
            check_recording(wrong)
    with pytest.raises(InvalidInput, match="empty"):
        check_recording(recording(0))
    with pytest.raises(InvalidInput, match="limit is 600 s"):
        check_recording(recording(601, rate=8_000))
    for rate in (3_999, 384_001, 100_000_007):
        with pytest.raises(InvalidInput, match=f"has {rate:,} samples a second"):
            check_recording(recording(20 / rate, rate=rate))
    with pytest.raises(InvalidInput, match="9 channels"):
        check_recording(recording(channels=9))
    with pytest.raises(TooLarge, match="limit is 20,000,000"):
        check_recording(whole + b"\0" * attachments.MAX_VOICE_BYTES)


def test_voice_note_alone_is_feedback_and_undo_takes_it_back(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        note_id = add_voice_note(db, item, recording(), actor=actor)
        mine = get_interaction(db, item, actor=actor).my_feedback
        assert mine is not None
        assert [note.id for note in mine.voice_notes] == [note_id]
        assert mine.rating is None
        undo_last(db, actor=actor)
        assert get_interaction(db, item, actor=actor).my_feedback is None


def test_voice_notes_are_added_and_removed_beside_a_rating(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        make_feedback(db, item, actor=actor, rating=2, extra={"shown_as": "left"})
        first = add_voice_note(db, item, recording(), actor=actor)
        second = add_voice_note(db, item, recording(), actor=actor)
        remove_voice_note(db, item, first, actor=actor)
        remove_voice_note(db, item, first, actor=actor)

        def mine() -> MyFeedback:
            found = get_interaction(db, item, actor=actor).my_feedback
            assert found is not None
            return found

        assert [note.id for note in mine().voice_notes] == [second]
        assert mine().rating == 2
        assert (mine().extra or {})["shown_as"] == "left"
        undo_last(db, actor=actor)
        assert [note.id for note in mine().voice_notes] == [first, second]
        submit_feedback(db, item, FeedbackDraft(rating=4, comment="clear"), actor=actor)
        remove_voice_note(db, item, first, actor=actor)
        remove_voice_note(db, item, second, actor=actor)
        assert (mine().rating, mine().comment, mine().voice_notes) == (4, "clear", ())


def test_recordings_of_two_tabs_at_once_are_both_kept(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        make_feedback(db, item, actor=actor, rating=2)

    def record_in_other_tab() -> None:
        with store.writing() as db:
            add_voice_note(db, item, recording(), actor=actor)

    other_tab = threading.Thread(target=record_in_other_tab)
    with store.writing() as db:
        add_voice_note(db, item, recording(), actor=actor)
        other_tab.start()
        other_tab.join(0.5)  # it has read by then, unless it waits for this one
    other_tab.join()
    with store.reading() as db:
        mine = get_interaction(db, item, actor=actor).my_feedback
    assert mine is not None
    assert len(mine.voice_notes) == 2


def test_last_voice_note_removed_takes_the_empty_feedback_along(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        note_id = add_voice_note(db, item, recording(), actor=actor)
        remove_voice_note(db, item, note_id, actor=actor)
        assert get_interaction(db, item, actor=actor).my_feedback is None


def test_only_its_rater_and_analysts_hear_a_voice_note(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        note_id = add_voice_note(db, item, recording(0.25), actor=actor)
        set_transcript(db, note_id, "of another", actor=make_actor(db))
        set_transcript(db, note_id, " it is right\0 ", actor=actor)
        mine = read_voice_note(db, note_id, actor=actor)
        assert (mine.duration_s, mine.transcript) == (pytest.approx(0.25), "it is right")
        assert mine.content == recording(0.25)
        assert read_voice_note(db, note_id, actor=make_actor(db, Role.ANALYST)).id == note_id
        with pytest.raises(Forbidden, match="only to their own"):
            read_voice_note(db, note_id, actor=make_actor(db))
        with pytest.raises(NotFound, match="erased"):
            read_voice_note(db, uuid.uuid4(), actor=actor)


def test_too_many_voice_notes_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_VOICE_NOTES", 1)
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        add_voice_note(db, item, recording(), actor=actor)
        with pytest.raises(InvalidInput, match="1 voice notes of yours already"):
            add_voice_note(db, item, recording(), actor=actor)
