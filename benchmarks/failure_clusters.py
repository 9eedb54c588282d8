"""Failures over a million rows of feedback, and the search for groups that share a meaning.

    python benchmarks/failure_clusters.py [--sizes 10000 1000000] [--databases sqlite postgres]

- frequent: the exchanges that are called bad more than twice, from the daily counts, with and
  without filters; beside it the same question asked of the rows in plain SQL;
- rows: any page of the rows behind a figure, by what the figure counts;
- groups: time to group 5,000 bad answers with 4,000 others beside them (their embeddings made), and
  how well 30 paraphrases of one fault among 1,500 good answers are found, 5 % to 25 % of which were
  called bad by mistake, with the real encoder.

Prints one JSON line last.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._feedback_rows import ENDS_AT, fill  # noqa: E402
from benchmarks.insights import open_server, refresh, seconds, spread  # noqa: E402

LAST_DAY = (ENDS_AT - timedelta(days=1)).date()
PLAIN_SQL = """
    SELECT i.prompt_hash, i.action_type, i.completion, count(*) AS num_bad
    FROM feedback f JOIN interactions i ON i.id = f.interaction_id
    WHERE f.step_id IS NULL AND f.withdrawn_at IS NULL AND f.occasion = 0
      AND (f.rating <= 2 OR (f.rating IS NULL AND f.thumb < 0))
    GROUP BY i.prompt_hash, i.action_type, i.completion
    HAVING count(*) > 2 ORDER BY num_bad DESC LIMIT 20
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"])
    options = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "failure_clusters"}
    for kind in options.databases:
        with open_server(kind) as make_url:
            result[kind] = {size: measure(make_url(size), size) for size in options.sizes}
    result["groups"] = measure_groups()
    result["paraphrases"] = measure_paraphrases()
    print(json.dumps(result))


def measure(url: str, size: int) -> dict[str, Any]:
    """The figures of one database."""
    import sqlalchemy as sa

    from rlhf_core.store import migrate
    from rlhf_core.store.engine import Store

    store = Store(url)
    migrate.upgrade(store)
    fill(store, size)
    refresh(store)
    if not store.is_sqlite:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")

    def ask_plainly() -> None:
        with store.reading() as db:
            db.execute(sa.text(PLAIN_SQL)).all()

    figures = {
        "frequent_ms": {name: spread(ask) for name, ask in list_frequent_asked(store).items()},
        "rows_ms": {name: spread(ask) for name, ask in list_rows_asked(store).items()},
        "plain_sql_frequent_s": round(seconds(ask_plainly), 3),
    }
    store.close()
    print(url.split(":")[0], size, figures, file=sys.stderr)
    return figures


def list_frequent_asked(store: Any) -> dict[str, Callable[[], object]]:
    """What is asked of the frequent exchanges, by name."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.analytics.failures import list_frequent
    from rlhf_core.analytics.filters import Filters
    from rlhf_core.vocabulary import RaterKind

    def asking(filters: Filters) -> Callable[[], object]:
        def ask() -> object:
            with store.reading() as db:
                return list_frequent(db, actor=SYSTEM, filters=filters)

        return ask

    month = LAST_DAY - timedelta(days=29)
    return {
        "90 days": asking(Filters()),
        "30 days": asking(Filters(since=month, until=LAST_DAY)),
        "one day": asking(Filters(since=LAST_DAY, until=LAST_DAY)),
        "one action": asking(Filters(action_types=("search",))),
        "one model, experts": asking(Filters(model_names=("v1",), rater_kinds=(RaterKind.SME,))),
    }


def list_rows_asked(store: Any) -> dict[str, Callable[[], object]]:
    """Pages of rows, each time another one, by what they are of."""
    import sqlalchemy as sa

    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.analytics.filters import Filters
    from rlhf_core.analytics.rows import EVERY_ROW, RowChoice, list_rows
    from rlhf_core.store.tables import BadExchange, RaterRollup
    from rlhf_core.vocabulary import Verdict

    chance = random.Random(2)
    with store.reading() as db:
        most = sa.select(BadExchange.pattern_hash).order_by(BadExchange.num_bad.desc()).limit(1)
        pattern = db.scalar(most)
        rater_id = db.scalar(sa.select(RaterRollup.rater_id).limit(1))

    def asking(choice: RowChoice = EVERY_ROW, **filters: Any) -> Callable[[], object]:
        with store.reading() as db:
            asked: dict[str, Any] = {"filters": Filters(**filters), "choice": choice}
            num_all = list_rows(db, actor=SYSTEM, limit=1, **asked).num_all

        def ask() -> object:
            offset = 50 * chance.randrange(max(1, num_all // 50))
            with store.reading() as db:
                return list_rows(db, actor=SYSTEM, offset=offset, **asked)

        return ask

    month = {"since": LAST_DAY - timedelta(days=29), "until": LAST_DAY}
    return {
        "all": asking(),
        "bad, 30 days": asking(RowChoice(verdict=Verdict.BAD), **month),
        "rating 1, one action and model": asking(
            RowChoice(rating=1), action_types=("tool",), model_names=("v1",)
        ),
        "one aspect": asking(RowChoice(aspect="tone", rating=2)),
        "one exchange": asking(RowChoice(pattern_hash=pattern, verdict=Verdict.BAD)),
        "one expert": asking(RowChoice(rater_id=rater_id)),
    }


def measure_groups() -> dict[str, float]:
    """Seconds to group 5,000 bad answers around 60 faults, half of them like no other."""
    import numpy as np

    from rlhf_core.analytics.failure_search import JudgedAnswer, SearchParams, find_failures
    from rlhf_core.clock import new_id

    rng = np.random.default_rng(0)
    faults = rng.normal(size=(60, 384))
    vectors: dict[str, Any] = {}

    def answer(number: int, approval: float) -> JudgedAnswer:
        text = f"answer {number}"
        vector = rng.normal(size=384)
        if number % 2:
            vector = 0.7 * vector + faults[number % 60]
        vectors[text] = vector / np.linalg.norm(vector)
        return JudgedAnswer(new_id(), rng.bytes(16).hex(), approval, "prompt", text)

    bad = [answer(number, 0.0) for number in range(5_000)]
    others = [answer(number, float(number % 4 > 0)) for number in range(5_000, 9_000)]

    def embed(texts: Any) -> Any:
        return np.stack([vectors[text] for text in texts])

    found: list[Any] = []
    took = seconds(
        lambda: found.append(find_failures(bad, others, params=SearchParams(), embed=embed))
    )
    return {"seconds": round(took, 1), "num_groups": len(found[0].groups)}


def measure_paraphrases() -> list[dict[str, float]]:
    """Share of the paraphrases found in one group, and of strangers in it."""
    import numpy as np

    from rlhf_core.analytics.failure_search import JudgedAnswer, SearchParams, find_failures
    from rlhf_core.clock import new_id
    from rlhf_core.config import get_settings
    from rlhf_core.encoder.cache import CachedEncoder
    from rlhf_core.encoder.model import load_encoder
    from tests.core.analytics.fault_sentences import make_faulty, make_good

    results = []
    with tempfile.TemporaryDirectory() as folder:
        encoder = CachedEncoder(load_encoder(get_settings().encoder), Path(folder))
        for share in (0.05, 0.15, 0.25):
            for seed in range(5):
                rng = np.random.default_rng(seed)

                def judge(texts: list[str], approval: float, rng: Any = rng) -> list[JudgedAnswer]:
                    return [
                        JudgedAnswer(new_id(), rng.bytes(16).hex(), approval, "prompt", text)
                        for text in texts
                    ]

                texts = make_good(1_500, seed=seed)
                rng.shuffle(texts)
                mistakes = round(share * len(texts))
                faulty = judge(make_faulty(30, seed=seed), 0.0)
                bad = [*faulty, *judge(texts[:mistakes], 0.0)]
                answers = [*bad, *judge(texts[mistakes:], 1.0)]
                others = [answer for answer in answers if not answer.chooses]
                found = find_failures(bad, others, params=SearchParams(), embed=encoder.encode)
                fault = {answer.interaction_id for answer in faulty}
                best = max(
                    found.groups, key=lambda group: len({one for one, _ in group.members} & fault)
                )  # fmt: skip
                members = {one for one, _ in best.members}
                results.append(
                    {
                        "called_bad_by_mistake": share,
                        "recall": round(len(members & fault) / len(fault), 3),
                        "strangers": round(len(members - fault) / len(members), 3),
                        "is_worse": best.is_worse,
                        "others_called_worse": sum(  # a second sentence of the fault is no other
                            group.is_worse and fault.isdisjoint(one for one, _ in group.members)
                            for group in found.groups
                        ),
                    }
                )
    return results


if __name__ == "__main__":
    main()
