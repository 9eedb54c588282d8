"""`import` and `export` as a person types them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlhf_core.config import SOURCE_ROOT
from rlhf_core.store.engine import Store
from tests.databases import postgres_is_slow

pytestmark = postgres_is_slow

EXAMPLE = Path(__file__).resolve().parents[2] / "data" / "native_example.jsonl"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The store's address is in the environment (fixture `store`)."""
    return subprocess.run(
        [sys.executable, "-m", "rlhf_core", *map(str, arguments)],
        cwd=SOURCE_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def run_json(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_import_and_export_print_one_json_document(store: Store, tmp_path: Path) -> None:
    trial = run_json("import", EXAMPLE, "--format", "native", "--dry-run")
    assert (trial["stored"], trial["is_dry_run"]) == (4, True)
    real = run_json("import", EXAMPLE, "--format", "native")
    assert (real["stored"], real["num_interactions"], real["rejected_path"]) == (4, 2, None)
    out = tmp_path / "all.jsonl"
    assert run_json("export", "--format", "native", "--out", out)["lines"] == 4
    shown = run("export", "--format", "native")
    assert shown.stdout == out.read_text(encoding="utf-8")
    assert "4 lines written" in shown.stderr


def test_a_table_is_mapped_by_pairs_and_refused_lines_are_listed(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("q,a,stars\nWhy?,So.,5\nWhy?,No.,9\n")
    done = run(
        "import", path, "--format", "table", "--map", "prompt=q", "--map", "completion=a",
        "--map", "rating=stars", "--source", "shop",
    )  # fmt: skip
    assert done.returncode == 0
    assert "2 lines read: 1 stored, 0 duplicate, 1 rejected" in done.stdout
    assert "Line 3: feedback.0.rating" in done.stderr
    entry = json.loads((tmp_path / "t.csv.rejected.jsonl").read_text())
    assert (entry["line"], entry["row"]["stars"]) == (3, "9")


def test_our_errors_are_one_sentence_and_exit_code_1(store: Store, tmp_path: Path) -> None:
    done = run("import", tmp_path / "none", "--format", "native")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: There is no file")
    assert done.stderr.count("\n") == 1
