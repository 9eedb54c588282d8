"""What goes into a queue: what matches, and by which share of chance."""

import random
import sqlite3
import tracemalloc
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.encoder.cache import find_stored, make_key
from rlhf_core.queues import selection
from rlhf_core.queues.filters import QueueFilter, count_matching
from rlhf_core.queues.selection import pick_unlike, select_items, select_pairs
from rlhf_core.registry.scores import store_rewards
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import QueueOrder, QueueSubject, RatingState
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.registry.world import make_version
from tests.databases import only_sqlite


def select(db: Session, limit: int = 100, **fields: object) -> list[uuid.UUID]:
    chosen = select_items(
        db,
        actor=SYSTEM,
        where=QueueFilter(**fields),
        limit=limit,  # type: ignore[arg-type]
    )
    return [item.interaction_id for item in chosen]


def test_each_part_of_a_filter_leaves_out_what_does_not_match(store: Store) -> None:
    now = utcnow()
    hour_ago = now - timedelta(hours=1)
    with store.writing() as db:
        old = make_interaction(db, occurred_at=now - timedelta(days=9), action_type="book").id
        tea = make_interaction(db, prompt="Green TEA?", source="shop", occurred_at=hour_ago).id
        new = make_interaction(
            db, completion="100% tea_time", model_name="m2", steps=2, occurred_at=now
        ).id
        assert select(db) == [old, tea, new]
        assert select(db, source="shop") == [tea]
        assert select(db, action_type="book") == [old]
        assert select(db, model_name="m2") == [new]
        assert select(db, text=" tea") == [tea, new]
        assert select(db, text="%") == [new]
        assert select(db, text="tea_") == [new]
        assert select(db, since=now - timedelta(days=1)) == [tea, new]
        assert select(db, until=hour_ago) == [old]
        assert select(db, subject=QueueSubject.STEPS) == [new]
        assert select(db, model_version_id=uuid.uuid4()) == []
        assert count_matching(db, QueueFilter(text="tea"), actor=SYSTEM) == 2
        assert select(db, limit=2) == [old, tea]


def test_rating_states_count_current_judgements_of_different_people(store: Store) -> None:
    with store.writing() as db:
        none, one, agreed, apart, thumbs, steps = (
            make_interaction(db, steps=1).id for _ in range(6)
        )
        ann, ben = make_actor(db), make_actor(db)
        make_feedback(db, none, actor=ann, comment="no judgement")
        make_feedback(db, one, actor=ann)
        make_feedback(db, one, actor=ann, occasion=1, rating=1)
        for actor, ratings in ((ann, (4, 5)), (ben, (3, 3))):
            make_feedback(db, agreed, actor=actor, rating=ratings[0])
            make_feedback(db, apart, actor=actor, rating=ratings[1])
        for actor, thumb in ((ann, 1), (ben, -1)):
            make_feedback(db, thumbs, actor=actor, thumb=thumb)
            make_feedback(db, steps, actor=actor, step=0, label=thumb)
        of_steps = {"subject": QueueSubject.STEPS}
        assert select(db, rating_state=RatingState.UNRATED) == [none, steps]
        assert select(db, rating_state=RatingState.NEEDS_SECOND) == [one]
        assert select(db, rating_state=RatingState.RATED) == [one, agreed, apart, thumbs]
        assert select(db, rating_state=RatingState.DISAGREED) == [apart, thumbs]
        assert select(db, rating_state=RatingState.DISAGREED, **of_steps) == [steps]
        assert select(db, rating_state=RatingState.RATED, **of_steps) == [steps]


def store_embeddings(texts: dict[str, list[float]]) -> Path:
    folder = get_settings().embedding_dir
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "abc.sqlite") as connection:
        connection.execute("CREATE TABLE embeddings (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        rows = [(make_key(text), np.array(v, "<f4").tobytes()) for text, v in texts.items()]
        connection.executemany("INSERT INTO embeddings VALUES (?, ?)", rows)
    connection.close()
    return folder


def unit(angle: float) -> list[float]:
    return [float(np.cos(angle)), float(np.sin(angle))]


def test_the_mix_has_its_shares_and_knows_the_chance_of_the_random_part(store: Store) -> None:
    with store.writing() as db:
        ids = [make_interaction(db, completion=f"Answer {n}.").id for n in range(200)]
        version = make_version(db).id
        store_rewards(db, version, {one: n / 200 for n, one in enumerate(ids)}, actor=SYSTEM)
    store_embeddings({f"Answer {n}.": unit(n / 30) for n in range(200)})
    with store.reading() as db:
        chosen = select_items(
            db, actor=SYSTEM, where=QueueFilter(), limit=90, order=QueueOrder.INFORMATIVE
        )
    reasons = Counter(item.reason for item in chosen)
    assert len({item.interaction_id for item in chosen}) == len(chosen) == 90
    assert reasons == {"uncertain": 50, "diverse": 20, "random": 20}
    assert {item.selection_probability for item in chosen if item.reason == "random"} == {0.1}
    assert {item.selection_probability for item in chosen if item.reason != "random"} == {None}
    unsure = [ids.index(i.interaction_id) for i in chosen if i.reason == "uncertain"]
    assert all(abs(n - 100) <= 40 for n in unsure)
    assert [item.reason for item in chosen] != sorted(str(item.reason) for item in chosen)


def test_raters_who_disagree_count_as_doubt(store: Store) -> None:
    with store.writing() as db:
        ids = [make_interaction(db).id for _ in range(10)]
        for actor, rating in ((make_actor(db), 1), (make_actor(db), 5)):
            make_feedback(db, ids[3], actor=actor, rating=rating)
        chosen = select_items(
            db, actor=SYSTEM, where=QueueFilter(), limit=2, order=QueueOrder.INFORMATIVE
        )
    by_id = {item.interaction_id: item.reason for item in chosen}
    assert len(by_id) == 2
    assert by_id.get(ids[3]) in {"disagreed", "random"}


@only_sqlite
def test_without_rewards_and_embeddings_all_is_drawn_at_random(store: Store) -> None:
    with store.writing() as db:
        for _ in range(20):
            make_interaction(db)
        chosen = select_items(
            db, actor=SYSTEM, where=QueueFilter(), limit=5, order=QueueOrder.INFORMATIVE
        )
        everything = select_items(
            db, actor=SYSTEM, where=QueueFilter(), limit=50, order=QueueOrder.INFORMATIVE
        )
        oldest = select_items(db, actor=SYSTEM, where=QueueFilter(), limit=20)
    assert {(i.reason, i.selection_probability) for i in chosen} == {("random", 0.25)}
    assert len(everything) == len(oldest) == 20
    assert {i.selection_probability for i in (*everything, *oldest)} == {1.0}


@only_sqlite
def test_the_random_part_draws_every_item_equally_often(store: Store) -> None:
    with store.writing() as db:
        ids = [make_interaction(db).id for _ in range(10)]
        version = make_version(db).id
        store_rewards(db, version, dict.fromkeys(ids[:5], 0.5), actor=SYSTEM)
        drawn: Counter[uuid.UUID] = Counter()
        for _ in range(300):
            chosen = select_items(
                db, actor=SYSTEM, where=QueueFilter(), limit=5, order=QueueOrder.INFORMATIVE
            )
            random_part = [i for i in chosen if i.reason == "random"]
            assert {i.selection_probability for i in random_part} == {len(random_part) / 10}
            drawn.update(i.interaction_id for i in random_part)
    share = 300 * len(random_part) / 10
    assert all(abs(drawn[one] - share) < 0.5 * share for one in ids)


def test_unlike_ones_are_picked_first() -> None:
    ids = [uuid.UUID(int=n) for n in range(4)]
    angles = (0.0, 0.1, 1.5, 3.1)
    pool = {one: np.array(unit(angle)) for one, angle in zip(ids, angles, strict=True)}
    picked = pick_unlike(pool, 2, {ids[0]}, random.Random(0))
    assert picked == [ids[3], ids[2]]
    assert len(pick_unlike(pool, 9, set(), random.Random(0))) == 4
    assert pick_unlike({}, 2, set(), random.Random(0)) == []


def test_stored_embeddings_are_found_and_a_broken_cache_is_none(tmp_path: Path) -> None:
    assert find_stored(["a"], tmp_path / "none") == {}
    folder = store_embeddings({"a": [1.0, 0.0]})
    assert list(find_stored(["a", "b"], folder)) == ["a"]
    (folder / "abc.sqlite").write_bytes(b"no database" * 100)
    assert find_stored(["a"], folder) == {}


def test_pairs_are_of_one_prompt_and_of_different_answers(store: Store) -> None:
    with store.writing() as db:
        tea = [make_interaction(db, prompt="Which tea?", completion=c).id
               for c in ("Green.", "Black.", "White.", "Red.", "Blue.")]  # fmt: skip
        make_interaction(db, prompt="which  TEA?", completion="Green.", external_id="copy")
        one, other = (
            make_interaction(db, prompt="Why?", completion=c).id for c in ("So.", "Thus.")
        )
        elsewhere = [{"role": "user", "content": "Hm."}]
        make_interaction(db, prompt="Why?", completion="X.", context=elsewhere)
        make_interaction(db, prompt="Alone?")
        pairs = select_pairs(db, actor=SYSTEM, where=QueueFilter(), limit=10)
        few = select_pairs(db, actor=SYSTEM, where=QueueFilter(), limit=2)
    found = [{item.interaction_id, item.other_interaction_id} for item in pairs]
    assert {one, other} in found
    assert len(found) == 4  # three links of four teas, and one
    assert len(few) == 2
    of_tea = [pair for pair in found if pair != {one, other}]
    assert len(set().union(*of_tea)) == 4
    assert len(set().union(*of_tea) & set(tea)) >= 3  # an equal answer may stand for one
    assert all(item.interaction_id < (item.other_interaction_id or 0) for item in pairs)


@only_sqlite
def test_a_few_pairs_of_many_prompts_read_few_completions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MIN_PROMPTS", 2)
    size = 100_000
    with store.writing() as db:
        for number in range(60):
            for letter in "ab":
                make_interaction(db, prompt=f"Prompt {number}?", completion=letter * size)
        where = QueueFilter(text="prompt")
        tracemalloc.start()
        few = select_pairs(db, actor=SYSTEM, where=where, limit=2, seed=1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        again = select_pairs(db, actor=SYSTEM, where=where, limit=2, seed=1)
        others = select_pairs(db, actor=SYSTEM, where=where, limit=2, seed=2)
        every = select_pairs(db, actor=SYSTEM, where=where, limit=100)
    assert peak < 30 * size  # all of them are 120
    assert len(few) == 2
    assert few == again != others
    assert len({item.interaction_id for item in every}) == 60
