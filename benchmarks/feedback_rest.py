"""Feedback a second over HTTP, durable before the 201; beside MLflow's REST server if it is given.

    python benchmarks/feedback_rest.py [--seconds 5] [--mlflow-python PATH]

Starts the real server on a fresh SQLite database. Each request is a new row of a new rater or
interaction, sent on kept-alive connections by 1 and by 8 clients. At the end the rows in the
database are counted against the 201s. `--mlflow-python` is the Python of an environment with
mlflow; `--peer` is the script that drives MLflow the same way. Prints one JSON line last.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NUM_INTERACTIONS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--mlflow-python", type=Path, help="Python of an environment with mlflow")
    parser.add_argument(
        "--peer", type=Path, default=ROOT.parent / "shared" / "bench" / "peer_mlflow.py"
    )
    options = parser.parse_args()
    results: dict[str, object] = {"benchmark": "feedback_rest", "seconds": options.seconds}
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as (port, token):
        ids = store_interactions(port, token)
        numbers = count()
        measure(port, token, ids, numbers, num_clients=2, seconds=1.0)  # warm
        ours = {n: measure(port, token, ids, numbers, n, options.seconds) for n in (1, 8)}
        for num_clients, figures in ours.items():
            results[f"clients_{num_clients}"] = figures
            print(f"{num_clients} client(s): {figures}")
        stored = next(numbers)
        with sqlite3.connect(Path(folder) / "rlhf.db") as db:
            rows = db.execute("SELECT count(*) FROM feedback").fetchone()[0]
        results["acknowledged"], results["in_database"] = stored, rows
        if rows != stored:
            raise SystemExit(f"{stored} acknowledged, {rows} in the database")
    if options.mlflow_python:
        results["mlflow"] = peer = run_peer(options.mlflow_python, options.peer)
        for num_clients in (1, 8):
            ratio = round(ours[num_clients]["per_s"] / peer["per_s"], 1)
            results[f"ratio_clients_{num_clients}"] = ratio
    print(json.dumps(results))


@contextmanager
def running_server(folder: Path) -> Iterator[tuple[int, str]]:
    """The server on a free port and a fresh database, and a token for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RLHF_")}
    environment |= {
        "RLHF_DATA_DIR": str(folder),
        "RLHF_PORT": str(port),
        "RLHF_START_CHILDREN": "false",
    }
    process = subprocess.Popen(
        [sys.executable, ROOT / "server.py"],
        env=environment, cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until_healthy(process, port)
        command = [sys.executable, "-m", "rlhf_core", "token", "create", "benchmark", "--json"]
        for scope in ("rate", "write_interactions"):
            command += ["--scope", scope]
        made = subprocess.run(
            command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True
        )
        yield port, json.loads(made.stdout)["token"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit("the server ended; see its message above")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/_stcore/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server was not healthy after 60 s")


class Client:
    """A kept-alive connection with the token."""

    def __init__(self, port: int, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: dict[str, object]) -> dict[str, object]:
        self.connection.request("POST", path, json.dumps(body), self.headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 201:
            raise SystemExit(f"{path} answered {response.status}: {answer}")
        return answer


def store_interactions(port: int, token: str) -> list[object]:
    client = Client(port, token)
    return [
        client.post(
            "/api/v1/interactions",
            {"prompt": f"add milk to my list {n}", "completion": f"Added 'milk' ({n})."},
        )["id"]
        for n in range(NUM_INTERACTIONS)
    ]


def measure(
    port: int,
    token: str,
    ids: list[object],
    numbers: "count[int]",
    num_clients: int,
    seconds: float,
) -> dict[str, float]:
    """Requests a second, and the milliseconds of one, of clients that send without a pause."""
    latencies: list[float] = []
    failures: list[BaseException] = []
    end = time.perf_counter() + seconds

    def send() -> None:
        try:
            client = Client(port, token)
            while time.perf_counter() < end:
                number = next(numbers)
                body = {
                    "interaction_id": ids[number % len(ids)],
                    "rater": f"rater {number // len(ids)}",
                    "thumb": 1 if number % 3 else -1,
                    "comment": "short comment",
                }
                started = time.perf_counter()
                client.post("/api/v1/feedback", body)
                latencies.append(1e3 * (time.perf_counter() - started))
        except BaseException as error:  # noqa: BLE001 - raised by the main thread
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(num_clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if failures:
        raise failures[0]
    latencies.sort()
    return {
        "num": len(latencies),
        "per_s": round(len(latencies) / took, 1),
        "p50_ms": round(statistics.median(latencies), 2),
        "p95_ms": round(latencies[int(0.95 * (len(latencies) - 1))], 2),
    }


def run_peer(python: Path, script: Path) -> dict[str, float]:
    """MLflow's own figures for feedback over its REST server, one client."""
    done = subprocess.run(
        [python, script, "--mode", "rest"], capture_output=True, text=True, check=True
    )
    peer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["feedback"]
    print(f"MLflow, 1 client: {peer}")
    return peer


if __name__ == "__main__":
    main()
