import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.failure_clusters import list_clusterings
from rlhf_core.analytics.failure_search import SearchParams
from rlhf_core.clock import new_id
from rlhf_core.errors import Conflict, Forbidden, TrainingFailed
from rlhf_core.jobs.cluster_failures import enqueue_clustering
from rlhf_core.jobs.service import JobView
from rlhf_core.store.engine import Store
from rlhf_core.training import NoOpTracker
from rlhf_core.vocabulary import RaterKind, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.analytics.fault_sentences import make_faulty, make_good
from tests.core.jobs.trained import run
from tests.databases import only_sqlite

PARAMS = SearchParams(min_size=8)


@pytest.fixture
def judged(store: Store) -> Store:
    """Thirty answers with one fault that were called bad, and thirty good ones."""
    with store.writing() as db:
        for texts, rating in ((make_faulty(30), 1), (make_good(30), 5)):
            for number, text in enumerate(texts):
                item = make_interaction(db, prompt=f"{rating} {number}?", completion=text).id
                who = {"rater": new_id().hex, "rater_kind": RaterKind.END_USER}
                make_feedback(db, item, rating=rating, **who)
    return store


def enqueue(store: Store, params: SearchParams = PARAMS) -> JobView:
    with store.writing() as db:
        return enqueue_clustering(db, actor=SYSTEM, params=params)


@only_sqlite
def test_the_job_keeps_the_group_that_it_finds(judged: Store) -> None:
    job = enqueue(judged)
    result = run(judged, job)
    assert " among 30 bad answers; " in result["message"]
    with judged.reading() as db:
        (search,) = list_clusterings(db, actor=SYSTEM)
    cluster = search.clusters[
        0
    ]  # others are of what faulty answers add, such as "Our terms say so."
    assert search.params == PARAMS
    assert result["num_groups"] == len(search.clusters)
    assert cluster.size <= 30 - result["num_outliers"]
    assert cluster.size >= 24
    assert cluster.is_worse
    assert cluster.num_held_out > 5


@only_sqlite
def test_a_run_that_is_asked_to_stop_stops(judged: Store) -> None:
    class Stopped(NoOpTracker):
        def should_stop(self) -> bool:
            return True

    with pytest.raises(TrainingFailed, match="Stopped on request"):
        run(judged, enqueue(judged), log=Stopped())  # type: ignore[arg-type]
    with judged.reading() as db:
        assert list_clusterings(db, actor=SYSTEM) == []


@only_sqlite
def test_one_search_at_a_time_and_only_by_whom_jobs_are_open_to(store: Store) -> None:
    enqueue(store)
    with pytest.raises(Conflict):
        enqueue(store)
    with store.writing() as db, pytest.raises(Forbidden):
        enqueue_clustering(db, actor=make_actor(db, Role.ANALYST), params=PARAMS)
