"""A voice note in a real browser, by its made-up microphone: recorded, stored, played back."""

import io
import uuid
import wave
from itertools import starmap
from struct import iter_unpack

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from rlhf_core.store.tables import Attachment
from tests.browser.conftest import Desk
from tests.browser.hands import idle
from tests.browser.rating_desk import key_of, keys_alive
from tests.builders import make_interaction
from tests.live_server import LiveServer

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SPOKEN_MS = 1_500
PLAY = """(sound) => new Promise((done, fail) => {
  sound.onended = () => done(sound.duration);
  sound.onerror = () => fail(new Error(sound.error.message));
  sound.muted = true;
  sound.play().catch(fail);
})"""


def read_notes(server: LiveServer) -> list[tuple[uuid.UUID, bytes]]:
    with server.store.reading() as db:
        return [tuple(row) for row in db.execute(sa.select(Attachment.id, Attachment.content))]


def test_recorded_note_arrives_as_wav_plays_back_and_can_be_removed(desk: Desk) -> None:
    page, _, server = desk
    with server.store.writing() as db:
        make_interaction(db, prompt="When does it open?", completion="At nine.")
    page.context.grant_permissions(["microphone"])
    page.goto(f"{server.url}/rate")
    keys_alive(page)
    page.keyboard.press("v")
    recorder = page.get_by_test_id("stAudioInput")
    recorder.get_by_role("button", name="Record").click()
    page.wait_for_timeout(SPOKEN_MS)
    recorder.get_by_role("button", name="Stop recording").click()
    player = page.get_by_test_id("stAudio")
    expect(player).to_be_visible()
    idle(page)
    [(note_id, content)] = read_notes(server)
    with wave.open(io.BytesIO(content)) as sound:
        seconds = sound.getnframes() / sound.getframerate()
        samples = list(starmap(abs, iter_unpack("<h", sound.readframes(sound.getnframes()))))
    assert seconds > SPOKEN_MS / 2_000
    assert max(samples) > 1_000  # it beeps
    assert player.evaluate(PLAY) == pytest.approx(seconds, abs=0.1)
    page.reload()
    keys_alive(page)
    page.keyboard.press("v")
    expect(player).to_be_visible()
    key_of(page, f"voice_remove_{note_id.hex}").get_by_role("button").click(delay=50)
    expect(player).to_be_hidden()
