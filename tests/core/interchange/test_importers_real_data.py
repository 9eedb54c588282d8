"""The real folders, imported with the ready-made mappings, hold the figures counted elsewhere."""

from collections import Counter, defaultdict
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.store.engine import Store
from rlhf_core.store.tables import (
    Comparison,
    Feedback,
    Interaction,
    Rater,
    ReasoningStep,
    RollupDirtyDay,
)
from rlhf_core.vocabulary import Choice, RaterKind
from tests.core.interchange.conftest import Importing
from tests.databases import postgres_is_slow

pytestmark = postgres_is_slow


def count(store: Store, table: Any) -> int:
    with store.reading() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_cohere_hf_keeps_every_rating_and_its_means(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    known = facts["cohere_hf"]
    report = import_real("cohere_hf", num_workers=1)
    assert (report.lines, report.stored) == (known["ratings"], known["ratings"])
    assert (report.rejected, report.duplicate) == (0, 0)
    assert report.num_feedback == known["ratings"]
    assert report.num_interactions == known["responses_rated"]
    assert report.num_raters == known["raters"]
    with store.reading() as db:
        rows = db.execute(
            sa.select(Feedback.rating, Feedback.extra, Interaction.model_name).join(
                Interaction, Interaction.id == Feedback.interaction_id
            )
        ).all()
        raters = db.scalar(sa.select(sa.func.count(Feedback.rater_id.distinct())))
        first, last = db.execute(
            sa.select(sa.func.min(Feedback.occurred_at), sa.func.max(Feedback.occurred_at))
        ).one()
        twice = db.scalar(sa.select(sa.func.count()).where(Feedback.occasion > 0))
        days = db.scalar(sa.select(sa.func.count()).select_from(RollupDirtyDay))
    assert raters == known["raters"]
    assert {str(k): v for k, v in Counter(r.rating for r in rows).items()} == known["rating_counts"]
    groups: dict[str, list[int]] = defaultdict(list)
    for rating, extra, model in rows:
        groups[f"{extra['task']}|{model}"].append(rating)
    means = {k: [len(v), round(sum(v) / len(v), 4)] for k, v in groups.items()}
    assert means == known["mean_by_task_model"]
    assert [f"{m:%Y-%m-%dT%H:%M:%SZ}" for m in (first, last)] == known["first_last_session"]
    assert twice == 569  # a rater who met a response again: counted from the file itself
    assert days

    again = import_real("cohere_hf")
    assert (again.num_rows, again.duplicate) == (0, known["ratings"])


def test_cohere_hf_pairs_find_the_responses_stored_before(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    import_real("cohere_hf")
    report = import_real("cohere_hf_pairs", "cohere_hf")
    assert report.lines == facts["cohere_hf"]["pairs"]
    assert report.rejected == 2
    assert all("the same interaction" in reason for _, reason in report.reasons)
    with store.reading() as db:
        choices = Counter(db.scalars(sa.select(Comparison.choice)))
    known = facts["cohere_hf"]["pair_pref"]
    # the two refused pairs show the same response on both sides
    assert abs(choices[Choice.LEFT] - known["a"]) <= 2
    assert abs(choices[Choice.RIGHT] - known["b"]) <= 2
    assert sum(choices.values()) == sum(known.values()) - 2


def test_tulu1_thumbs_and_wins(store: Store, import_real: Importing, facts: dict[str, Any]) -> None:
    known = facts["tulu1"]
    report = import_real("tulu1")
    assert (report.lines, report.stored) == (known["annotations"], known["annotations"])
    assert report.num_raters == known["raters"]
    left, right = sa.orm.aliased(Interaction), sa.orm.aliased(Interaction)
    with store.reading() as db:
        thumbs = db.execute(
            sa.select(Interaction.model_name, Feedback.thumb).join(
                Interaction, Interaction.id == Feedback.interaction_id
            )
        ).all()
        pairs = db.execute(
            sa.select(Comparison.choice, left.model_name, right.model_name)
            .join(left, left.id == Comparison.left_interaction_id)
            .join(right, right.id == Comparison.right_interaction_id)
        ).all()
        first, last = db.execute(
            sa.select(sa.func.min(Feedback.occurred_at), sa.func.max(Feedback.occurred_at))
        ).one()
    by_model: dict[str, list[int]] = defaultdict(list)
    for model, thumb in thumbs:
        by_model[model].append(thumb)
    rates = {m: [len(v), round(v.count(1) / len(v), 4)] for m, v in by_model.items()}
    assert rates == known["thumb_up_rate"]
    wins = Counter()
    for choice, a, b in pairs:
        winner = {Choice.LEFT: a, Choice.RIGHT: b, Choice.TIE: "tie"}[choice]
        wins[f"{'|'.join(sorted((a, b)))} -> {winner}"] += 1
    assert wins == known["wins"]
    assert [f"{m:%Y-%m-%dT%H:%M:%S}" for m in (first, last)] == known["first_last"]


def test_convai2_dialogs_are_interactions_with_messages_as_steps(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    known = facts["convai2"]
    report = import_real("convai2")
    assert (report.num_interactions, report.num_steps) == (known["dialogs"], known["messages"])
    with store.reading() as db:
        ratings = Counter(
            str(r) for r in db.scalars(sa.select(Feedback.rating).where(Feedback.step_id.is_(None)))
        )
        thumbs = Counter(db.scalars(sa.select(Feedback.thumb).where(Feedback.step_id.is_not(None))))
        users = db.scalar(sa.select(sa.func.count(Interaction.user_pseudonym.distinct())))
        kinds = set(db.scalars(sa.select(Rater.rater_kind)))
        by_bot = db.execute(
            sa.select(Interaction.model_name, Feedback.rating)
            .join(Feedback, Feedback.interaction_id == Interaction.id)
            .where(Feedback.rating.is_not(None), Interaction.model_name.is_not(None))
        ).all()
    expected = {k: v for k, v in known["dialog_rating_counts"].items() if k != "None"}
    assert ratings == expected
    assert sum(ratings.values()) == known["rated_dialogs"]
    assert (thumbs[1], thumbs[-1]) == (known["thumbs"]["up"], known["thumbs"]["down"])
    assert users == known["users"]
    assert kinds == {RaterKind.END_USER}
    bots: dict[str, list[int]] = defaultdict(list)
    for bot, rating in by_bot:
        bots[bot].append(rating)
    for bot, figures in known["by_bot"].items():
        assert len(bots[bot]) == figures["rated"]
        assert sum(bots[bot]) / len(bots[bot]) == pytest.approx(figures["mean"], abs=1e-4)


def test_pandalm_votes_become_comparisons_of_three_raters(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    known = facts["pandalm"]
    report = import_real("pandalm")
    assert report.lines == known["pairs"]
    assert report.num_comparisons == 3 * known["pairs"]
    assert report.num_raters == 3
    with store.reading() as db:
        rows = db.execute(sa.select(Comparison.left_interaction_id, Comparison.choice)).all()
    votes: dict[Any, list[Choice]] = defaultdict(list)
    for pair, choice in rows:
        votes[pair].append(choice)
    sides = {Choice.LEFT: "a", Choice.RIGHT: "b", Choice.TIE: "tie"}
    majority = Counter(sides[Counter(v).most_common(1)[0][0]] for v in votes.values())
    assert majority == known["majority"]


def test_prm800k_part_step_labels(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    known = facts["prm800k_part"]
    report = import_real("prm800k_part")
    assert report.num_interactions == known["solutions"]
    with store.reading() as db:
        labels = Counter(str(label) for label in db.scalars(sa.select(Feedback.label)))
    assert labels == known["step_labels"]


def test_big_bench_mistake_steps_and_labels(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    known = facts["big_bench_mistake"]
    report = import_real("big_bench_mistake")
    assert (report.num_interactions, report.num_steps) == (known["solutions"], known["steps"])
    with store.reading() as db:
        labels = Counter(str(label) for label in db.scalars(sa.select(Feedback.label)))
        wrong = db.execute(
            sa.select(ReasoningStep.position, Interaction.extra, Interaction.action_type)
            .join(Feedback, Feedback.step_id == ReasoningStep.id)
            .join(Interaction, Interaction.id == ReasoningStep.interaction_id)
            .where(Feedback.label == -1)
        ).all()
        tasks = Counter(db.scalars(sa.select(Interaction.action_type)))
    assert labels == {k: v for k, v in known["labelled_steps"].items() if k != "None"}
    assert all(extra["first_mistake_step"] == position for position, extra, _ in wrong)
    mistakes = Counter(task for *_, task in wrong)
    assert {t: [tasks[t], mistakes[t]] for t in tasks} == known["by_task"]
