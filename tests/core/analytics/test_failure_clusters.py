import json
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.clustering import Array
from rlhf_core.analytics.failure_clusters import (
    KEPT,
    ClusteringView,
    count_bad_days,
    create_clustering,
    get_cluster,
    list_clusterings,
    list_examples,
)
from rlhf_core.analytics.failure_search import (
    Found,
    JudgedAnswer,
    SearchParams,
    find_failures,
    parse_search,
    read_bad,
    read_others,
)
from rlhf_core.analytics.filters import Filters
from rlhf_core.clock import new_id
from rlhf_core.encoder.model import load_encoder
from rlhf_core.errors import InvalidInput, NotEnoughData, NotFound
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import FailureClusterMember, Interaction
from rlhf_core.vocabulary import AlikeBy, RaterKind
from tests.builders import make_feedback, make_interaction
from tests.core.analytics.fault_sentences import make_faulty, make_good, make_prompts
from tests.databases import only_sqlite

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TOPICS = ("refund", "lamp", "train")


def embed(texts: Sequence[str]) -> Array:
    """A direction a topic, and a little of its own for each text: alike is what shares a topic."""
    vectors = np.zeros((len(texts), 64))
    for row, text in zip(vectors, texts, strict=True):
        own = np.random.default_rng(abs(hash_of(text)))
        row += 0.04 * own.normal(size=64)
        for number, topic in enumerate(TOPICS):
            row[number] += topic in text
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[-8:].rjust(8))


def fill(db: Session, *, num_bad: int = 24, num_good: int = 30) -> None:
    """Refunds are bad but for a few; lamps and trains are good but for a few."""
    for number in range(num_bad):
        say(db, f"No refund {number:04}.", 1)
        say(db, f"The lamp or train of shop {number:04}.", 1 if number % 4 == 0 else 5)
    for number in range(num_good):
        say(db, f"A lamp {number:04}.", 5)


def say(db: Session, completion: str, *ratings: int, day: int = 0) -> uuid.UUID:
    item = make_interaction(db, prompt=f"Say: {completion}", completion=completion).id
    for rating in ratings:
        who = {"rater": new_id().hex, "rater_kind": RaterKind.END_USER}
        make_feedback(db, item, rating=rating, occurred_at=NOON + timedelta(days=day), **who)
    return item


def search(db: Session, **fields: object) -> Found:
    params = SearchParams(**({"min_size": 6} | fields))
    return find_failures(read_bad(db, params), read_others(db, params), params=params, embed=embed)


def keep(db: Session, found: Found) -> ClusteringView:
    create_clustering(db, found, actor=SYSTEM, params=SearchParams(), job_id=None)
    return list_clusterings(db, actor=SYSTEM)[0]


def test_bad_answers_that_mean_the_same_are_a_group_with_words_and_approval(store: Store) -> None:
    with store.writing() as db:
        fill(db)
        group, *others = keep(db, search(db)).clusters
        assert group.words[0] == "refund"
        assert group.size == 24
        assert group.approval is not None
        assert group.approval.value == 0.0
        assert group.is_worse
        assert 0 < group.num_held_out < 24  # those to prompts of the other half
        assert not any(other.is_worse for other in others)  # lamps: most are good
        assert get_cluster(db, group.id, actor=SYSTEM) == group


@only_sqlite
def test_a_group_of_answers_as_good_as_others_is_not_called_worse(store: Store) -> None:
    with store.writing() as db:
        for number in range(60):
            topic = TOPICS[number % 2]
            say(db, f"The {topic} {number:04}.", 1 if number % 4 < 2 else 5)
        clusters = keep(db, search(db)).clusters
        assert len(clusters) == 2
        assert not any(cluster.is_worse for cluster in clusters)


def test_an_answer_is_bad_where_more_raters_say_so(store: Store) -> None:
    with store.writing() as db:
        bad = {say(db, "Bad.", 1, 2, 5)}
        say(db, "Split.", 1, 5)
        good = {say(db, "Good.", 1, 4, 5)}
        params = SearchParams()
        assert {answer.interaction_id for answer in read_bad(db, params)} == bad
        others = read_others(db, params)
        assert {answer.interaction_id for answer in others} <= bad | good
        assert all(not answer.chooses for answer in others)
        nothing = SearchParams(Filters(since=date(2026, 6, 1)))
        assert read_bad(db, nothing) == []


@only_sqlite
def test_few_bad_answers_are_not_grouped(store: Store) -> None:
    with store.writing() as db:
        say(db, "Bad.", 1)
        with pytest.raises(NotEnoughData, match="1 answers that people called bad, 19 more"):
            search(db)


@pytest.mark.parametrize("alike_by", list(AlikeBy))
def test_prompts_or_answers_or_both_are_compared(alike_by: AlikeBy) -> None:
    def answer(number: int, prompt: str, completion: str) -> JudgedAnswer:
        return JudgedAnswer(new_id(), f"{number:032x}", 0.0, prompt, completion)

    bad = [
        answer(n, f"A {TOPICS[n % 2]} {n:04}?", f"The {TOPICS[n // 2 % 2]} {n:04}.")
        for n in range(64)
    ]
    params = SearchParams(alike_by=alike_by, min_size=8)
    found = find_failures(bad, [], params=params, embed=embed)
    kinds = [AlikeBy.PROMPT, AlikeBy.COMPLETION] if alike_by is AlikeBy.BOTH else [alike_by]
    assert sorted(group.alike_by for group in found.groups) == sorted(2 * kinds)
    for group in found.groups:
        text_of = {one.interaction_id: getattr(one, group.alike_by) for one in bad}
        assert len({text_of[one].split()[1] for one, _ in group.members}) == 1
    assert all(group.approval is None for group in found.groups)


def test_one_sentence_among_others_makes_a_group_and_an_answer_may_be_in_two() -> None:
    def answer(number: int) -> JudgedAnswer:
        about, fault = f"The {TOPICS[1 + number % 2]} {number:04}.", f"No refund {number:04}."
        text = f"{about} {fault}" if number < 40 else about
        return JudgedAnswer(new_id(), f"{number:032x}", float(number >= 40), "Say.", text)

    answers = [answer(number) for number in range(120)]
    others = [answer for answer in answers if not answer.chooses]
    found = find_failures(answers[:40], others, params=SearchParams(min_size=8), embed=embed)
    fault, *topics = found.groups
    assert len(fault.members) == 40
    assert fault.words[0] == "refund"
    assert fault.is_worse
    assert fault.approval is not None
    assert fault.approval.value == 0.0
    assert [len(topic.members) for topic in topics] == pytest.approx([20, 20], abs=2)
    assert not any(topic.is_worse for topic in topics)
    assert found.num_outliers == 0  # an answer in two groups is counted once


def test_examples_are_the_most_typical_each_once_and_days_count_what_was_bad(store: Store) -> None:
    with store.writing() as db:
        fill(db)
        item = say(db, "No refund 0000.", 2, 1, 5, day=3)
        group = keep(db, search(db)).clusters[0]
        examples = list_examples(db, group.id, actor=SYSTEM, limit=50)
        assert [e.distance for e in examples] == sorted(e.distance for e in examples)
        assert all("refund" in example.completion for example in examples)
        assert item in db.scalars(sa.select(FailureClusterMember.interaction_id)).all()
        days = count_bad_days(db, group.id, actor=SYSTEM)
        assert days == [(NOON.date(), 24), (NOON.date() + timedelta(days=3), 2)]


@only_sqlite
def test_an_erased_answer_leaves_its_group(store: Store) -> None:
    with store.writing() as db:
        fill(db)
        group = keep(db, search(db)).clusters[0]
        one = list_examples(db, group.id, actor=SYSTEM)[0].interaction_id
        db.execute(sa.delete(Interaction).where(Interaction.id == one))
        assert get_cluster(db, group.id, actor=SYSTEM).size == group.size - 1


@only_sqlite
def test_what_was_erased_during_a_search_is_not_kept(store: Store) -> None:
    with store.writing() as db:
        fill(db)
        found = search(db)
        gone = found.groups[0].members[0][0]
        db.execute(sa.delete(Interaction).where(Interaction.id == gone))
        assert keep(db, found).clusters[0].size == len(found.groups[0].members) - 1


@only_sqlite
def test_old_searches_go(store: Store) -> None:
    with store.writing() as db:
        for _ in range(KEPT + 2):
            last = keep(db, Found((), 0, 0, None))
        searches = list_clusterings(db, actor=SYSTEM)
        assert len(searches) == KEPT
        assert searches[0] == last
        with pytest.raises(NotFound, match="search again"):
            get_cluster(db, new_id(), actor=SYSTEM)


def test_parameters_survive_their_json() -> None:
    filters = Filters(
        since=date(2026, 5, 1), sources=("a", "b"), rater_kinds=(RaterKind.SME,), model_names=("",)
    )
    params = SearchParams(filters, alike_by=AlikeBy.PROMPT, min_size=7)
    assert parse_search(json.loads(json.dumps(params.to_json()))) == params
    for wrong in ({"size": 1}, {"min_size": 1}, {"filters": {"x": 1}}, {"alike_by": "colour"}):
        with pytest.raises(InvalidInput):
            parse_search(wrong)


@pytest.fixture(scope="module")
def embed_once() -> Callable[[Sequence[str]], Array]:
    """The real encoder; no text is embedded twice."""
    known: dict[str, Array] = {}

    def encode(texts: Sequence[str]) -> Array:
        new = [text for text in texts if text not in known]
        known.update(zip(new, load_encoder().encode(new), strict=True))
        return np.stack([known[text] for text in texts])

    return encode


@pytest.mark.parametrize("share_called_bad", [0.05, 0.25])
def test_thirty_paraphrases_of_a_fault_among_1500_good_answers_are_one_group(
    share_called_bad: float, embed_once: Callable[[Sequence[str]], Array]
) -> None:
    """With the real encoder. Some good answers were called bad too, by mistake."""
    rng = np.random.default_rng(3)
    prompts = iter(make_prompts(1_530, seed=5))

    def judge(texts: list[str], approval: float) -> list[JudgedAnswer]:
        return [
            JudgedAnswer(new_id(), rng.bytes(16).hex(), approval, prompt, text)
            for prompt, text in zip(islice(prompts, len(texts)), texts, strict=True)
        ]

    faulty = judge(make_faulty(30, seed=5), 0.0)
    texts = make_good(1_500, seed=5)
    rng.shuffle(texts)
    num_mistakes = round(share_called_bad * len(texts))
    mistaken = judge(texts[:num_mistakes], 0.0)
    good = judge(texts[num_mistakes:], 1.0)
    others = [answer for answer in (*faulty, *mistaken, *good) if not answer.chooses]
    found = find_failures([*faulty, *mistaken], others, params=SearchParams(), embed=embed_once)
    fault = {answer.interaction_id for answer in faulty}
    members = [{one for one, _ in group.members} for group in found.groups]
    best = max(range(len(members)), key=lambda number: len(members[number] & fault))
    assert len(members[best] & fault) >= 0.8 * len(fault)
    assert len(members[best] - fault) <= 0.2 * len(members[best])
    group = found.groups[best]
    assert group.is_worse
    assert any(re.match("money|pay|refund|checkout|order", word) for word in group.words)
