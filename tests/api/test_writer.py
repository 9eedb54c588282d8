import asyncio
import threading
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.api.writer import MAX_TOGETHER, Writer
from rlhf_core.errors import NotFound, Unavailable
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import StoreFact
from tests.databases import only_sqlite


def add(name: str) -> "sa.Executable":
    return sa.insert(StoreFact).values(name=name, value="x")


def names(store: Store) -> set[str]:
    with store.reading() as db:
        return set(db.scalars(sa.select(StoreFact.name)))


def test_what_run_returns_is_committed(store: Store) -> None:
    async def scenario() -> None:
        writer = Writer(store)

        def work(db: Session) -> str:
            db.execute(add("fact"))
            return "done"

        assert await writer.run(work) == "done"
        assert names(store) == {"fact"}  # read on another connection
        writer.close()

    asyncio.run(scenario())


def test_one_that_fails_takes_nothing_of_the_others_with_it(store: Store) -> None:
    async def scenario() -> None:
        writer = Writer(store)
        hold = threading.Event()

        def first(db: Session) -> None:
            hold.wait(20)
            db.execute(add("first"))

        def good(number: int) -> None:
            def work(db: Session) -> None:
                db.execute(add(f"good {number}"))

            return work  # type: ignore[return-value]

        def refused(db: Session) -> None:
            db.execute(add("half"))
            raise NotFound("no such thing")

        def broken(db: Session) -> None:
            db.execute(add("taken"))  # breaks UNIQUE

        with store.writing() as db:
            db.execute(add("taken"))
        works = [first, good(1), refused, good(2), broken, good(3)]
        tasks = [asyncio.ensure_future(writer.run(work)) for work in works]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        hold.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
        kinds = [type(result) for result in done]
        assert kinds[:4] == [type(None), type(None), NotFound, type(None)]
        assert {"taken", "first", "good 1", "good 2", "good 3"} == names(store)
        assert issubclass(kinds[4], sa.exc.IntegrityError)

    asyncio.run(scenario())


@only_sqlite
def test_more_than_a_batch_all_arrive_in_order(store: Store) -> None:
    async def scenario() -> None:
        writer = Writer(store)
        seen: list[int] = []

        def work_of(number: int) -> None:
            def work(db: Session) -> None:
                db.execute(add(f"{number} {uuid.uuid4()}"))
                seen.append(number)

            return work  # type: ignore[return-value]

        total = 3 * MAX_TOGETHER + 5
        await asyncio.gather(*(writer.run(work_of(n)) for n in range(total)))  # type: ignore[arg-type]
        writer.close()
        assert seen == list(range(total))
        assert len(names(store)) == total

    asyncio.run(scenario())


@only_sqlite
def test_database_that_is_gone_is_reported_to_each_who_waits(store: Store) -> None:
    async def scenario() -> None:
        writer = Writer(store)
        with store.writing() as db:
            db.execute(sa.text("DROP TABLE store_facts"))

        def work(db: Session) -> None:
            db.execute(add("fact"))

        done = await asyncio.gather(writer.run(work), writer.run(work), return_exceptions=True)
        writer.close()
        assert [type(result) for result in done] == [Unavailable, Unavailable]

    asyncio.run(scenario())
