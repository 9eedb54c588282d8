"""Sessions of end users, made anew for some days.

A session is what one user did with no pause of more than half an hour. Interactions belong together
by their chat, events by their session key, which an application chooses alike; where neither was
given, by the user. Midnight (UTC) ends a session: so a day's sessions depend on that day alone.

They are found by one walk over what happened, in order. SQL alone takes six windows over the same
rows, each sorted anew, and several times as long.

Accounts that try the assistant from the dashboard are no end users: they have no sessions.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.analytics.rollup_days import NOTHING, day_of, delete_days, given, within
from rlhf_core.config import get_settings
from rlhf_core.privacy.pseudonyms import account_user, make_pseudonym
from rlhf_core.store.base import table_of
from rlhf_core.store.bulk import insert_rows
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_good, is_neutral
from rlhf_core.store.tables import (
    Account,
    Event,
    Interaction,
    Rater,
    SessionPathRollup,
    SessionRollup,
    UserSession,
)
from rlhf_core.vocabulary import RaterKind

GAP_S = 1800
"""A longer pause ends a session."""
MAX_PATH = 30
"""So many events of a session are kept in its path."""
SEPARATOR = "\n"
DAYS_AT_ONCE = 7
NUM_BUCKETS = 256
"""Parts of all users, of about the same size."""
BOUNDS_S = (60, 300, 900, 1800, 3600)
"""Ends of the ranges of durations that are counted."""

EVENT = table_of(Event)
INTERACTION = table_of(Interaction)
RATER = table_of(Rater)
SESSIONS = table_of(UserSession)
BY_DAY = table_of(SessionRollup)
PATHS = table_of(SessionPathRollup)
GOOD, NEUTRAL, BAD, NO_VERDICT = 1, 0, -1, 2

_COLUMNS = [column.name for column in SESSIONS.columns]
_SUMS = [column.name for column in BY_DAY.columns if not column.primary_key]


def rebuild_sessions(db: Session, days: Sequence[date]) -> None:
    """Find the sessions of these days anew, and count them."""
    for table in (SESSIONS, BY_DAY, PATHS):
        delete_days(db, table, days)
    wanted = sorted(set(days))
    for at in range(0, len(wanted), DAYS_AT_ONCE):  # so that few acts are in memory
        _rebuild(db, db.execute(_list_acts(db, wanted[at : at + DAYS_AT_ONCE])))


def _rebuild(db: Session, acts: Iterable[Any]) -> None:
    rows: list[tuple[Any, ...]] = []
    sums: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    paths: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for day, source, number, session in _find_sessions(acts):
        said = [act.said for act in session if act.said is not None]
        first = next((act for act in session if not act.is_event), None)
        slice_ = (first.name, first.model_name) if first else ("", "")
        user = next((act.user_pseudonym for act in session if act.user_pseudonym), "")
        num_events = sum(act.is_event for act in session)
        num_interactions = len(session) - num_events
        seconds = round(session[-1].at_s - session[0].at_s, 3)
        verdicts = (said.count(verdict) for verdict in (GOOD, NEUTRAL, BAD))
        rows.append((day, _bucket(user), user, source, number, *slice_, seconds,
                     num_interactions, num_events, len(said), *verdicts))  # fmt: skip
        count = sums[day, source, *slice_]
        count["num_sessions"] += 1
        count["num_with_feedback"] += bool(said)
        count["num_interactions"] += num_interactions
        count["sum_duration_s"] += seconds
        count["num_single" if len(session) == 1 else _range_of(seconds)] += 1
        if num_events:
            paths[day, source][_path(session)] += 1
    insert_rows(db, SESSIONS.name, _COLUMNS, rows)
    _insert_counts(db, BY_DAY, [
        (*key, *(count[name] for name in _SUMS)) for key, count in sums.items()
    ])  # fmt: skip
    _insert_counts(db, PATHS, [
        (*key, number, path, num)
        for key, counts in paths.items()
        for number, (path, num) in enumerate(sorted(counts.items()), 1)
    ])  # fmt: skip


def _insert_counts(db: Session, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
    """Rows of the key's columns, then the others."""
    key = [column.name for column in table.primary_key]
    names = [*key, *(column.name for column in table.columns if not column.primary_key)]
    insert_rows(db, table.name, names, rows)


def _bucket(user: str) -> int:
    return zlib.crc32(user.encode()) % NUM_BUCKETS if user else -1


def _range_of(seconds: float) -> str:
    bound = next((bound for bound in BOUNDS_S if seconds < bound), None)
    return f"num_under_{bound}" if bound else "num_longer"


def _path(session: list[Any]) -> str:
    names = (name for name, _ in groupby(act.name for act in session if act.is_event))
    return SEPARATOR.join(islice(names, MAX_PATH))


def _find_sessions(acts: Iterable[Any]) -> Iterator[tuple[str, str, int, list[Any]]]:
    """(day, source, number, acts) a session, of acts by day, source and stream, in order."""
    for (day, source), of_source in groupby(acts, key=itemgetter(0, 1)):
        number = 0
        for _, stream in groupby(of_source, key=itemgetter(2)):
            for session in _split_at_pauses(stream):
                number += 1
                yield str(day), source, number, session


def _split_at_pauses(stream: Iterable[Any]) -> Iterator[list[Any]]:
    session: list[Any] = []
    for act in stream:
        if session and round(act.at_s - session[-1].at_s, 3) > GAP_S:
            yield session
            session = []
        session.append(act)
    yield session


def _list_acts(db: Session, days: Sequence[date]) -> sa.Select[Any]:
    """All that can be told to belong to a session: interactions and events.

    `name` is the action type of the one and the event's of the other; `said` what the user's own
    feedback comes to, None without feedback.
    """

    def columns(table: sa.Table, key: Any) -> tuple[Any, ...]:
        by_key: Any = sa.literal_column("'k'")  # so that no key is taken for a user
        by_user: Any = sa.literal_column("'u'")
        return (
            sa.type_coerce(day_of(db, table.c.occurred_at), sa.String).label("day"),
            table.c.source,
            sa.func.coalesce(by_key + key, by_user + table.c.user_pseudonym).label("stream"),
            _seconds(db, table.c.occurred_at).label("at_s"),
            sa.type_coerce(table.c.id, sa.String).label("id"),
            table.c.user_pseudonym,
        )

    own = FEEDBACK.alias("own")
    said = sa.case(
        (is_good(own), GOOD), (is_neutral(own), NEUTRAL), (is_bad(own), BAD),
        (own.c.id.is_not(None), NO_VERDICT),
    )  # fmt: skip
    of_user = sa.and_(
        RATER.c.pseudonym == INTERACTION.c.user_pseudonym,
        RATER.c.rater_kind == RaterKind.END_USER,
    )
    on_it = sa.and_(
        own.c.interaction_id == INTERACTION.c.id,
        own.c.rater_id == RATER.c.id,
        own.c.step_id.is_(None),
        own.c.occasion == 0,
        own.c.withdrawn_at.is_(None),
    )
    interactions = (
        sa.select(
            *columns(INTERACTION, INTERACTION.c.chat_id),
            given(INTERACTION.c.action_type).label("name"),
            given(INTERACTION.c.model_name).label("model_name"),
            sa.literal_column("0").label("is_event"),
            said.label("said"),
        )
        .select_from(INTERACTION.outerjoin(RATER, of_user).outerjoin(own, on_it))
        .where(
            within(INTERACTION.c.occurred_at, days),
            sa.or_(INTERACTION.c.chat_id.is_not(None), INTERACTION.c.user_pseudonym.is_not(None)),
            sa.func.coalesce(INTERACTION.c.user_pseudonym, "").not_in(_list_accounts(db)),
        )
    )
    events = sa.select(
        *columns(EVENT, EVENT.c.session_key),
        EVENT.c.name,
        NOTHING.label("model_name"),
        sa.literal_column("1").label("is_event"),
        sa.cast(sa.null(), sa.Integer).label("said"),
    ).where(
        within(EVENT.c.occurred_at, days),
        sa.or_(EVENT.c.session_key.is_not(None), EVENT.c.user_pseudonym.is_not(None)),
    )
    acts = interactions.union_all(events).subquery("acts")
    order = ("day", "source", "stream", "at_s", "is_event", "id")
    return sa.select(acts).order_by(*(acts.c[name] for name in order))


def _list_accounts(db: Session) -> list[str]:
    """The pseudonyms under which accounts talk to the assistant."""
    ids = db.scalars(sa.select(Account.id)).all()
    key = get_settings().read_secret_key() if ids else b""
    return [make_pseudonym(account_user(one), key) for one in ids]


def _seconds(db: Session, moment: Any) -> Any:
    """Seconds since 1970. On SQLite the moment is text, and its own functions know no µs."""
    if db.get_bind().dialect.name == "sqlite":
        text = sa.type_coerce(moment, sa.String)
        whole = sa.func.strftime("%s", sa.func.substr(text, 1, 19))
        return sa.cast(whole, sa.Integer) + sa.cast("0" + sa.func.substr(text, 20), sa.Double)
    return sa.cast(sa.extract("epoch", moment), sa.Double)
