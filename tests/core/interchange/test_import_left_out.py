"""What an import does not take though the file is in order: opted-out users, a machine in need."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.interchange.importers import import_file
from rlhf_core.privacy.consent import opt_in, opt_out
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction
from rlhf_core.vocabulary import ImportFormat
from tests.core.interchange.conftest import Importing
from tests.databases import only_sqlite


def said_by(name: str, n: int, **fields: Any) -> dict[str, Any]:
    said = {"thumb": 1, "rater": name, "rater_kind": "end_user"}
    return {"prompt": f"Q {n}?", "completion": "A.", "external_id": str(n), "feedback": [said],
            **fields}  # fmt: skip


def test_feedback_of_who_opted_out_is_left_out_with_the_reason(
    store: Store, import_lines: Importing
) -> None:
    with store.writing() as db:
        opt_out(db, actor=SYSTEM, user="kim")
        opt_out(db, actor=SYSTEM, user="lee")
        opt_in(db, actor=SYSTEM, user="lee")
    lines = [said_by("kim", 1), said_by("lee", 2), said_by("", 3, user="kim", feedback=[])]
    for dry_run in (True, False):
        report = import_lines(*lines, dry_run=dry_run)
        assert (report.stored, report.rejected, report.num_feedback) == (2, 1, 1)
        (refused,) = report.reasons
        assert refused.line == 1
        assert "opted out" in refused.reason
        assert "kim" not in refused.reason
    own = {"thumb": -1, "rater_kind": "end_user"}  # the user of the interaction
    report = import_lines(said_by("", 4, user="kim", feedback=[own]))
    assert (report.stored, report.rejected) == (0, 1)
    with store.reading() as db:
        assert set(db.scalars(sa.select(Interaction.external_id))) == {"2", "3"}
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 1


@only_sqlite
def test_what_was_imported_before_the_opt_out_is_a_duplicate(
    store: Store, import_lines: Importing
) -> None:
    import_lines(said_by("kim", 1))
    with store.writing() as db:
        opt_out(db, actor=SYSTEM, user="kim")
    assert import_lines(said_by("kim", 1)).duplicate == 1
    pair = [said_by("x", n, prompt="same", feedback=[]) for n in (2, 3)]
    compared = {"comparison": {"left": "2", "right": "3", "choice": "left", "rater": "kim"}}
    report = import_lines(*pair, compared)
    assert (report.stored, report.rejected, report.num_comparisons) == (2, 1, 0)
    assert "opted out" in report.reasons[0].reason


@only_sqlite
def test_a_temporary_folder_in_need_is_not_the_files_fault(
    import_lines: Importing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(Unavailable, match=r"temporary files .* start it again") as refusal:
        import_lines(said_by("kim", 1))
    assert "app.jsonl" not in str(refusal.value)
    assert str(tmp_path / "gone") in str(refusal.value)


@only_sqlite
def test_a_process_that_cannot_be_started_is_not_the_files_fault(
    import_lines: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Unavailable, match="did not start"):
        import_lines(said_by("kim", 1), num_workers=1)


@only_sqlite
def test_a_file_that_cannot_be_read_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.jsonl"
    path.write_text("{}\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidInput, match=r"app\.jsonl cannot be read: Permission denied"):
        import_file(store, path, format=ImportFormat.NATIVE, actor=SYSTEM)
