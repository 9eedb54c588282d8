import csv
import io
import json
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.service import create_interaction, submit_feedback, withdraw_feedback
from rlhf_core.interchange.exporters import (
    CSV_COLUMNS,
    export_file,
    export_to,
    list_export_sources,
    make_inert,
)
from rlhf_core.interchange.importers import import_file
from rlhf_core.store import migrate
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Interaction
from rlhf_core.vocabulary import ExportFormat, ImportFormat, Role
from tests.builders import interaction_draft, make_actor, make_interaction
from tests.core.interchange.conftest import Importing
from tests.databases import postgres_is_slow

EXAMPLE = Path(__file__).resolve().parents[2] / "data" / "native_example.jsonl"


def export_text(store: Store, format: ExportFormat, **options: Any) -> str:
    out = io.StringIO(newline="")
    export_to(store, out, format=format, actor=SYSTEM, **options)
    return out.getvalue()


def round_trip(store: Store, tmp_path: Path) -> tuple[str, str]:
    """What a store exports, and what an empty one exports that imported it."""
    first = tmp_path / "export.jsonl"
    report = export_file(store, first, format=ExportFormat.NATIVE, actor=SYSTEM)
    text = first.read_text(encoding="utf-8")
    assert (report.lines, report.num_bytes) == (text.count("\n"), len(text.encode()))
    other = Store(f"sqlite:///{tmp_path / 'other' / 'other.db'}")
    migrate.upgrade(other)
    imported = import_file(other, first, format=ImportFormat.NATIVE, actor=SYSTEM)
    assert (imported.rejected, imported.stored) == (0, report.lines), imported.reasons
    again = export_text(other, ExportFormat.NATIVE)
    other.close()
    return text, again


@postgres_is_slow
def test_native_comes_back_byte_for_byte(
    store: Store, import_lines: Importing, tmp_path: Path
) -> None:
    import_file(store, EXAMPLE, format=ImportFormat.NATIVE, actor=SYSTEM)
    import_lines(
        {
            "prompt": 'Zeile\u2028eins\r\n\t"x"\\N \\.',
            "completion": "",
            "extra": {"b": 1, "a": [1.5, None]},
        },
        {"prompt": "ohne Id", "completion": "Grüße 😀", "feedback": [{"rating": 1}, {"rating": 1}]},
        {"prompt": "ohne Id", "completion": "=1+1", "feedback": [{"thumb": 0, "rater": "a"}]},
    )
    with store.writing() as db:
        person = make_actor(db, Role.RATER)
        item = db.scalars(sa.select(Interaction.id)).first()
        assert item is not None
        submit_feedback(db, item, FeedbackDraft(rating=3), actor=person)
    text, again = round_trip(store, tmp_path)
    assert again == text
    assert "guest@kitchen.example" not in text
    assert person.account_id is not None
    assert person.account_id.hex not in text


@postgres_is_slow
def test_real_data_comes_back_byte_for_byte(
    store: Store, import_real: Importing, tmp_path: Path
) -> None:
    import_real("tulu1")
    import_real("prm800k_part")
    text, again = round_trip(store, tmp_path)
    assert again == text
    assert text.count("\n") == 924 + 802 + 196


@postgres_is_slow
def test_both_databases_export_the_same_bytes(
    store: Store, import_lines: Importing, tmp_path: Path
) -> None:
    names = ["b", "B", "ä", "_", "a-1", "a1", "Z"]
    import_lines(
        *(
            {"prompt": f"p{n}", "completion": "c", "external_id": n, "extra": {"zz": 1, "b": 2}}
            for n in names
        )
    )
    lines = export_text(store, ExportFormat.NATIVE).splitlines()
    assert [json.loads(line)["external_id"] for line in lines] == sorted(names)
    assert all('"extra":{"b":2,"zz":1}' in line for line in lines)


@postgres_is_slow
def test_withdrawn_feedback_and_demo_data_stay_here(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db, Role.ADMIN)
        kept = make_interaction(db)
        create_interaction(db, interaction_draft(), actor=actor, is_demo=True)
        stored = submit_feedback(db, kept.id, FeedbackDraft(rating=1), actor=actor)
        withdraw_feedback(db, stored.id, actor=actor)
    (line,) = export_text(store, ExportFormat.NATIVE).splitlines()
    assert "feedback" not in json.loads(line)


@postgres_is_slow
def test_one_source_is_exported_alone(store: Store, import_lines: Importing) -> None:
    for source in ("one", "two"):
        import_lines({"prompt": "p", "completion": source}, source=source)
    (line,) = export_text(store, ExportFormat.NATIVE, source="two").splitlines()
    assert json.loads(line)["completion"] == "two"
    with store.reading() as db:
        assert list_export_sources(db, actor=SYSTEM) == [("one", 1), ("two", 1)]


@postgres_is_slow
def test_openai_chat_can_be_imported_again(store: Store, tmp_path: Path) -> None:
    import_file(store, EXAMPLE, format=ImportFormat.NATIVE, actor=SYSTEM)
    path = tmp_path / "chat.jsonl"
    export_file(store, path, format=ExportFormat.OPENAI_CHAT, actor=SYSTEM)
    first = json.loads(path.read_text().splitlines()[0])
    assert [m["role"] for m in first["messages"]] == ["user", "assistant", "user", "assistant"]
    assert first["metadata"]["mean_rating"] == 5
    assert first["metadata"]["thumbs_up"] == 2
    report = import_file(store, path, format=ImportFormat.OPENAI_CHAT, actor=SYSTEM)
    assert (report.duplicate, report.rejected) == (2, 0), report.reasons


@postgres_is_slow
def test_comparisons_leave_as_transcripts(store: Store, tmp_path: Path) -> None:
    import_file(store, EXAMPLE, format=ImportFormat.NATIVE, actor=SYSTEM)
    lines = export_text(store, ExportFormat.HH_RLHF).splitlines()
    assert len(lines) == 2
    for line in map(json.loads, lines):
        assert line["chosen"].endswith(
            "\n\nAssistant: About seven minutes for a soft yolk. Cool it in cold water."
        )
        assert line["rejected"].endswith("\n\nAssistant: Boil it until it is done.")


@postgres_is_slow
def test_csv_cells_cannot_be_formulas(store: Store, import_lines: Importing) -> None:
    active = ["=1+1", "+1", "-1", "@x", "\tx", "\rx"]
    shared = {"completion": "c", "feedback": [{"thumb": -1, "comment": "=A1"}]}
    import_lines(
        *({"prompt": text, "external_id": f"{n}", **shared} for n, text in enumerate(active))
    )
    rows = list(csv.DictReader(io.StringIO(export_text(store, ExportFormat.CSV), newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["prompt"] for row in rows] == [f"'{text}" for text in active]
    assert {row["comment"] for row in rows} == {"'=A1"}
    assert {row["thumb"] for row in rows} == {"-1"}  # a number is no formula


def test_make_inert_leaves_harmless_cells() -> None:
    assert [make_inert(cell) for cell in ("a=b", "", None, -1, "1")] == ["a=b", "", None, -1, "1"]


@postgres_is_slow
def test_an_export_needs_the_permission_and_is_audited(store: Store) -> None:
    rater = Actor(name="kim", role=Role.RATER, account_id=uuid.uuid4())
    with pytest.raises(Forbidden, match="may not export data"):
        export_to(store, io.StringIO(), format=ExportFormat.NATIVE, actor=rater)
    export_text(store, ExportFormat.CSV)
    with store.reading() as db:
        event = db.scalars(sa.select(AuditEvent)).one()
    assert (event.action, event.details) == (
        "export.start", {"by": "system", "format": "csv", "source": None},
    )  # fmt: skip


@postgres_is_slow
def test_a_file_that_cannot_be_written_leaves_no_part(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        export_file(store, tmp_path / "no" / "x", format=ExportFormat.CSV, actor=SYSTEM)
    assert not list(tmp_path.glob("*.part"))


@postgres_is_slow
def test_an_export_keeps_little_in_memory(store: Store, import_lines: Importing) -> None:
    text = "x" * 20_000
    import_lines(*({"prompt": f"{n}", "completion": text} for n in range(3_000)))

    class Nowhere(io.StringIO):
        def write(self, text: str) -> int:
            return len(text)

    tracemalloc.start()
    report = export_to(store, Nowhere(), format=ExportFormat.NATIVE, actor=SYSTEM)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.num_bytes > 60_000_000
    assert peak < 45_000_000
