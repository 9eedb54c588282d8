"""Checking rows in other processes, while this one writes.

Not `multiprocessing`: that would run the main module of the dashboard again in each child. A child
is `python -m rlhf_core.interchange.crew`; frames of plain values go through its pipes, and it ends
when they close, so none is left behind by whatever ends its parent.
"""

import gc
import marshal
import os
import queue
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import IO, Any

from rlhf_core.errors import InvalidInput, RlhfError, Unavailable
from rlhf_core.interchange.formats import Recipe, open_preparer
from rlhf_core.interchange.prepare import PreparedLine, as_plain, from_plain
from rlhf_core.interchange.readers import BrokenRow, Chunk

PIPE_BYTES = 1 << 20  # a child need not wait until its whole answer is taken
CHUNKS_AHEAD = 10  # as many as a batch holds: else the children stand still while one is written
LENGTH = struct.Struct("<Q")
Prepared = tuple[Chunk, list[PreparedLine]]


@contextmanager
def open_crew(recipe: Recipe, num_workers: int) -> Iterator["Crew"]:
    """A crew of `num_workers` processes; with 0 the work is done in this one."""
    if num_workers == 0:
        with open_preparer(recipe) as preparer:
            yield Crew(0, here=lambda chunk: [_prepare(preparer, *row) for row in chunk.rows])
        return
    children: list[subprocess.Popen[bytes]] = []
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def ask(chunk: Chunk) -> bytes:
        child = idle.get()
        try:
            _send(child.stdin, _pack(chunk))
            return _receive(child.stdout)
        except (OSError, EOFError) as error:
            raise Unavailable("A process of the import ended; start the import again.") from error
        finally:
            idle.put(child)

    try:
        children += [_start(recipe) for _ in range(num_workers)]
        for child in children:
            _wait_until_ready(child)
            idle.put(child)
        yield Crew(num_workers, ask=ask)
    finally:
        for child in children:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what was not sent yet is of no use any more
                        pipe.close()


@contextmanager
def calm_collector() -> Iterator[None]:
    """Let the garbage collector look less often: rows are many small objects without cycles.

    It would go through them again and again, for a fifth of the time, and find nothing.
    """
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Crew:
    """Prepares chunks, in order, a few ahead of who takes them."""

    def __init__(
        self,
        num_workers: int,
        *,
        here: Callable[[Chunk], list[PreparedLine]] | None = None,
        ask: Callable[[Chunk], bytes] | None = None,
    ) -> None:
        self._num_workers = num_workers
        self._here = here
        self._ask = ask

    def prepare(self, chunks: Iterable[Chunk]) -> Iterator[Prepared]:
        """Each chunk with its prepared lines."""
        if self._here is not None:
            for chunk in chunks:
                yield chunk, self._here(chunk)
        elif self._ask is not None:
            yield from self._prepare_elsewhere(chunks, self._ask)

    def _prepare_elsewhere(
        self, chunks: Iterable[Chunk], ask: Callable[[Chunk], bytes]
    ) -> Iterator[Prepared]:
        waiting: deque[tuple[Chunk, Future[bytes]]] = deque()
        with ThreadPoolExecutor(self._num_workers) as threads:
            try:
                for chunk in chunks:
                    waiting.append((chunk, threads.submit(ask, chunk)))
                    if len(waiting) > self._num_workers + CHUNKS_AHEAD:
                        yield _take_first(waiting)
                while waiting:
                    yield _take_first(waiting)
            finally:
                for _chunk, future in waiting:
                    future.cancel()


def _take_first(waiting: deque[tuple[Chunk, Future[bytes]]]) -> Prepared:
    """The oldest answer, unpacked here: in the thread it would fight for the interpreter's lock."""
    chunk, future = waiting.popleft()
    lines = marshal.loads(future.result())  # noqa: S302 - from our own child
    return chunk, [from_plain(line) for line in lines]


def _prepare(preparer: Any, number: int, raw: Any) -> PreparedLine:
    if isinstance(raw, BrokenRow):
        return PreparedLine(number, raw.reason)
    prepared: PreparedLine = preparer.prepare(number, raw)
    return prepared


def _pack(chunk: Chunk) -> bytes:
    rows = [(n, raw) for n, raw in chunk.rows if not isinstance(raw, BrokenRow)]
    broken = [(n, raw.reason) for n, raw in chunk.rows if isinstance(raw, BrokenRow)]
    return marshal.dumps((rows, broken))


def _start(recipe: Recipe) -> subprocess.Popen[bytes]:
    from rlhf_core.config import SOURCE_ROOT  # a child, which runs this module, needs no settings

    paths = [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=PIPE_BYTES,
            env=environment,
        )
    except OSError as error:
        raise Unavailable(
            f"A process of the import did not start ({error.strerror or error}); try again."
        ) from error
    _send(child.stdin, marshal.dumps(asdict(recipe)))  # by the pipe: the key is in no argument list
    return child


def _wait_until_ready(child: subprocess.Popen[bytes]) -> None:
    try:
        refusal = _receive(child.stdout).decode()
    except EOFError as error:
        raise Unavailable("A process of the import did not start; try again.") from error
    if refusal:
        raise InvalidInput(refusal)


def _send(pipe: IO[bytes] | None, data: bytes) -> None:
    if pipe is None:
        raise EOFError
    pipe.write(LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> bytes:
    head = b"" if pipe is None else pipe.read(LENGTH.size)
    if pipe is None or len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def serve() -> None:
    """Answer frames until the pipe closes."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    recipe = Recipe(**marshal.loads(_receive(requests)))  # noqa: S302 - from our own parent
    with ExitStack() as stack:
        stack.enter_context(calm_collector())
        try:
            preparer = stack.enter_context(open_preparer(recipe))
        except RlhfError as error:
            _send(answers, str(error).encode())
            return
        _send(answers, b"")
        while True:
            try:
                rows, broken = marshal.loads(_receive(requests))  # noqa: S302
            except EOFError:
                return
            lines = [PreparedLine(number, reason) for number, reason in broken]
            lines += [preparer.prepare(number, raw) for number, raw in rows]
            lines.sort(key=lambda line: line.number)
            _send(answers, marshal.dumps([as_plain(line) for line in lines]))


if __name__ == "__main__":
    serve()
