"""Importing in one line, and asking the database what stands there then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.interchange.importers import ImportReport, import_file
from rlhf_core.interchange.mapping import load_mapping
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ImportFormat

MAPPINGS = Path(__file__).resolve().parents[2] / "mappings"
Importing = Callable[..., ImportReport]


@pytest.fixture
def import_lines(store: Store, tmp_path: Path) -> Importing:
    """Write lines (objects, or raw bytes) into a file and import it."""

    def run(
        *lines: Any,
        format: ImportFormat = ImportFormat.NATIVE,
        name: str = "app.jsonl",
        **options: Any,
    ) -> ImportReport:
        path = tmp_path / name
        path.write_bytes(
            b"".join(
                line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                for line in lines
            )
        )
        return import_file(store, path, format=format, actor=SYSTEM, **options)

    return run


@pytest.fixture
def import_real(store: Store, shared_data: Path, tmp_path: Path) -> Importing:
    """Import a folder of the real data with its ready-made mapping."""

    def run(mapping: str, folder: str | None = None, **options: Any) -> ImportReport:
        return import_file(
            store,
            shared_data / (folder or mapping),
            format=ImportFormat.TABLE,
            actor=SYSTEM,
            mapping=load_mapping(MAPPINGS / f"{mapping}.json"),
            rejected_path=tmp_path / "rejected.jsonl",
            **options,
        )

    return run


@pytest.fixture
def facts(shared_data: Path) -> dict[str, Any]:
    """Reference figures, counted independently."""
    data: dict[str, Any] = json.loads((shared_data / "FACTS.json").read_text())
    return data
