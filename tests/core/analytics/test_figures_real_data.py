"""The pages' figures of the real files: those that were counted independently of this product."""

from typing import Any

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.overview import read_overview
from rlhf_core.analytics.rollups import reading_fresh
from rlhf_core.analytics.trends import Split, TrendPoint, read_ratings, read_trend
from rlhf_core.store.engine import Store


def by_model(store: Store, source: str) -> dict[str, list[TrendPoint]]:
    """The days of each model."""
    with reading_fresh(store) as db:
        points = read_trend(
            db, actor=SYSTEM, filters=Filters(sources=(source,)), split=Split.MODEL_NAME
        )
    found: dict[str, list[TrendPoint]] = {}
    for point in points:
        found.setdefault(point.name, []).append(point)
    return found


def test_cohere_hf(real_store: Store, facts: dict[str, Any]) -> None:
    known = facts["cohere_hf"]
    only = Filters(sources=("cohere_hf",))
    with reading_fresh(real_store) as db:
        counts = read_ratings(db, actor=SYSTEM, filters=only)
        glance = read_overview(db, actor=SYSTEM, filters=only).now
    assert {str(rating): num for rating, num in counts.ratings.items()} == known["rating_counts"]
    assert (glance.num_feedback, glance.num_ratings) == (known["ratings"], known["ratings"])
    assert glance.num_with_feedback == known["responses_rated"]
    assert glance.num_raters == known["raters"]
    expected: dict[str, list[float]] = {}
    for task_and_model, (num, mean) in known["mean_by_task_model"].items():
        of_model = expected.setdefault(task_and_model.split("|")[1], [0, 0])
        of_model[0] += num
        of_model[1] += num * mean
    for model, points in by_model(real_store, "cohere_hf").items():
        num = sum(point.num_ratings for point in points)
        total = sum(point.num_ratings * (point.mean_rating or 0) for point in points)
        assert (num, round(total / num, 3)) == (
            expected[model][0], round(expected[model][1] / num, 3)
        )  # fmt: skip


def test_tulu1(real_store: Store, facts: dict[str, Any]) -> None:
    found = {}
    for model, points in by_model(real_store, "tulu1").items():
        num = sum(point.num_feedback for point in points)
        ups = sum(point.thumbs[1] for point in points)
        found[model] = [num, round(ups / num, 4)]
    assert found == facts["tulu1"]["thumb_up_rate"]


def test_convai2(real_store: Store, facts: dict[str, Any]) -> None:
    known = facts["convai2"]
    only = Filters(sources=("convai2",))
    with reading_fresh(real_store) as db:
        counts = read_ratings(db, actor=SYSTEM, filters=only)
        glance = read_overview(db, actor=SYSTEM, filters=only).now
    expected = {int(n): num for n, num in known["dialog_rating_counts"].items() if n != "None"}
    assert counts.ratings == expected
    assert glance.num_interactions == known["dialogs"]
    assert glance.num_with_feedback == known["rated_dialogs"]
    rated = {}
    for bot, points in by_model(real_store, "convai2").items():
        num = sum(point.num_ratings for point in points)
        total = sum(point.num_ratings * (point.mean_rating or 0) for point in points)
        rated[bot] = (num, round(total / num, 4))
    for bot, figures in known["by_bot"].items():
        assert rated[bot] == (figures["rated"], figures["mean"])
