"""The real files, imported into one database: each a source, each task of cohere_hf another."""

import json
import shutil
from pathlib import Path
from typing import Any

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.interchange.importers import import_file
from rlhf_core.interchange.mapping import load_mapping
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ImportFormat

MAPPINGS = Path(__file__).resolve().parents[2] / "mappings"
COHERE_TASKS = ("score_only", "errors_and_overall")
WHOLE = ("cohere_hf", "pandalm", "tulu1", "qags", "grade", "popquorn_offensiveness", "convai2")


def import_real_files(store: Store, shared_data: Path, folder: Path) -> None:
    """Import all of them; parts of files are written into `folder`."""
    for name in WHOLE:
        _import(store, shared_data / name, name)
    for task in COHERE_TASKS:
        _import(store, _pick_task(shared_data, folder, task), "cohere_hf", source=task)


def _import(store: Store, folder: Path, mapping: str, **options: Any) -> None:
    report = import_file(
        store,
        folder,
        format=ImportFormat.TABLE,
        actor=SYSTEM,
        mapping=load_mapping(MAPPINGS / f"{mapping}.json"),
        num_workers=1,
        **options,
    )
    assert report.rejected == 0


def _pick_task(shared_data: Path, folder: Path, task: str) -> Path:
    part = folder / task
    part.mkdir()
    shutil.copy(shared_data / "cohere_hf" / "responses.jsonl", part)
    with (shared_data / "cohere_hf" / "ratings.jsonl").open() as file:
        lines = [line for line in file if json.loads(line)["task"] == task]
    (part / "ratings.jsonl").write_text("".join(lines))
    return part
