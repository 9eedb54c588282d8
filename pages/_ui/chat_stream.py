"""Asking one version or two at once, and showing what they say as it comes."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any

import streamlit as st

from pages._ui.chat_turns import SIDES
from pages._ui.chat_words import ask_again
from pages._ui.guard import require_page
from pages._ui.interaction_view import draw_text
from pages._ui.messages import reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.serving.answers import Served, finish_answer, read_route
from rlhf_core.serving.chat_client import NotAnswered, stream_policy
from rlhf_core.serving.reasoning import split_reasoning
from rlhf_core.serving.talks import (
    TalkTurn,
    begin_turn,
    find_user_key,
    messages_of,
    name_side,
)
from rlhf_core.store.engine import get_store

DRAWN_EVERY_S = 0.05
LOOK_EVERY_S = 0.2
"""While nothing comes: so soon is a person heard who stops it."""


@dataclass
class Coming:
    """One answer on its way, and where it shows."""

    model: str
    message_id: str | None
    thoughts: Any
    place: Any
    started: float = field(default_factory=time.perf_counter)
    latency_ms: float | None = None
    first: dict[str, Any] | None = None
    turn_id: uuid.UUID | None = None
    text: str = ""
    end: dict[str, Any] | None = None
    error: Exception | None = None
    is_over: bool = False
    fold: Any = None
    steps: Any = None

    def take(self, line: dict[str, Any] | Exception | None) -> None:
        """Note a line of the inference process, what went wrong, or None: nothing more comes."""
        if line is None or isinstance(line, Exception):
            self.error, self.is_over = line, True
            self.latency_ms = (time.perf_counter() - self.started) * 1000
        elif self.first is None:
            self.first = line
        elif "piece" in line:
            self.text += line["piece"]
        else:
            self.end = line

    def draw(self) -> None:
        """Show the steps and the answer as far as they came."""
        found = split_reasoning(self.text)
        if found.steps:
            if self.fold is None:
                self.fold = self.thoughts.expander(
                    "Reasoning", icon=":material/account_tree:", expanded=True
                )
                self.steps = self.fold.empty()
            self.steps.text("\n\n".join(found.steps))
        if found.answer:
            self.place.text(found.answer)
        elif self.is_over:
            self.place.caption("It gave no answer.")
        else:
            self.place.caption("…")


def answer(prompt: str, turns: list[TalkTurn], *, chat_id: str, models: Sequence[str]) -> bool:
    """Ask one model, or two side by side, the left one first; whether there was an answer.

    What was asked is stored before the first piece shows, the answers as far as they come: also
    where the person stops it or leaves.
    """
    actor = require_page(Permission.RATE)
    with st.chat_message("user"):
        draw_text(prompt, key="asked_now")
    pair = uuid.uuid4().hex
    with _places(len(models)) as places:
        coming = [
            Coming(
                model,
                name_side(pair, is_left=number == 0) if len(models) == 2 else None,
                place.empty(),
                place.empty(),
            )
            for number, (model, place) in enumerate(zip(models, places, strict=True))
        ]
        with reporting():
            _stream(coming, prompt, turns, chat_id=chat_id, actor=actor)
            return True
        for one in coming:
            if not one.text:
                one.place.empty()
        st.button("Ask again", key="again_now", icon=":material/refresh:",
                  on_click=ask_again, args=(prompt,))  # fmt: skip
    return False


@contextmanager
def _places(num: int) -> Iterator[list[Any]]:
    if num == 1:
        with st.chat_message("assistant"):
            yield [st.container()]
        return
    places = []
    for name, column in zip(SIDES, st.columns(2, gap="small"), strict=True):
        place = column.container(border=True)
        place.markdown(f"**{name}**")
        places.append(place)
    yield places


def _stream(
    coming: list[Coming], prompt: str, turns: list[TalkTurn], *, chat_id: str, actor: Actor
) -> None:
    """Read all of them at once; raises what kept one of them from its end."""
    with get_store().reading() as db:
        key = find_user_key(db, actor=actor)
    messages = [*messages_of(turns), ("user", prompt)]
    told = [{"role": role, "content": content} for role, content in messages]
    lines: Queue[tuple[Coming, Any]] = Queue()
    is_left = threading.Event()
    for one in coming:
        body = {"model": one.model, "messages": told, "key": key}
        threading.Thread(target=_read, args=(one, body, lines, is_left), daemon=True).start()
    try:
        for _ in _until(coming, lines, lambda one: one.first is not None):
            for one in coming:
                one.place.caption("…")
        if all(one.first is not None for one in coming):
            _begin(coming, prompt, turns, chat_id=chat_id, actor=actor)
            for _ in _until(coming, lines, lambda one: one.is_over):
                for one in coming:
                    one.draw()
    finally:  # also where Streamlit ends the script: stopped, or the person has left
        is_left.set()
        _finish(coming, key)
    _raise_first(coming)
    if any((one.end or {}).get("finish_reason") == "length" for one in coming):
        notify("The answer is cut off: the limit was reached.", icon=":material/info:")


def _begin(
    coming: list[Coming], prompt: str, turns: list[TalkTurn], *, chat_id: str, actor: Actor
) -> None:
    with get_store().writing() as db:
        for one in coming:
            first = one.first or {}
            one.turn_id = begin_turn(
                db, chat_id, prompt, actor=actor, before=turns, version=first["version"],
                version_id=uuid.UUID(first["version_id"]), message_id=one.message_id,
                system_prompt=first.get("system_prompt"),
            )  # fmt: skip


def _read(
    one: Coming, body: dict[str, Any], lines: "Queue[tuple[Coming, Any]]", is_left: threading.Event
) -> None:
    """In a thread of its own: hand over the lines until the end, or until nobody waits."""
    try:
        with closing(stream_policy(body)) as found:
            for line in found:
                lines.put((one, line))
                if is_left.is_set():
                    return
    except Exception as error:  # noqa: BLE001 - raised again where the page shows it
        lines.put((one, error))
    else:
        lines.put((one, None))


def _until(
    coming: list[Coming],
    lines: "Queue[tuple[Coming, Any]]",
    is_ready: Callable[[Coming], bool],
) -> Iterator[None]:
    """Take what comes until each is ready or over; yields now and then, and once at the end."""
    drawn_at = 0.0
    while not all(is_ready(one) or one.is_over for one in coming):
        try:
            one, line = lines.get(timeout=LOOK_EVERY_S)
            one.take(line)
        except Empty:
            yield
        if time.perf_counter() - drawn_at > DRAWN_EVERY_S:
            yield
            drawn_at = time.perf_counter()
    yield


def _raise_first(coming: list[Coming]) -> None:
    for one in coming:
        if one.error is not None:
            raise one.error


def _finish(coming: list[Coming], key: str) -> None:
    """Keep what came of each, and how it was served; also that a version gave no answer."""
    with get_store().writing() as db:
        for one in coming:
            known = one.first or (one.error.served if isinstance(one.error, NotAnswered) else None)
            if known is None:
                continue
            passed_ms = (time.perf_counter() - one.started) * 1000
            served = Served(
                known["version_id"] and uuid.UUID(known["version_id"]),
                passed_ms if one.latency_ms is None else one.latency_ms,
                user_pseudonym=key,
                is_error=one.error is not None,
                reason=_say_end(one),
                **read_route(known),
            )
            finish_answer(db, one.turn_id, one.text, served, is_whole=one.end is not None)


def _say_end(one: Coming) -> str | None:
    if one.error is not None:
        return str(one.error)
    return None if one.end else "broken off"
