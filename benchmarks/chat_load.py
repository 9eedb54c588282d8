"""Conversations and reranks under load while versions are swapped, then a killed process.

    python benchmarks/chat_load.py [--clients 50] [--reranks 20] [--swaps 10] [--seconds 60]

Starts the real server with its inference process on a fresh folder. A starter policy and a reward
model are made of generated interactions and registered many times over, so that each swap loads
files. While `--clients` people chat (streamed, with `--think` seconds between an answer and the
next message) and `--reranks` orders of ten candidates a second are asked for, both models are
promoted `--swaps` times. A request that gets no answer of a model counts as failed, a rerank that
falls back too. Then the inference process is killed: how soon reranks come back in their own order,
what chat says, and after how long both answer again. Prints one JSON line last.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import psutil  # noqa: E402
import sqlalchemy as sa  # noqa: E402

from benchmarks._serving_world import (  # noqa: E402
    DAYS,
    TOPICS,
    make_token,
    prepare,
    register,
    running_server,
)

CANDIDATES = 10
ANSWER_TOKENS = 32
PATIENCE_S = 90.0


@dataclass
class Seen:
    """Milliseconds of what was answered, what failed, and how often each version answered."""

    first_piece: list[float] = field(default_factory=list)
    chat: list[float] = field(default_factory=list)
    rerank: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--think", type=float, nargs=2, default=(1.0, 3.0), metavar=("MIN", "MAX"))
    parser.add_argument("--reranks", type=float, default=20.0, help="a second")
    parser.add_argument("--swaps", type=int, default=10, help="of both models")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    results: dict[str, Any] = {"benchmark": "chat_load", **vars(options)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = prepare(folder)
        versions = register(folder, options.swaps + 1)
        with running_server(folder, environment) as (url, process):
            headers = {"authorization": f"Bearer {make_token()}"}
            results |= asyncio.run(run(url, headers, process, versions, options))
            results["log"] = count_log()
    print(json.dumps(results))


async def run(
    url: str,
    headers: dict[str, str],
    process: "subprocess.Popen[bytes]",
    versions: dict[str, list[uuid.UUID]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(
        base_url=f"{url}/api/v1", headers=headers, timeout=60, limits=limits
    ) as client:
        started = time.perf_counter()
        await wait_until(lambda: _both_answer(client))
        ready_s = time.perf_counter() - started
        seen, ended = Seen(), asyncio.Event()
        people = [
            asyncio.create_task(talk(client, number, options.think, seen, ended))
            for number in range(options.clients)
        ]
        orders = asyncio.create_task(ask_orders(client, options.reranks, seen, ended))
        for number in range(1, options.swaps + 1):
            await asyncio.sleep(options.seconds / (options.swaps + 1))
            await asyncio.to_thread(swap, versions, number)
        await asyncio.sleep(options.seconds / (options.swaps + 1))
        ended.set()
        await asyncio.gather(orders, *people)
        found = {
            "ready_s": round(ready_s, 1),
            "requests": len(seen.chat) + len(seen.rerank) + len(seen.failed),
            "failed": len(seen.failed),
            "failures": Counter(seen.failed).most_common(5),
            "chat_ms": _percentiles(seen.chat),
            "first_piece_ms": _percentiles(seen.first_piece),
            "rerank_ms": _percentiles(seen.rerank),
            "answers_a_version": dict(sorted(seen.versions.items())),
        }
        print(json.dumps(found, indent=1))
        found["killed"] = await kill_and_watch(client, process)
        print(json.dumps(found["killed"], indent=1))
    return found


async def talk(
    client: httpx.AsyncClient,
    number: int,
    think: tuple[float, float],
    seen: Seen,
    ended: asyncio.Event,
) -> None:
    """One person: asks, reads the answer as it streams, thinks."""
    chance = random.Random(number)
    await asyncio.sleep(chance.uniform(0, think[1]))
    while not ended.is_set():
        asked = f"Book {chance.choice(TOPICS)} on {chance.choice(DAYS)}, please ({number})."
        started = time.perf_counter()
        try:
            first, version = await _stream(client, asked, started, f"person {number}")
        except (httpx.HTTPError, RuntimeError, ValueError, KeyError) as error:
            seen.failed.append(f"chat: {error!r}"[:200])
        else:
            seen.first_piece.append(first)
            seen.chat.append(1e3 * (time.perf_counter() - started))
            seen.versions[version] += 1
        await asyncio.sleep(chance.uniform(*think))


async def _stream(
    client: httpx.AsyncClient, asked: str, started: float, user: str
) -> tuple[float, str]:
    """Milliseconds until the first piece, and the version that answered."""
    body = {
        "model": "assistant", "messages": [{"role": "user", "content": asked}], "stream": True,
        "max_tokens": ANSWER_TOKENS, "user": user,
    }  # fmt: skip
    first, version, is_done = 0.0, "", False
    async with client.stream("POST", "/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise RuntimeError(f"{response.status_code}: {(await response.aread())[:200]!r}")
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                is_done = True
            elif line.startswith("data: "):
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    raise RuntimeError(chunk["error"]["message"])
                version = chunk["model"]
                if not first and chunk["choices"][0]["delta"].get("content"):
                    first = 1e3 * (time.perf_counter() - started)
    if not is_done:
        raise RuntimeError("the stream broke off")
    return first or 1e3 * (time.perf_counter() - started), version


async def ask_orders(
    client: httpx.AsyncClient, per_s: float, seen: Seen, ended: asyncio.Event
) -> None:
    """So many orders a second, whether the ones before are answered or not."""
    chance = random.Random(0)
    waiting: set[asyncio.Task[None]] = set()
    while not ended.is_set():
        task = asyncio.create_task(_order(client, chance, seen))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        await asyncio.sleep(1 / per_s)
    await asyncio.gather(*waiting)


async def _order(client: httpx.AsyncClient, chance: random.Random, seen: Seen) -> None:
    started = time.perf_counter()
    try:
        found = await rerank(client, chance)
        if found["is_fallback"]:
            raise RuntimeError(found["reason"])
    except (httpx.HTTPError, RuntimeError, ValueError) as error:
        seen.failed.append(f"rerank: {error!r}"[:200])
    else:
        seen.rerank.append(1e3 * (time.perf_counter() - started))
        seen.versions[found["model_version"]] += 1


async def rerank(client: httpx.AsyncClient, chance: random.Random) -> Any:
    texts = [
        f"{chance.choice(TOPICS)} is booked for {chance.choice(DAYS)}, option {chance.random():.3f}"
        for _ in range(CANDIDATES)
    ]
    body = {"query": f"Book {chance.choice(TOPICS)}.", "candidates": texts}
    response = await client.post("/rerank", json=body)
    response.raise_for_status()
    return response.json()


def swap(versions: dict[str, list[uuid.UUID]], number: int) -> None:
    """Promote the next version of both models."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.registry.service import promote_version
    from rlhf_core.store.engine import get_store

    for ids in versions.values():
        with get_store().writing() as db:
            promote_version(db, ids[number], actor=SYSTEM, reason=f"swap {number}")


async def kill_and_watch(
    client: httpx.AsyncClient, process: "subprocess.Popen[bytes]"
) -> dict[str, Any]:
    """What callers get after `kill -9` of the inference process, and when all is as before."""
    chance = random.Random(1)
    for child in psutil.Process(process.pid).children(recursive=True):
        if "inference" in child.cmdline():
            child.kill()
            child.wait()
    killed = time.perf_counter()
    order = await rerank(client, chance)
    fallback_s = time.perf_counter() - killed
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Book a call."}]}
    refused = await client.post("/chat/completions", json=body)
    reranks: list[float] = []
    back: dict[str, float] = {}
    while len(back) < 2 and time.perf_counter() - killed < PATIENCE_S:
        started = time.perf_counter()
        found = await rerank(client, chance)
        reranks.append(1e3 * (time.perf_counter() - started))
        if not found["is_fallback"]:
            back.setdefault("rerank", round(time.perf_counter() - killed, 2))
        answered = await client.post("/chat/completions", json={**body, "max_tokens": 2})
        if answered.status_code == 200:
            back.setdefault("chat", round(time.perf_counter() - killed, 2))
        await asyncio.sleep(0.1)
    return {
        "rerank_fell_back": order["is_fallback"],
        "rerank_fallback_s": round(fallback_s, 3),
        "rerank_ms_meanwhile": _percentiles(reranks),
        "chat_status": refused.status_code,
        "chat_retry_after": refused.headers.get("retry-after"),
        "answers_again_after_s": back,
    }


async def _both_answer(client: httpx.AsyncClient) -> bool:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Book a call."}],
            "max_tokens": 2}  # fmt: skip
    try:
        found = await rerank(client, random.Random(2))
        answered = await client.post("/chat/completions", json=body)
    except httpx.HTTPError:
        return False
    return answered.status_code == 200 and not found["is_fallback"]


async def wait_until(what: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await what():
        if time.monotonic() > deadline:
            raise SystemExit(f"not ready after {PATIENCE_S:g} s")
        await asyncio.sleep(0.2)


def count_log() -> dict[str, int]:
    """Rows of the served log by what they say."""
    from rlhf_core.store.engine import get_store
    from rlhf_core.store.tables import ServedLogEntry

    time.sleep(1.0)  # the logbook writes in batches
    kinds = (ServedLogEntry.endpoint, ServedLogEntry.is_error)
    with get_store().reading() as db:
        rows = db.execute(sa.select(*kinds, sa.func.count()).group_by(*kinds)).all()
    return {f"{endpoint}{' failed' if is_error else ''}": num for endpoint, is_error, num in rows}


def _percentiles(times: list[float]) -> dict[str, float]:
    if not times:
        return {}
    ordered = sorted(times)
    return {
        name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }


if __name__ == "__main__":
    main()
