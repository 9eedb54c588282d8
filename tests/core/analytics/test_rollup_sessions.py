"""Sessions and their counts against a slow reference in plain Python."""

import random
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.rollup_sessions import BOUNDS_S, MAX_PATH, rebuild_sessions
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.feedback.events import EventDraft, submit_events
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.serving.talks import begin_turn
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, SessionPathRollup, SessionRollup, UserSession
from rlhf_core.vocabulary import RaterKind
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAYS = [date(2026, 3, 1), date(2026, 3, 2)]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def send(db: Session, number: int, name: str, moment: datetime, **fields: Any) -> None:
    draft = EventDraft(
        name=name, source="app", external_id=f"e{number}", occurred_at=moment, **fields
    )
    submit_events(db, [draft], actor=SYSTEM)


def read_paths(db: Session) -> dict[tuple[date, str], int]:
    names = ("day", "path", "num_sessions")
    found = db.execute(sa.select(*(getattr(SessionPathRollup, name) for name in names)))
    return {(row.day, row.path): row.num_sessions for row in found}


def read(db: Session, *names: str) -> list[tuple[Any, ...]]:
    columns = [getattr(UserSession, name) for name in names]
    order = (UserSession.day, UserSession.source, UserSession.number)
    return [tuple(row) for row in db.execute(sa.select(*columns).order_by(*order))]


def test_half_an_hour_does_not_end_a_session_and_a_moment_more_does(store: Store) -> None:
    with store.writing() as db:
        for seconds, model in ((0.25, "m1"), (1800.25, "m2"), (3600.252, "m3")):
            item = make_interaction(
                db, chat_id="c", user="u", model_name=model, source="app", occurred_at=at(seconds)
            ).id
        make_feedback(db, item, rating=3, rater_kind=RaterKind.END_USER)
        make_feedback(db, item, rating=1)  # an expert's: not the user's own
        refresh_rollups(db)
        assert read(db, "number", "model_name", "duration_s", "num_interactions", "num_neutral",
                    "num_bad") == [(1, "m1", 1800.0, 2, 0, 0), (2, "m3", 0.0, 1, 1, 0)]  # fmt: skip


@only_sqlite
def test_an_account_that_tries_the_assistant_is_no_end_user(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        asked: dict[str, Any] = {"before": [], "version": "v1", "version_id": uuid.uuid4()}
        begin_turn(db, "mine", "Why?", actor=actor, **asked)
        make_interaction(db, source="chat", chat_id="c", user="u")
        make_interaction(db, source="chat", chat_id="of nobody")
        refresh_rollups(db)
        assert len(read(db, "num_interactions")) == 2


def test_midnight_ends_a_session_and_a_chat_is_one_stream_with_its_events(store: Store) -> None:
    with store.writing() as db:
        eve = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
        item = make_interaction(db, chat_id="c", source="app", user="u", occurred_at=eve).id
        send(db, 1, "open", eve - timedelta(seconds=60), session_key="c")
        send(db, 2, "copy", eve + timedelta(seconds=1), interaction_id=item)
        send(db, 3, "open", eve, user="u")  # no key: the user is the stream
        make_interaction(db, source="app", occurred_at=eve)  # of nobody: in no session
        refresh_rollups(db)
        assert read(db, "day", "num_interactions", "num_events", "duration_s") == [
            (DAYS[0], 1, 1, 60.0),
            (DAYS[0], 0, 1, 0.0),
            (DAYS[1], 0, 1, 0.0),
        ]
        assert read_paths(db) == {(DAYS[0], "open"): 2, (DAYS[1], "copy"): 1}
        pseudonyms = read(db, "user_pseudonym")
        assert len(set(pseudonyms)) == 1
        assert pseudonyms[0][0].startswith("u_")


def test_a_path_names_what_happened_in_order_up_to_its_limit(store: Store) -> None:
    with store.writing() as db:
        for number, name in enumerate(["open", "ask", "ask", "open"] + ["x", "y"] * 20):
            send(db, number, name, at(number), session_key="s")
        refresh_rollups(db)
        ((_, path),) = read_paths(db)
        assert path.split("\n")[:4] == ["open", "ask", "open", "x"]
        assert len(path.split("\n")) <= MAX_PATH
        assert read(db, "num_events") == [(44,)]


def test_what_is_withdrawn_or_deleted_leaves_the_sessions(store: Store) -> None:
    with store.writing() as db:
        items = [make_interaction(db, user="u", occurred_at=at(n)).id for n in range(2)]
        said = make_feedback(db, items[0], thumb=-1, rater_kind=RaterKind.END_USER)
        refresh_rollups(db)
        assert read(db, "num_interactions", "num_feedback", "num_bad") == [(2, 1, 1)]
        withdraw_feedback(db, said.id, actor=SYSTEM)
        refresh_rollups(db)
        assert read(db, "num_interactions", "num_feedback", "num_bad") == [(2, 0, 0)]
        db.execute(sa.delete(Interaction))
        rebuild_sessions(db, [NOON.date()])
        assert read(db, "number") == []
        for table in (SessionRollup, SessionPathRollup):
            assert db.scalar(sa.select(sa.func.count()).select_from(table)) == 0


@dataclass(frozen=True)
class Act:
    moment: datetime
    is_event: bool
    stream: str
    user: str
    model: str
    name: str
    said: int | None  # +1, 0, -1


def make_acts(db: Session, seed: int, num: int = 120) -> list[Act]:
    """Acts in the database, and as the reference reads them."""
    drawn = random.Random(seed)
    moments = drawn.sample(range(0, 26 * 3600, 7), num)
    acts = []
    for number, seconds in enumerate(moments):
        user, key = drawn.choice("abc"), drawn.choice(["k1", "k2", None])
        moment = at(seconds)
        model, name, said = drawn.choice(["m1", "m2"]), drawn.choice(["open", "ask"]), None
        is_event = drawn.random() < 0.5
        if is_event:
            send(db, number, name, moment, session_key=key and user + key, user=user)
        else:
            item = make_interaction(
                db, source="app", chat_id=key and user + key, user=user, model_name=model,
                occurred_at=moment,
            ).id  # fmt: skip
            if drawn.random() < 0.5:
                said = drawn.choice([-1, 0, 1])
                make_feedback(db, item, thumb=said, rater_kind=RaterKind.END_USER)
        acts.append(Act(moment, is_event, user + (key or ""), user, model, name, said))
    return sorted(acts, key=lambda act: act.moment)


def find_sessions(acts: list[Act]) -> list[tuple[Any, ...]]:
    """(day, model, seconds, interactions, events, feedback, good, neutral, bad, path), sorted."""
    streams: dict[tuple[date, str], list[list[Act]]] = defaultdict(list)
    for act in acts:
        sessions = streams[act.moment.date(), act.stream]
        if not sessions or (act.moment - sessions[-1][-1].moment).total_seconds() > 1800:
            sessions.append([])
        sessions[-1].append(act)
    found = []
    for (day, _), sessions in streams.items():
        for session in sessions:
            answered = [act for act in session if not act.is_event]
            names = [name for name, _ in groupby(act.name for act in session if act.is_event)]
            said = [act.said for act in answered if act.said is not None]
            found.append(
                (
                    day,
                    answered[0].model if answered else "",
                    (session[-1].moment - session[0].moment).total_seconds(),
                    len(answered),
                    len(session) - len(answered),
                    len(said),
                    *(said.count(value) for value in (1, 0, -1)),
                    "\n".join(names),
                )
            )
    return sorted(found)


def test_sessions_and_their_counts_are_those_of_the_reference(store: Store) -> None:
    for seed in range(3):
        with store.writing() as db:
            acts = make_acts(db, seed)
            refresh_rollups(db)
            wanted = find_sessions(acts)
            assert [one[:-1] for one in wanted] == sorted(
                read(
                    db, "day", "model_name", "duration_s", "num_interactions", "num_events",
                    "num_feedback", "num_good", "num_neutral", "num_bad",
                )
            )  # fmt: skip
            counts: Counter[tuple[date, str, str]] = Counter()
            for day, model, seconds, interactions, events, feedback, *_ in wanted:
                is_single = interactions + events == 1
                bound = next((n for n in BOUNDS_S if seconds < n), None)
                of = "single" if is_single else f"under_{bound}" if bound else "longer"
                counts[day, model, of] += 1
                counts[day, model, "with_feedback"] += feedback > 0
            rows = list(db.execute(sa.select(SessionRollup.__table__)).mappings())
            for row in rows:
                for name in [n for n in row if n.startswith(("num_under", "num_single", "num_lo"))]:
                    key = (row["day"], row["model_name"], name.removeprefix("num_"))
                    assert row[name] == counts[key], key
                assert row["num_with_feedback"] == counts[row["day"], row["model_name"],
                                                          "with_feedback"]  # fmt: skip
            assert sum(row["num_sessions"] for row in rows) == len(wanted)
            paths = Counter((one[0], one[-1]) for one in wanted if one[4])
            assert read_paths(db) == paths
            db.rollback()
