"""Pages of analysis over a million rows of feedback, as their viewers wait for them.

    python benchmarks/insight_pages.py [--rows 1000000] [--databases sqlite postgres]
        [--viewers 25] [--views 12] [--think 1 3]

Starts the real server. Each figure is of a period that nobody asked for before, so nothing comes
from the server's cache but where many viewers look at the same:

- load: the overview in a browser that has the scripts in its cache, from opening the address to the
  last chart drawn, by the clock of the page itself;
- drill-down: the rows behind a figure, any page of them, until all has arrived;
- viewers: so many tabs over Streamlit's websocket, each of which now and then chooses another
  period, action or model: from the choice to the last of what is drawn.

Prints one JSON line last.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._feedback_rows import ACTIONS, ENDS_AT, fill  # noqa: E402
from benchmarks._page_client import Tab, sign_in  # noqa: E402
from benchmarks.insights import open_server, refresh  # noqa: E402

NUM_LOADS = 8
NUM_DRILLS = 30
WATCH_CHARTS = """new MutationObserver((_, observer) => {
  const charts = ['overview_trend', 'overview_actions']
  if (charts.every(chart => document.querySelector(`.st-key-${chart} .trace`))) {
    window.drawn_at = performance.now()
    observer.disconnect()
  }
}).observe(document, {childList: true, subtree: true})"""
LAST_DAY = (ENDS_AT - timedelta(days=1)).date()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"])
    parser.add_argument("--viewers", type=int, default=25)
    parser.add_argument("--views", type=int, default=12, help="of each viewer")
    parser.add_argument("--think", type=float, nargs=2, default=(1.0, 3.0), metavar=("MIN", "MAX"))
    options = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "insight_pages", "rows": options.rows}
    for kind in options.databases:
        with tempfile.TemporaryDirectory() as folder, open_server(kind) as make_url:
            result[kind] = measure(Path(folder), make_url(options.rows), options)
    print(json.dumps(result))


def measure(folder: Path, url: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one database."""
    from rlhf_core.store import migrate
    from rlhf_core.store.engine import Store
    from tests.live_server import run_server

    store = Store(url)
    migrate.upgrade(store)
    fill(store, options.rows)
    refresh(store)
    with run_server(folder, RLHF_DATABASE_URL=url) as server:
        port = int(server.url.rsplit(":", 1)[1])
        links = [make_link(store) for _ in range(options.viewers + 2)]
        cookies = [sign_in(port, link) for link in links[1:]]
        figures: dict[str, Any] = {
            "load_ms": asyncio.run(measure_loads(server.url, links[0])),
            "drill_down_ms": asyncio.run(measure_drills(port, cookies[0])),
            "viewers": options.viewers,
            "rerun_ms": asyncio.run(measure_viewers(port, cookies[1:], options)),
        }
    store.close()
    print(url.split(":")[0], figures, file=sys.stderr)
    return figures


def make_link(store: Any) -> str:
    """The secret that signs a new analyst in."""
    from rlhf_core.accounts import service, tokens
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.clock import new_id
    from rlhf_core.vocabulary import Role

    name = f"analyst {new_id().hex}"
    with store.writing() as db:
        service.create_account(db, actor=SYSTEM, name=name, role=Role.ANALYST)
        return tokens.create_sign_in_link(db, actor=SYSTEM, account_name=name)


def find_period(number: int) -> dict[str, str]:
    """Days around a month that no lower number gives."""
    until = LAST_DAY - timedelta(days=number % 7)
    since = until - timedelta(days=29 + number // 7)
    return {"since": since.isoformat(), "until": until.isoformat()}


async def measure_loads(url: str, link: str) -> dict[str, float]:
    """From opening the address to the last chart of the overview."""
    from playwright.async_api import async_playwright

    from tests.browser.conftest import ARGUMENTS

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=ARGUMENTS
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        await page.add_init_script(WATCH_CHARTS)
        await page.goto(f"{url}/login?token={link}")
        await page.wait_for_selector(".st-key-sign_out", state="attached")
        took = []
        for number in range(-2, NUM_LOADS):  # the first two fill the browser's cache
            query = urlencode(find_period(100 + number))
            await page.goto(f"{url}/overview?{query}", wait_until="commit")
            drawn = await page.wait_for_function("() => window.drawn_at")
            took.append(await drawn.json_value())
        await browser.close()
    return spread(took[2:])


async def measure_drills(port: int, cookie: str) -> dict[str, float]:
    """The rows behind a figure, until all has arrived."""
    chance = random.Random(2)
    took = []
    async with Tab(port, cookie, "rows") as tab:
        for number in range(-2, NUM_DRILLS):
            query = find_period(50 + number) | {"row_verdict": chance.choice(("good", "bad"))}
            if chance.random() < 0.5:
                query["action"] = chance.choice(ACTIONS)
            tab.query = urlencode(query)
            took.append(1000 * await tab.run())
        if tab.drawn["alert"]:
            raise SystemExit("the page of rows failed")
    return spread(took[2:])


async def measure_viewers(
    port: int, cookies: list[str], options: argparse.Namespace
) -> dict[str, float]:
    """Many viewers, each of which chooses something else now and then."""
    took: list[float] = []
    open_pages = asyncio.Barrier(len(cookies))

    async def view(number: int, cookie: str) -> None:
        chance = random.Random(number)
        async with Tab(port, cookie, "trends" if number % 3 == 0 else "overview") as tab:
            await tab.run()
            await open_pages.wait()  # they do not come in the same second
            for _ in range(options.views):
                await asyncio.sleep(chance.uniform(*options.think))
                query: dict[str, Any] = find_period(chance.randrange(14))
                if chance.random() < 0.5:
                    query["action"] = chance.choice(ACTIONS)
                tab.query = urlencode(query)
                took.append(1000 * await tab.run())
            if tab.drawn["alert"] or tab.drawn["plotly_chart"] < 2 * (options.views + 1):
                raise SystemExit(f"a page failed: {tab.drawn}")

    await gather([lambda n=n, c=c: view(n, c) for n, c in enumerate(cookies)])
    return spread(took)


async def gather(works: list[Callable[[], Awaitable[None]]]) -> None:
    """All at once; the first that fails ends the benchmark."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work())  # type: ignore[arg-type]


def spread(values: list[float]) -> dict[str, float]:
    """The median, the 95th percentile and the worst, in whole milliseconds."""
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered)),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]),
        "max": round(ordered[-1]),
        "n": len(ordered),
    }


if __name__ == "__main__":
    main()
