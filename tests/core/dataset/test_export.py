"""Exports: every purpose in every format, the same bytes each time, formulas inert in CSV only."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM, Actor, Permission
from rlhf_core.config import get_settings
from rlhf_core.dataset.export import (
    begin_export,
    export_name,
    export_version,
)
from rlhf_core.dataset.service import DatasetVersionView, load_rows
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent
from rlhf_core.vocabulary import DatasetFormat, DatasetPurpose, Role, Split
from tests.core.dataset.frozen import FORMULA, freeze_all
from tests.databases import only_sqlite

pytestmark = only_sqlite
Versions = dict[DatasetPurpose, DatasetVersionView]

TRL_COLUMNS = {
    DatasetPurpose.SCORES: ["prompt", "completion", "score"],
    DatasetPurpose.PREFERENCES: ["prompt", "chosen", "rejected", "margin"],
    DatasetPurpose.UNPAIRED: ["prompt", "completion", "label"],
    DatasetPurpose.PROMPTS: ["prompt"],
    DatasetPurpose.STEPS: ["prompt", "completions", "labels"],
    DatasetPurpose.SFT: ["prompt", "completion"],
}


@pytest.fixture
def versions(store: Store) -> Versions:
    return freeze_all(store)


def export(version: DatasetVersionView, format: DatasetFormat, split: Split | None = None) -> bytes:
    out = io.BytesIO()
    export_version(version, format, out, split=split)
    return out.getvalue()


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines()]


def test_every_purpose_leaves_in_every_format_whole_and_the_same(
    versions: Versions, tmp_path: Path
) -> None:
    for purpose, version in versions.items():
        assert version.num_rows > 0, purpose
        for format in DatasetFormat:
            path = tmp_path / export_name(version, format)
            assert export_version(version, format, path) == version.num_rows
            assert path.read_bytes() == export(version, format), (purpose, format)
    assert len(list(tmp_path.glob("*-v1.*"))) == 24


def test_trl_lines_have_its_columns_and_nothing_else(versions: Versions) -> None:
    for purpose, version in versions.items():
        found = lines(export(version, DatasetFormat.TRL))
        assert [list(line) for line in found] == [TRL_COLUMNS[purpose]] * version.num_rows
    pairs = lines(export(versions[DatasetPurpose.PREFERENCES], DatasetFormat.TRL))
    assert all(line["margin"] >= 0 and line["chosen"] != line["rejected"] for line in pairs)
    steps = lines(export(versions[DatasetPurpose.STEPS], DatasetFormat.TRL))
    assert {tuple(line["labels"]) for line in steps} == {(True, True), (True, False)}
    assert all(len(line["completions"]) == len(line["labels"]) for line in steps)


def test_trl_takes_the_files_as_its_own_types(versions: Versions, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "pairs.jsonl"
    export_version(versions[DatasetPurpose.PREFERENCES], DatasetFormat.TRL, path)
    loaded = datasets.Dataset.from_list(lines(path.read_bytes()))
    assert loaded.column_names == TRL_COLUMNS[DatasetPurpose.PREFERENCES]
    assert loaded.features["margin"].dtype == "float64"


def test_chat_lines_hold_messages_feedback_and_action_type(versions: Versions) -> None:
    for purpose, version in versions.items():
        for line in lines(export(version, DatasetFormat.OPENAI_CHAT)):
            assert list(line) == ["messages", "metadata"]
            roles = [message["role"] for message in line["messages"]]
            assert roles == ["user", "assistant"][: 1 if purpose is DatasetPurpose.PROMPTS else 2]
            assert list(line["metadata"])[:2] == ["feedback", "action_type"]
            assert line["metadata"]["action_type"] in ("search", None)
            assert line["metadata"]["split"] in set(Split)
    said = {
        purpose: {
            json.dumps(line["metadata"]["feedback"])
            for line in lines(export(version, DatasetFormat.OPENAI_CHAT))
        }
        for purpose, version in versions.items()
    }
    assert said[DatasetPurpose.SCORES] == {"4.5", "1.0", "2.0"}
    assert said[DatasetPurpose.PREFERENCES] == {'"preferred"'}
    assert said[DatasetPurpose.UNPAIRED] == {'"up"', '"down"'}
    assert said[DatasetPurpose.PROMPTS] == {"null"}
    assert said[DatasetPurpose.STEPS] == {"[true, true]", "[true, false]"}
    assert said[DatasetPurpose.SFT] == {'"good"', '"correction"'}


def test_formulas_are_inert_in_csv_and_untouched_elsewhere(versions: Versions) -> None:
    for purpose, version in versions.items():
        texts = [row.prompt for row in load_rows(version, split=None)]
        table = list(csv.DictReader(io.StringIO(export(version, DatasetFormat.CSV).decode())))
        assert [row["prompt"] for row in table] == [f"'{text}" for text in texts]
        for row in table:
            for cell in row.values():
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (purpose, cell)
        for format in (DatasetFormat.TRL, DatasetFormat.OPENAI_CHAT):
            data = export(version, format)
            assert json.dumps(FORMULA)[1:-1].encode() in data
            assert b"'=HYPERLINK" not in data


def test_parquet_holds_typed_columns_and_all_rows(versions: Versions) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    version = versions[DatasetPurpose.STEPS]
    table = pq.read_table(io.BytesIO(export(version, DatasetFormat.PARQUET)))
    assert table.num_rows == version.num_rows
    rows = load_rows(version, split=None)
    assert table.column("completions").to_pylist() == [list(row.completions) for row in rows]  # type: ignore[union-attr]
    assert table.column("labels").to_pylist() == [list(row.labels) for row in rows]  # type: ignore[union-attr]
    assert table.column("prompt").to_pylist() == [row.prompt for row in rows]
    scores = pq.read_table(
        io.BytesIO(export(versions[DatasetPurpose.SCORES], DatasetFormat.PARQUET))
    )
    assert str(scores.schema.field("score").type) == "double"
    assert set(scores.column("source").to_pylist()) == {"app", "lab"}


def test_parts_together_are_the_whole(versions: Versions) -> None:
    version = versions[DatasetPurpose.SCORES]
    parts = [lines(export(version, DatasetFormat.TRL, split)) for split in Split]
    assert [len(part) for part in parts] == list(version.card["parts"].values())
    assert all(parts)
    whole = lines(export(version, DatasetFormat.TRL))
    assert sorted(str(line) for part in parts for line in part) == sorted(map(str, whole))


def test_columns_of_a_part_are_those_of_the_whole(versions: Versions) -> None:
    version = versions[DatasetPurpose.SFT]
    heads = {export(version, DatasetFormat.CSV, split).splitlines()[0] for split in [None, *Split]}
    assert len(heads) == 1


def test_changed_rows_are_not_exported(versions: Versions, tmp_path: Path) -> None:
    version = versions[DatasetPurpose.SFT]
    path = get_settings().artifact_dir / version.artifact_path / "rows.jsonl"
    path.write_bytes(path.read_bytes().replace(b"better", b"bitter"))
    target = tmp_path / "out.csv"
    with pytest.raises(InvalidInput, match="not the file that was frozen"):
        export_version(version, DatasetFormat.CSV, target)
    assert list(tmp_path.glob("out*")) == []


def test_an_export_is_noted_and_needs_the_permission(store: Store, versions: Versions) -> None:
    version = versions[DatasetPurpose.SFT]
    asked: dict[str, Any] = {"version": version, "format": DatasetFormat.TRL, "split": Split.TEST}
    with store.writing() as db:
        begin_export(db, actor=SYSTEM, **asked)
        event = db.query(AuditEvent).filter_by(action="dataset.export").one()
        assert event.target_id == str(version.id)
        assert event.details == {
            "by": "system", "format": "trl", "split": "test", "name": "sft v1",
        }  # fmt: skip
        token = Actor("t", Role.ADMIN, scopes=frozenset({Permission.MANAGE_DATASETS}))
        with pytest.raises(Forbidden, match="export data"):
            begin_export(db, actor=token, **asked)
