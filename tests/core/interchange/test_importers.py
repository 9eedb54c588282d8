import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.errors import Conflict, Forbidden, InvalidInput
from rlhf_core.interchange import importers
from rlhf_core.interchange.importers import ImportReport, import_file
from rlhf_core.interchange.mapping import mapping_of_pairs
from rlhf_core.privacy.pseudonyms import make_pseudonym
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import (
    AuditEvent,
    Comparison,
    Feedback,
    FeedbackAspect,
    FeedbackSpan,
    Interaction,
    Rater,
    ReasoningStep,
    RollupDirtyDay,
)
from rlhf_core.vocabulary import ImportFormat, Role
from tests.core.interchange.conftest import Importing
from tests.databases import postgres_is_slow

EXAMPLE = Path(__file__).resolve().parents[2] / "data" / "native_example.jsonl"


def item(n: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "prompt": f"Question {n}?",
        "completion": f"Answer {n}.",
        "external_id": str(n),
        **fields,
    }


def sums_up(report: ImportReport) -> bool:
    return report.stored + report.rejected + report.duplicate == report.lines


def test_the_documented_example_stores_every_field(store: Store) -> None:
    report = import_file(store, EXAMPLE, format=ImportFormat.NATIVE, actor=SYSTEM)
    assert (report.lines, report.stored) == (4, 4), report.reasons
    with store.reading() as db:
        row = db.scalars(
            sa.select(Interaction).where(Interaction.external_id == "message-17")
        ).one()
        feedback = db.scalars(sa.select(Feedback).where(Feedback.external_id == "rating-1")).one()
        pair = db.scalars(sa.select(Comparison).where(Comparison.external_id == "pair-1")).one()
        steps = db.scalars(sa.select(ReasoningStep).order_by(ReasoningStep.position)).all()
        aspects = dict(db.execute(sa.select(FeedbackAspect.name, FeedbackAspect.rating)).all())
        span = db.scalars(sa.select(FeedbackSpan)).one()
        raters = set(db.scalars(sa.select(Rater.pseudonym)))
    empty = {
        column
        for column, value in vars(row).items()
        if value is None and not column.startswith("_")
    }
    assert empty == {"model_version_id"}
    assert row.user_pseudonym == make_pseudonym("guest@kitchen.example", b"test-key")
    assert row.user_pseudonym in raters  # feedback of kind end_user without a rater is the user's
    assert row.context[1] == {"role": "assistant", "content": "Hello, what shall we cook?"}
    assert [(s.kind, s.external_id) for s in steps] == [
        ("recall", "step-17-0"), ("conclude", None),
    ]  # fmt: skip
    assert (feedback.thumb, feedback.rating, feedback.duration_s) == (1, 5, 12.5)
    assert (feedback.source, feedback.extra) == ("kitchen_review", {"screen": "phone"})
    assert aspects == {"accuracy": 5, "tone": 4}
    assert (span.start_at, span.end_at, span.tag, span.note) == (0, 19, "good", "the number")
    assert (pair.choice.value, pair.strength, pair.is_blind) == ("left", 2, True)


def test_a_second_import_adds_nothing(import_lines: Importing) -> None:
    lines = [item(n, feedback=[{"rating": 4}, {"rating": 4}, {"thumb": -1}]) for n in range(50)]
    first = import_lines(*lines)
    again = import_lines(*lines)
    assert (first.num_feedback, first.stored) == (150, 50)
    assert (again.num_rows, again.duplicate, again.stored) == (0, 50, 0)


def test_lines_across_batches_and_workers_are_counted_exactly(
    import_lines: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importers, "BATCH_ROWS", 2_000)
    count = 3_000
    lines = [
        item(n % count, feedback=[{"rating": 1 + n % 5, "rater": f"r{n}"}])
        for n in range(2 * count)
    ]
    bad = [b"no json\n", item(0, feedback=[{"rating": 9}])]
    report = import_lines(*lines, *bad, num_workers=2)
    assert sums_up(report)
    assert (report.stored, report.rejected) == (2 * count, 2)
    assert (report.num_interactions, report.num_feedback) == (count, 2 * count)
    assert [line for line, _ in report.reasons] == [2 * count + 1, 2 * count + 2]


def test_a_dry_run_reports_the_same_and_stores_nothing(
    store: Store, import_lines: Importing
) -> None:
    import_lines(item(1, steps=[{"content": "think"}]))
    lines = [
        item(0, feedback=[{"rating": 3, "rater": "a"}]),
        item(0, feedback=[{"rating": 3, "rater": "a"}]),
        item(1, steps=[{"content": "think"}], feedback=[{"label": 1, "step": 0}]),
        item(2, feedback=[{"rating": 6}]),
        {"comparison": {"left": "0", "right": "9", "choice": "tie"}},
        {"interaction": "3", "feedback": [{"rating": 5}]},
        item(3),
    ]
    trial = import_lines(*lines, dry_run=True)
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 0
        assert db.scalar(sa.select(sa.func.count()).select_from(Interaction)) == 1
    real = import_lines(*lines)
    same = {**vars(real), "is_dry_run": True}
    assert vars(trial) == same
    assert (real.stored, real.duplicate, real.rejected) == (4, 1, 2)


BAD_LINES = [
    (b"{no json\n", "is no JSON: Expecting property name enclosed in double quotes at character 2"),
    (b"[1]\n", "is no JSON object but list"),
    (b'{"prompt": "a\xff", "completion": "b"}\n', "is not UTF-8 (byte 14 of the line)"),
    (b'{"prompt": "a\\u0000", "completion": "b"}\n', "prompt: contains a NUL character"),
    (b'{"prompt": "a\\ud800", "completion": "b"}\n', "contains a lone surrogate"),
    (b'{"prompt": "a", "completion": "b", "feedback": [{"rating": NaN}]}\n', "rating"),
    (b'{"prompt": "a", "completion": "b", "extra": {"x": NaN}}\n', "extra: holds nan"),
    (b'{"prompt": "a", "completion": "b", "feedback": [{"rating": 0}]}\n', "feedback.0.rating"),
    (b'{"prompt": "a", "completion": "b", "feedback": [{"rating": 6}]}\n', "feedback.0.rating"),
    (b'{"prompt": "a", "completion": "b", "feedback": [{"rating": "five"}]}\n', "got 'five'"),
    (b'{"prompt": "  ", "completion": "b"}\n', "prompt: is empty"),
    (b'{"completion": "b"}\n', "prompt: Field required"),
    (b'{"prompt": "a", "completion": "b", "promt": 1}\n', "promt: "),
    (b'{"prompt": "a", "completion": "b", "feedback": [{"label": 1, "step": 0}]}\n',
     "names step 0"),
    (b'{"prompt": "' + b"x" * 1_000_001 + b'", "completion": "b"}\n', "the limit is 1,000,000"),
    (b'{"prompt": "a", "completion": "b", "occurred_at": "0001-01-01T00:00:00+05:00"}\n',
     "occurred_at"),
    (b'{"interaction": "nowhere", "feedback": [{"rating": 3}]}\n', "there is no interaction"),
    (b'{"comparison": {"left": "x", "right": "y", "choice": "left"}}\n', "there is no interaction"),
    (b'{"comparison": {"left": "x", "right": "y", "choice": "up"}}\n', "comparison.choice"),
]  # fmt: skip


def test_each_bad_line_gets_one_clear_reason_and_the_good_one_is_stored(
    store: Store, import_lines: Importing
) -> None:
    report = import_lines(*(line for line, _ in BAD_LINES), item())
    assert (report.stored, report.rejected) == (1, len(BAD_LINES))
    reasons = {line: reason for line, reason in report.reasons}
    for number, (_, expected) in enumerate(BAD_LINES, 1):
        assert expected in reasons[number], number
        assert "\n" not in reasons[number]
        assert len(reasons[number]) < 250
    assert report.rejected_path is not None
    written = [json.loads(line) for line in report.rejected_path.read_text().splitlines()]
    assert sorted(entry["line"] for entry in written) == list(range(1, len(BAD_LINES) + 1))
    assert all(entry["reason"] == reasons[entry["line"]] for entry in written)
    by_line = {entry["line"]: entry for entry in written}
    assert by_line[1]["text"] == "{no json"
    assert by_line[9]["row"]["feedback"] == [{"rating": 6}]
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Interaction)) == 1


def test_a_refused_line_leaves_nothing_behind(store: Store, import_lines: Importing) -> None:
    comparison = {"left": "0", "right": "missing", "choice": "left"}
    report = import_lines(item(0, feedback=[{"rating": 2, "rater": "x"}], comparisons=[comparison]))
    assert (report.rejected, report.num_rows) == (1, 0)
    with store.reading() as db:
        for table in (Interaction, Feedback, Rater, RollupDirtyDay):
            assert db.scalar(sa.select(sa.func.count()).select_from(table)) == 0


def test_lines_may_refer_to_lines_further_down(import_lines: Importing) -> None:
    report = import_lines(
        {"comparison": {"left": "0", "right": "1", "choice": "right", "rater": "a"}},
        {"source": "app", "interaction": "1", "feedback": [{"rating": 4, "rater": "a"}]},
        item(0, prompt="Same?"),
        item(1, prompt="Same?"),
    )
    assert report.stored == 4, report.reasons
    assert (report.num_comparisons, report.num_feedback) == (1, 1)


def test_a_line_may_wait_for_one_that_waits_itself(import_lines: Importing) -> None:
    lines = [
        item(
            n, prompt="Same?", comparisons=[{"left": str(n), "right": str(n + 1), "choice": "left"}]
        )
        for n in range(6)
    ]
    lines.append(item(6, prompt="Same?"))
    first = import_lines(*lines)
    assert (first.stored, first.rejected) == (7, 0), first.reasons
    second = import_lines(*lines)
    assert (second.stored, second.duplicate) == (0, 7)


def test_a_rater_who_rates_again_gets_the_next_occasion(
    store: Store, import_lines: Importing
) -> None:
    def rated(name: str, rating: int, **more: Any) -> dict[str, Any]:
        return item(0, feedback=[{"external_id": name, "rating": rating, "rater": "a", **more}])

    import_lines(rated("f1", 3), rated("f2", 5))
    report = import_lines(rated("f3", 1), rated("f2", 5), rated("f4", 1, occasion=1))
    assert (report.stored, report.duplicate, report.rejected) == (1, 1, 1)
    assert "occasion 1 already" in report.reasons[0].reason
    with store.reading() as db:
        query = sa.select(Feedback.external_id, Feedback.occasion).order_by(Feedback.occasion)
        assert list(db.execute(query)) == [("f1", 0), ("f2", 1), ("f3", 2)]


def test_an_id_with_another_text_is_refused_not_mixed_up(import_lines: Importing) -> None:
    report = import_lines(item(0), item(0, completion="Something else."))
    assert (report.stored, report.rejected) == (1, 1)
    again = import_lines(item(0, completion="A third.", feedback=[{"rating": 1}]))
    assert again.rejected == 1
    assert "another text" in again.reasons[0].reason
    assert import_lines(item(0, completion="A third."), source="other app").stored == 1


def test_a_feedback_id_on_two_interactions_is_refused(import_lines: Importing) -> None:
    report = import_lines(
        item(0, feedback=[{"external_id": "f", "rating": 1}]),
        item(1, feedback=[{"external_id": "f", "rating": 2}]),
    )
    assert report.rejected == 1
    assert "another interaction" in report.reasons[0].reason


def test_steps_of_stored_interactions_can_be_labelled_later(
    store: Store, import_lines: Importing
) -> None:
    steps = [{"content": "one"}, {"content": "two"}]
    import_lines(item(0, steps=steps))
    feedback = [{"label": -1, "step": 1, "rater": "a"}]
    report = import_lines(
        {"interaction": "0", "feedback": feedback},
        {"interaction": "0", "feedback": [{"label": -1, "step": 2, "rater": "a"}]},
        item(0, steps=steps[:1]),
    )
    assert (report.stored, report.rejected) == (1, 2)
    assert "names step 2" in report.reasons[0].reason
    with store.reading() as db:
        query = sa.select(ReasoningStep.content).join(
            Feedback, Feedback.step_id == ReasoningStep.id
        )
        assert list(db.scalars(query)) == ["two"]


def test_ids_of_people_are_stored_as_pseudonyms_only(store: Store, import_lines: Importing) -> None:
    import_lines(
        item(0, user="jo@mail.example", feedback=[{"rating": 1, "rater": "jo@mail.example"}])
    )
    with store.reading() as db:
        user = db.scalars(sa.select(Interaction.user_pseudonym)).one()
        rater = db.scalars(sa.select(Rater.pseudonym)).one()
    assert user == rater == make_pseudonym("jo@mail.example", b"test-key")


def test_days_are_marked_for_the_rollups(store: Store, import_lines: Importing) -> None:
    import_lines(
        item(0, occurred_at="2024-05-01T23:30:00-02:00",
             feedback=[{"rating": 3, "occurred_at": "2024-05-04T01:00:00Z"}])
    )  # fmt: skip
    with store.reading() as db:
        days = {f"{day}" for day in db.scalars(sa.select(RollupDirtyDay.day))}
    assert days == {"2024-05-02", "2024-05-04"}


def test_an_import_is_written_into_the_audit(store: Store, import_lines: Importing) -> None:
    import_lines(item(), dry_run=True)
    import_lines(item())
    with store.reading() as db:
        events = db.execute(sa.select(AuditEvent.action, AuditEvent.details)).all()
    assert sorted(action for action, _ in events) == ["import.finish", "import.start"]
    finish = next(details for action, details in events if action == "import.finish")
    assert (finish["stored"], finish["file"], finish["by"]) == (1, "app.jsonl", "system")


def test_who_may_not_import_is_refused(store: Store, tmp_path: Path) -> None:
    rater = Actor(name="kim", role=Role.RATER, account_id=uuid.uuid4())
    with pytest.raises(Forbidden, match="may not import data"):
        import_file(store, tmp_path / "x", format=ImportFormat.NATIVE, actor=rater)


def test_another_pseudonym_key_is_refused(
    import_lines: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.config import get_settings

    import_lines(item())
    monkeypatch.setenv("RLHF_SECRET_KEY", "another-key")
    get_settings.cache_clear()
    with pytest.raises(Conflict, match="is not the key this database was filled with"):
        import_lines(item(1))


def test_a_missing_file_is_one_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There is no file"):
        import_file(store, tmp_path / "none.jsonl", format=ImportFormat.NATIVE, actor=SYSTEM)
    with pytest.raises(InvalidInput, match="is a folder"):
        import_file(store, tmp_path, format=ImportFormat.NATIVE, actor=SYSTEM)


def test_refused_lines_go_to_the_data_folder_where_the_files_folder_is_closed(
    import_lines: Importing, tmp_path: Path
) -> None:
    report = import_lines(b"bad\n", rejected_path=Path("/proc/none/app.jsonl.rejected.jsonl"))
    assert report.rejected_path == tmp_path / "data" / "rejected" / "app.jsonl.rejected.jsonl"


@postgres_is_slow
def test_a_killed_import_is_run_again_and_completes(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.jsonl"
    lines = 15_000
    path.write_text(
        "".join(json.dumps(item(n, feedback=[{"rating": 3}])) + "\n" for n in range(lines))
    )
    code = (
        "import os\nfrom pathlib import Path\n"
        "from rlhf_core.accounts.permissions import SYSTEM\n"
        "from rlhf_core.interchange import importers\n"
        "from rlhf_core.store.engine import get_store\n"
        "from rlhf_core.vocabulary import ImportFormat\n"
        "die = lambda done, lines: os.kill(os.getpid(), 9) if done > 0.4 else None\n"
        "importers.BATCH_ROWS = 5_000\n"
        f"importers.import_file(get_store(), Path({str(path)!r}), format=ImportFormat.NATIVE,"
        " actor=SYSTEM, on_progress=die, num_workers=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SOURCE_ROOT, check=False)
    assert done.returncode == -9
    with store.reading() as db:
        before = db.scalar(sa.select(sa.func.count()).select_from(Interaction)) or 0
    assert 0 < before < lines
    report = import_file(store, path, format=ImportFormat.NATIVE, actor=SYSTEM)
    assert (report.duplicate, report.stored) == (before, lines - before)
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == lines


def test_no_reference_hangs_though_they_are_not_checked_row_by_row(
    store: Store, shared_data: Path, import_real: Importing
) -> None:
    import_real("tulu1")
    import_real("prm800k_part")
    if store.is_sqlite:
        with store.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_two_imports_at_once_store_each_thing_once(store: Store, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "app.jsonl"
    path.write_text(
        "".join(
            json.dumps(item(n, feedback=[{"rating": 3, "rater": f"r{n % 7}"}])) + "\n"
            for n in range(4000)
        )
    )

    def run(_n: int) -> ImportReport:
        return import_file(
            store, path, format=ImportFormat.NATIVE, actor=SYSTEM, num_workers=0,
            rejected_path=tmp_path / f"rejected{_n}",
        )  # fmt: skip

    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(run, range(3)))
    assert all(sums_up(report) and not report.rejected for report in reports)
    assert sum(report.num_interactions for report in reports) == 4000
    assert sum(report.num_feedback for report in reports) == 4000
    assert sum(report.num_raters for report in reports) == 7


def test_a_table_without_a_mapping_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("q,a\nx,y\n")
    with pytest.raises(InvalidInput, match="needs a mapping"):
        import_file(store, path, format=ImportFormat.TABLE, actor=SYSTEM)
    mapping = mapping_of_pairs(["prompt=question", "completion=a"])
    with pytest.raises(InvalidInput, match="has no column 'question'; it has a, q"):
        import_file(store, path, format=ImportFormat.TABLE, actor=SYSTEM, mapping=mapping)
