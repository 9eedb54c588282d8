"""The formats of others: openai-chat, hh-rlhf and raw prm800k."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.interchange.importers import import_file
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Feedback, Interaction, Rater, ReasoningStep
from rlhf_core.vocabulary import Choice, ImportFormat, RaterKind
from tests.core.interchange.conftest import Importing
from tests.databases import postgres_is_slow

USER = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}


@postgres_is_slow
def test_openai_chat_takes_prompt_context_steps_and_metadata(
    store: Store, import_lines: Importing
) -> None:
    line = {
        "messages": [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is"},
                    {"type": "text", "text": "2 + 2?"},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "t1"}]},
            {"role": "tool", "content": "4", "tool_call_id": "t1"},
            ANSWER,
        ],
        "metadata": {"id": 17, "model": "m-1", "rating": 5, "rater": "ann", "topic": "sums"},
    }
    report = import_lines(line, line, format=ImportFormat.OPENAI_CHAT)
    assert (report.stored, report.duplicate) == (1, 1)
    with store.reading() as db:
        row = db.scalars(sa.select(Interaction)).one()
        steps = db.execute(
            sa.select(ReasoningStep.kind, ReasoningStep.content).order_by(ReasoningStep.position)
        ).all()
        rating = db.scalars(sa.select(Feedback.rating)).one()
    assert (row.prompt, row.completion) == ("What is\n2 + 2?", "4")
    assert row.context == [{"role": "system", "content": "Be short."}]
    assert (row.external_id, row.model_name, row.source) == ("17", "m-1", "app")
    assert row.extra == {"topic": "sums"}
    assert steps == [("assistant", '[{"id": "t1"}]'), ("tool", "4")]
    assert rating == 5


def test_openai_chat_refuses_what_holds_no_answer(import_lines: Importing) -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}
    lines: list[Any] = [
        {"messages": [USER]},
        {"messages": [ANSWER]},
        {"messages": "x"},
        {"prompt": "x"},
        {"messages": [picture, ANSWER]},
        {"messages": [USER, ANSWER], "metadata": [1]},
        {"messages": [USER, ANSWER], "metadata": {"rating": "five"}},
    ]
    report = import_lines(*lines, format=ImportFormat.OPENAI_CHAT)
    assert report.rejected == len(lines)
    assert "only texts" in report.reasons[4].reason
    assert "got 'five'" in report.reasons[6].reason


@postgres_is_slow
def test_hh_rlhf_pairs_become_comparisons_without_a_favoured_side(
    store: Store, shared_data: Path, facts: dict[str, Any], tmp_path: Path
) -> None:
    path = shared_data / "hh_rlhf_harmless_test" / "pairs.jsonl"
    options: dict[str, Any] = {
        "format": ImportFormat.HH_RLHF, "actor": SYSTEM, "rejected_path": tmp_path / "r.jsonl",
    }  # fmt: skip
    report = import_file(store, path, **options)
    known = facts["hh_rlhf_harmless_test"]
    assert (report.stored, report.num_comparisons) == (known["pairs"], known["pairs"])
    assert (report.num_raters, report.rejected) == (1, 0)
    with store.reading() as db:
        choices = Counter(db.scalars(sa.select(Comparison.choice)))
        kind = db.scalars(sa.select(Rater.rater_kind)).one()
        chosen = {
            (row.prompt, row.completion)
            for side, choice in (
                (Comparison.left_interaction_id, Choice.LEFT),
                (Comparison.right_interaction_id, Choice.RIGHT),
            )
            for row in db.execute(
                sa.select(Interaction.prompt, Interaction.completion)
                .join(Comparison, side == Interaction.id)
                .where(Comparison.choice == choice)
            )
        }
    assert kind is RaterKind.END_USER
    assert 0.45 < choices[Choice.LEFT] / known["pairs"] < 0.55
    with path.open() as file:
        first = json.loads(file.readline())
    asked = first["prompt"].rpartition("\n\nHuman: ")[2]
    assert (asked, first["chosen_reply"]) in chosen
    assert import_file(store, path, **options).num_rows == 0


def test_hh_rlhf_refuses_what_is_no_pair(import_lines: Importing) -> None:
    good = "\n\nHuman: Hi\n\nAssistant: Hello"
    lines = [
        {"chosen": good, "rejected": good},
        {"chosen": good, "rejected": "\n\nHuman: Bye\n\nAssistant: Hello"},
        {"chosen": good},
        {"chosen": good, "rejected": "Hello"},
        {"chosen": good, "rejected": "\n\nHuman: Hi"},
    ]
    report = import_lines(*lines, format=ImportFormat.HH_RLHF)
    no_prompt = "chosen and rejected share no 'Human:' turn that both answer"
    assert [reason for _, reason in report.reasons] == [
        "chosen and rejected are the same",
        no_prompt,
        "rejected: is no text",
        "rejected: does not begin with 'Human:' or 'Assistant:'",
        no_prompt,
    ]


@postgres_is_slow
def test_prm800k_records_lose_no_rating(store: Store, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "prm800k_part" / "raw_format_sample.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    given = Counter(
        completion["rating"]
        for record in records
        for step in record["label"]["steps"]
        for completion in step["completions"]
        if completion["rating"] is not None
    )
    report = import_file(
        store, path, format=ImportFormat.PRM800K, actor=SYSTEM, rejected_path=tmp_path / "r"
    )
    assert (report.stored, report.rejected) == (len(records), 0)
    assert report.num_raters == len({record["labeler"] for record in records})
    with store.reading() as db:
        labels = Counter(db.scalars(sa.select(Feedback.label)))
        solutions = db.execute(
            sa.select(Interaction.id, Interaction.extra).where(
                Interaction.action_type == "solution"
            )
        ).all()
        steps = [
            db.scalar(sa.select(sa.func.count()).where(ReasoningStep.interaction_id == solution.id))
            for solution in solutions
        ]
    assert labels == given
    assert sorted(steps) == sorted(len(r["label"]["steps"]) for r in records)
    answers = {solution.extra["reference_answer"] for solution in solutions}
    assert answers == {r["question"]["ground_truth_answer"] for r in records}


def test_a_broken_prm800k_record_is_refused_and_the_next_one_stored(
    import_lines: Importing,
) -> None:
    def record(completions: Any) -> dict[str, Any]:
        return {
            "labeler": "l",
            "question": {"problem": "1 + 1?"},
            "label": {"steps": [{"completions": completions, "chosen_completion": 0}]},
        }

    good = record([{"text": "It is 2.", "rating": 1}])
    report = import_lines(record(5), good, format=ImportFormat.PRM800K)
    assert (report.stored, report.rejected) == (1, 1)
    assert "label.steps.0.completions: is no list" in str(report.reasons[0])
