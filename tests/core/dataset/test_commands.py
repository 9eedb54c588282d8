"""`dataset` as a person types it."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.dataset.export import export_version
from rlhf_core.dataset.service import get_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetFormat
from tests.core.dataset.frozen import fill
from tests.databases import only_sqlite

pytestmark = only_sqlite


def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """The store's address is in the environment (fixture `store`)."""
    return subprocess.run(
        [sys.executable, "-m", "rlhf_core", "dataset", *map(str, arguments)],
        cwd=SOURCE_ROOT, capture_output=True, check=False,
    )  # fmt: skip


def run_json(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_freeze_check_and_export_pairs(store: Store, tmp_path: Path) -> None:
    with store.writing() as db:
        fill(db)
    options = ("--purpose", "preferences", "--pair-origin", "ratings", "--source", "app")
    ready = run_json("check", *options)
    assert (ready["have"], ready["need"]) == (8, 50)
    assert ready["left_out"]
    frozen = run_json("freeze", *options, "--test-percent", "25", "--validation-percent", "25")
    version = frozen["version"]
    assert (version["dataset"], version["num_rows"]) == ("pairs", 8)
    assert version["params"]["filters"]["source"] == "app"
    assert version["params"]["split"]["validation_percent"] == 25
    assert not run_json("freeze", *options, "--test-percent", "25", "--validation-percent", "25")[
        "was_created"
    ]
    expected = io.BytesIO()
    with store.reading() as db:
        export_version(get_version(db, "pairs", actor=SYSTEM), DatasetFormat.CSV, expected)
    out = tmp_path / "pairs.csv"
    report = run_json("export", "pairs", "--number", 1, "--format", "csv", "--out", out)
    assert (report["rows"], out.read_bytes()) == (8, expected.getvalue())
    shown = run("export", "pairs", "--format", "csv")
    assert shown.stdout == expected.getvalue()
    assert b"8 rows of pairs v1 written" in shown.stderr
    assert run("card", "pairs").stdout.startswith(b"# pairs v1\n")


def test_what_cannot_be_frozen_is_one_sentence(store: Store) -> None:
    done = run("freeze", "--purpose", "sft")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: 0 usable rows, 1 more needed")
    done = run("freeze", "--threshold", "9")
    assert done.stderr.startswith(b"Error: threshold 9: choose above 1")
