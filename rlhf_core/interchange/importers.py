"""Files of interactions and feedback into the database: streamed, checked, stored once.

A line is stored wholly or not at all. It is a duplicate where everything it says is stored already,
so a second import adds nothing, and one that was killed is simply run again.
"""

import marshal
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import to_moment_text, utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.interchange.bundle import RawRow
from rlhf_core.interchange.columns import check_columns
from rlhf_core.interchange.crew import calm_collector, open_crew
from rlhf_core.interchange.formats import Recipe
from rlhf_core.interchange.mapping import TableMapping
from rlhf_core.interchange.prepare import PreparedLine, as_plain, from_plain
from rlhf_core.interchange.readers import BrokenRow, open_rows
from rlhf_core.interchange.rejects import RefusedLine, Rejects
from rlhf_core.interchange.writer import Outcome, Writer, open_writer
from rlhf_core.privacy.pseudonyms import check_key
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ImportFormat

BATCH_ROWS = 30_000  # in one transaction: each page of an index is written once for all of them
BATCH_CHUNKS = 24  # of about half a megabyte each: rows may be long
SMALL_FILE_BYTES = 8_000_000
MAX_SOURCE_CHARS = 200

OnProgress = Callable[[float, int], object]
"""Called with the part of the file that is done (0..1) and the number of lines read."""


@dataclass(frozen=True)
class ImportReport:
    """What became of a file. `stored + rejected + duplicate == lines`; blank lines do not count.

    `num_*` count the database rows added. `reasons` holds the first refused lines, `rejected_path`
    names the file with all of them (None where there are none).
    """

    lines: int
    stored: int
    rejected: int
    duplicate: int
    num_interactions: int
    num_steps: int
    num_feedback: int
    num_comparisons: int
    num_raters: int
    rejected_path: Path | None
    reasons: tuple[RefusedLine, ...]
    source: str
    is_dry_run: bool

    @property
    def num_rows(self) -> int:
        """Database rows added."""
        return (
            self.num_interactions
            + self.num_steps
            + self.num_feedback
            + self.num_comparisons
            + self.num_raters
        )


def import_file(
    store: Store,
    path: Path,
    *,
    format: ImportFormat,
    actor: Actor,
    mapping: TableMapping | None = None,
    source: str | None = None,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
    rejected_path: Path | None = None,
    num_workers: int | None = None,
) -> ImportReport:
    """Read a file into the database; bad lines are refused one by one and never stop the rest.

    Args:
        store: where to.
        path: the file; a folder where the mapping names its file.
        format: what the lines are.
        actor: who imports; needs the permission to import data.
        mapping: what the columns mean; for the format `table` only.
        source: replaces the source named in file or mapping; without any of them it is the file's
            name up to the first dot.
        dry_run: report the same, store nothing.
        on_progress: see `OnProgress`; called after each batch.
        rejected_path: where refused lines go; `<file>.rejected.jsonl` by default.
        num_workers: processes that check rows; chosen by the file's size by default.

    Raises:
        Forbidden: the actor may not.
        InvalidInput: the file cannot be read, or the mapping does not fit it.
        Conflict: the database was filled with another pseudonym key.
    """
    require(actor, Permission.IMPORT_DATA)
    path = find_file(path, mapping)
    if format is ImportFormat.TABLE:
        if mapping is None:
            raise InvalidInput("A table needs a mapping: --map prompt=COLUMN, or --mapping FILE.")
        check_columns(path, mapping)
    chosen = source or (mapping.source if mapping else None) or path.name.partition(".")[0]
    if not chosen.strip() or len(chosen) > MAX_SOURCE_CHARS:
        raise InvalidInput(f"The source {chosen!r} is empty or over {MAX_SOURCE_CHARS} characters.")
    now = to_moment_text(utcnow())
    recipe = Recipe(
        format=format.value,
        source=chosen,
        is_source_forced=source is not None,
        mapping=mapping.raw if mapping else None,
        folder=str(path.resolve().parent),
        key=get_settings().read_secret_key().decode(),
        now=now,
    )
    details = {"file": path.name, "format": format.value, "source": chosen}
    if not dry_run:
        with store.writing() as db:
            check_key(db, get_settings().read_secret_key())
            record_event(db, actor=actor, action="import.start", details=details)
    if num_workers is None:
        num_workers = _choose_workers(path)
    rejects = Rejects(rejected_path or path.with_name(f"{path.name}.rejected.jsonl"))
    try:
        with calm_collector(), open_writer(store, now=now, dry_run=dry_run) as writer:
            run = _Run(writer, rejects, on_progress or (lambda done, lines: None))
            run.read(path, recipe, num_workers)
            report = run.report(source=chosen, is_dry_run=dry_run)
    finally:
        rejects.close()
    if not dry_run:
        counts = {k: v for k, v in vars(report).items() if isinstance(v, int)}
        with store.writing() as db:
            record_event(db, actor=actor, action="import.finish", details={**details, **counts})
    return report


def find_file(path: Path, mapping: TableMapping | None) -> Path:
    """The file itself, or the one of a folder that the mapping names.

    Raises:
        InvalidInput: there is no such file.
    """
    if path.is_dir():
        if mapping is None or mapping.file is None:
            raise InvalidInput(
                f"{path} is a folder: name a file, or a mapping that names its `file`."
            )
        path = path / mapping.file
    if not path.is_file():
        raise InvalidInput(f"There is no file {path}.")
    return path


def _choose_workers(path: Path) -> int:
    """None for a small file, for which starting a process takes longer than the work."""
    if path.stat().st_size < SMALL_FILE_BYTES:
        return 0
    return max(0, min(3, (os.cpu_count() or 1) - 1))


class _Run:
    """One pass over a file, then passes over the lines that waited for others further down."""

    def __init__(self, writer: Writer, rejects: Rejects, on_progress: OnProgress) -> None:
        self._writer = writer
        self._rejects = rejects
        self._on_progress = on_progress
        self._batch: list[PreparedLine] = []
        self._raws: list[RawRow | BrokenRow] = []
        self._num_rows = self._num_chunks = 0
        self._lines = 0
        self._counts = dict.fromkeys(Outcome, 0)
        self._waiting: IO[bytes] | None = None

    def read(self, path: Path, recipe: Recipe, num_workers: int) -> None:
        """Read the file to its end."""
        is_table = recipe.format == ImportFormat.TABLE.value
        chunks = open_rows(path, None if is_table else "jsonl")  # says itself what it cannot read
        try:
            self._waiting = _open_waiting()
            with open_crew(recipe, num_workers) as crew:
                for chunk, lines in crew.prepare(chunks):
                    self._lines += len(lines)
                    for (_number, raw), line in zip(chunk.rows, lines, strict=True):
                        self._take(line, raw, is_last=False)
                    self._num_chunks += 1
                    if self._num_chunks >= BATCH_CHUNKS:
                        self._flush(is_last=False)
                    self._on_progress(chunk.done, self._lines)
            self._flush(is_last=False)
            self._settle_waiting()
        except OSError as error:
            raise Unavailable(
                f"The import cannot write its temporary files ({error.strerror or error}): free "
                f"space in {_temporary_folder()}, and start it again; nothing is stored twice."
            ) from error
        finally:
            if self._waiting is not None:
                self._waiting.close()
        self._on_progress(1.0, self._lines)

    def report(self, *, source: str, is_dry_run: bool) -> ImportReport:
        """The sums."""
        return ImportReport(
            lines=self._lines,
            stored=self._counts[Outcome.STORED],
            rejected=self._rejects.count,
            duplicate=self._counts[Outcome.DUPLICATE],
            **vars(self._writer.counts),
            rejected_path=self._rejects.path,
            reasons=tuple(self._rejects.first),
            source=source,
            is_dry_run=is_dry_run,
        )

    def _take(self, line: PreparedLine, raw: RawRow | BrokenRow, *, is_last: bool) -> None:
        if line.reason is not None:
            self._rejects.add(line.number, line.reason, raw)
            return
        self._batch.append(line)
        self._raws.append(raw)
        self._num_rows += line.num_rows
        if self._num_rows >= BATCH_ROWS:
            self._flush(is_last=is_last)

    def _flush(self, *, is_last: bool) -> None:
        lines, raws = self._batch, self._raws
        self._batch, self._raws = [], []
        self._num_rows = self._num_chunks = 0
        outcomes, reasons = self._writer.write(lines, is_last=is_last) if lines else ([], {})
        for outcome in Outcome:
            self._counts[outcome] += outcomes.count(outcome)
        for at, reason in reasons.items():
            line, raw = lines[at], raws[at]
            if outcomes[at] is Outcome.REJECTED:
                self._rejects.add(line.number, reason, raw)
            elif self._waiting is not None:
                plain = raw.raw if isinstance(raw, BrokenRow) else raw
                entry = marshal.dumps((as_plain(line), plain))
                self._waiting.write(len(entry).to_bytes(8, "little") + entry)

    def _settle_waiting(self) -> None:
        """Take the waiting lines until none finds what it waits for; then refuse what is left.

        A line may wait for one that waits itself: a single pass would refuse good lines.
        """
        is_last = False
        while self._waiting is not None:
            num_waiting = self._counts[Outcome.WAITING]
            self._counts[Outcome.WAITING] = 0
            with self._waiting as waited:
                self._waiting = None if is_last else _open_waiting()
                for line, raw in _read_waiting(waited):
                    self._take(line, raw, is_last=is_last)
                self._flush(is_last=is_last)
            is_last = self._counts[Outcome.WAITING] == num_waiting


def _open_waiting() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="rlhf-waiting-")


def _temporary_folder() -> str:
    """Where temporary files go; finding it fails, too, where no folder can be written."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return "the folder that TMPDIR names"


def _read_waiting(waited: IO[bytes]) -> Iterator[tuple[PreparedLine, RawRow]]:
    waited.seek(0)
    while head := waited.read(8):
        line, raw = marshal.loads(  # noqa: S302 - our own temporary file
            waited.read(int.from_bytes(head, "little"))
        )
        yield from_plain(line), raw
