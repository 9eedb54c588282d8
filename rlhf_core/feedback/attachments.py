"""Voice notes: recordings that belong to a rater's feedback on a completion.

The feedback names its recordings in `extra`, so that adding or taking away one is a change like any
other: it has a history, and undo takes it back. The sound itself is a row of `attachments`.
"""

import io
import uuid
import wave
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Forbidden, InvalidInput, NotFound, TooLarge
from rlhf_core.feedback.drafts import VOICE_NOTES, FeedbackDraft
from rlhf_core.feedback.raters import account_pseudonym, lock_own_rater
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.feedback.views import MyFeedback, get_interaction
from rlhf_core.store.tables import Attachment, Feedback, Rater

WAV = "audio/wav"
MAX_VOICE_BYTES = 20_000_000
MAX_VOICE_S = 600.0
MAX_VOICE_NOTES = 20
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_CHANNELS = 8
MAX_TRANSCRIPT_CHARS = 20_000


@dataclass(frozen=True)
class VoiceNote:
    """A recording with its sound. `duration_s` is in seconds."""

    id: uuid.UUID
    media_type: str
    content: bytes
    duration_s: float
    transcript: str | None


def check_recording(content: bytes) -> float:
    """The length in seconds of a WAV recording (PCM), read from its bytes, not from its name.

    Raises:
        InvalidInput: it is no such recording, is empty, or lasts longer than `MAX_VOICE_S`; or no
            recorder has its sample rate or so many channels.
        TooLarge: it has more than `MAX_VOICE_BYTES` bytes.
    """
    if len(content) > MAX_VOICE_BYTES:
        raise TooLarge(
            f"The recording has {len(content):,} bytes, the limit is {MAX_VOICE_BYTES:,}: "
            "record it in parts.",
            field="voice_note",
        )
    try:
        with wave.open(io.BytesIO(content)) as sound:
            check_format(sound)
            frame_bytes = sound.getnchannels() * sound.getsampwidth()
            num_frames = len(sound.readframes(sound.getnframes())) // frame_bytes
            duration_s = float(num_frames / sound.getframerate())
    except (wave.Error, EOFError, ZeroDivisionError, RuntimeError) as error:
        raise InvalidInput(
            f"This file is no WAV recording ({str(error) or 'it ends too soon'}): record it again.",
            field="voice_note",
        ) from error
    if num_frames == 0:
        raise InvalidInput("The recording is empty: record it again.", field="voice_note")
    if duration_s > MAX_VOICE_S:
        raise InvalidInput(
            f"The recording lasts {duration_s:,.0f} s, the limit is {MAX_VOICE_S:,.0f} s: "
            "record it in parts.",
            field="voice_note",
        )
    return duration_s


def check_format(sound: wave.Wave_read) -> None:
    """Refuse what no recorder writes: brought to a usual rate, it would take all memory.

    Raises:
        InvalidInput: a sample rate outside `MIN_RATE_HZ` to `MAX_RATE_HZ`, or more than
            `MAX_CHANNELS` channels.
    """
    rate, channels = sound.getframerate(), sound.getnchannels()
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise InvalidInput(
            f"The recording has {rate:,} samples a second, from {MIN_RATE_HZ:,} to "
            f"{MAX_RATE_HZ:,} are possible: record it again.",
            field="voice_note",
        )
    if channels > MAX_CHANNELS:
        raise InvalidInput(
            f"The recording has {channels:,} channels, the limit is {MAX_CHANNELS}: record it "
            "with fewer.",
            field="voice_note",
        )


def add_voice_note(
    db: Session, interaction_id: uuid.UUID, content: bytes, *, actor: Actor, occasion: int = 0
) -> uuid.UUID:
    """Store a recording with the actor's feedback on a completion; alone it is feedback, too.

    Raises:
        InvalidInput: it is no recording, or there are `MAX_VOICE_NOTES` already.
        NotFound: no such interaction.
    """
    require(actor, Permission.RATE)
    check_recording(content)
    lock_own_rater(db, actor=actor)
    mine = _find_mine(db, interaction_id, actor, occasion)
    names = _names(mine)
    if len(names) >= MAX_VOICE_NOTES:
        raise InvalidInput(
            f"This item has {len(names)} voice notes of yours already: remove one first.",
            field="voice_note",
        )
    note_id = new_id()
    draft = _draft(mine, [*names, str(note_id)], occasion)
    stored = submit_feedback(db, interaction_id, draft, actor=actor)
    db.execute(
        sa.insert(Attachment),
        {
            "id": note_id,
            "feedback_id": stored.id,
            "media_type": WAV,
            "content": content,
            "created_at": utcnow(),
        },
    )
    return note_id


def remove_voice_note(
    db: Session, interaction_id: uuid.UUID, note_id: uuid.UUID, *, actor: Actor, occasion: int = 0
) -> None:
    """Take a recording off the actor's feedback; undo brings it back. Twice is once."""
    require(actor, Permission.RATE)
    lock_own_rater(db, actor=actor)
    mine = _find_mine(db, interaction_id, actor, occasion)
    names = _names(mine)
    if str(note_id) in names:
        left = [name for name in names if name != str(note_id)]
        submit_feedback(db, interaction_id, _draft(mine, left, occasion), actor=actor)


def read_voice_note(db: Session, note_id: uuid.UUID, *, actor: Actor) -> VoiceNote:
    """A recording with its sound: one's own, or with the permission to read analytics anyone's.

    Raises:
        NotFound: no such recording.
        Forbidden: it is somebody else's.
    """
    require(actor, Permission.READ_INTERACTIONS)
    row = db.execute(
        sa.select(Attachment.media_type, Attachment.content, Attachment.transcript, Rater.pseudonym)
        .join(Feedback, Feedback.id == Attachment.feedback_id)
        .join(Rater, Rater.id == Feedback.rater_id)
        .where(Attachment.id == note_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no voice note {note_id}; it may have been erased.")
    is_own = row.pseudonym == account_pseudonym(actor)
    if not is_own and not actor.may(Permission.READ_ANALYTICS):
        raise Forbidden(f"{actor.name} may listen only to their own voice notes.")
    return VoiceNote(
        note_id, row.media_type, row.content, check_recording(row.content), row.transcript
    )


def set_transcript(db: Session, note_id: uuid.UUID, transcript: str, *, actor: Actor) -> None:
    """Keep what a speech model heard in the actor's own recording (cut where it is very long)."""
    require(actor, Permission.RATE)
    own = (
        sa.select(Feedback.id)
        .join(Rater, Rater.id == Feedback.rater_id)
        .where(Rater.pseudonym == account_pseudonym(actor))
    )
    text = transcript.replace("\0", "").strip()[:MAX_TRANSCRIPT_CHARS]
    db.execute(
        sa.update(Attachment)
        .where(Attachment.id == note_id, Attachment.feedback_id.in_(own))
        .values(transcript=text)
    )


def _find_mine(
    db: Session, interaction_id: uuid.UUID, actor: Actor, occasion: int
) -> MyFeedback | None:
    return get_interaction(db, interaction_id, actor=actor, occasion=occasion).my_feedback


def _names(mine: MyFeedback | None) -> list[str]:
    return [] if mine is None else [str(note.id) for note in mine.voice_notes]


def _draft(mine: MyFeedback | None, names: list[str], occasion: int) -> FeedbackDraft:
    """The change that makes these the recordings of the feedback; the rest of `extra` stays."""
    extra = dict((mine and mine.extra) or {})
    extra.pop(VOICE_NOTES, None)
    if names:
        extra[VOICE_NOTES] = names
    values = {"extra": extra or None, "occasion": occasion}
    if names:
        return FeedbackDraft.model_validate(values)
    # taking the last one away says nothing new: repeat the comment, which changes nothing
    return FeedbackDraft.model_validate({**values, "comment": (mine and mine.comment) or ""})
