"""The rules on daily counts: when they fire, on which slice, and when they say nothing."""

from datetime import timedelta

import numpy as np
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.alerts.backtest import replay_rule
from rlhf_core.alerts.findings import Finding
from rlhf_core.alerts.params import (
    ApprovalBelow,
    NegativesSpike,
    NewActionType,
    NoFeedback,
    Params,
)
from rlhf_core.alerts.watch import watch
from rlhf_core.store.engine import Store
from tests.core.alerts.counted import NOW, TODAY, add_day, add_days, ago
from tests.databases import only_sqlite


def look(db: Session, params: Params) -> list[Finding]:
    (found,) = watch(db, params, [NOW])
    return found


def firing(found: list[Finding]) -> list[str]:
    return [one.slice_key for one in found if one.is_firing]


def test_approval_under_the_level_fires_with_its_share(store: Store) -> None:
    with store.writing() as db:
        add_days(db, 6, 0, good=14, bad=6)
        add_days(db, 30, 7, good=20, bad=0)  # before the seven days
        (found,) = look(db, ApprovalBelow())
        assert (found.is_firing, found.value) == (True, 0.7)
        assert found.said == "Approval 70.0% of 140 in 7 days, under 80%"
        assert firing(look(db, ApprovalBelow(level=0.7))) == [], "at the level is not under it"
        assert look(db, ApprovalBelow(min_n=141)) == [], "too few to say anything"
        assert look(db, ApprovalBelow(sources=("elsewhere",))) == []


@only_sqlite
def test_no_feedback_at_all_fires_nothing(store: Store) -> None:
    with store.reading() as db:
        for params in (ApprovalBelow(), ApprovalBelow(split="model_name"), NegativesSpike(),
                       NewActionType(), NoFeedback()):  # fmt: skip
            assert look(db, params) == []


@only_sqlite
def test_slices_that_chance_explains_are_not_told(store: Store) -> None:
    with store.writing() as db:
        for number in range(20):
            add_day(db, TODAY, 80 - (number == 3), 20 + (number == 3), action_type=f"a{number:02}")
        add_day(db, TODAY, 50, 50, action_type="worse")
        add_day(db, TODAY, 30, 70)
        found = look(db, ApprovalBelow(split="action_type"))
        assert firing(found) == ["(none)", "worse"]
        assert len(found) == 22
        alone = look(db, ApprovalBelow(action_types=("a03",)))
    assert firing(alone) == [], "nor where it is asked for alone"


@only_sqlite
def test_approval_just_over_its_level_opens_hardly_any_alert_and_a_drop_does(store: Store) -> None:
    rng = np.random.default_rng(3)
    with store.writing() as db:
        for product in range(8):
            for days in range(67):
                good = int(rng.binomial(50, 0.70 if days < 7 and product == 7 else 0.82))
                add_day(db, ago(days), good, 50 - good, source=f"s{product}")
        found = [
            replay_rule(db, actor=SYSTEM, params=ApprovalBelow(sources=(f"s{product}",)),
                        days=60, now=NOW).firings
            for product in range(8)
        ]  # fmt: skip
    assert [len(one) <= 3 for one in found] == [True] * 8
    assert sum(map(len, found[:7])) <= 7
    assert ago(6) <= found[7][-1].opened_at.date() <= ago(2)


@only_sqlite
def test_approval_is_well_again_only_clearly_over_its_level(store: Store) -> None:
    with store.writing() as db:
        for name, good, num in (("a", 81, 100), ("b", 82, 100), ("c", 810_000, 1_000_000)):
            add_day(db, TODAY, good, num - good, source=name)
        found = [look(db, ApprovalBelow(sources=(name,)))[0] for name in "abc"]
        add_day(db, TODAY, 100, 0, source="d")
        (strict,) = look(db, ApprovalBelow(level=0.99, sources=("d",)))
    assert [one.is_unsure for one in found] == [True, False, False]
    assert found[0].said.endswith("not under 80%")
    assert not strict.is_unsure, "100 % is enough for any level"


def test_demo_data_counts_only_where_there_is_no_other(store: Store) -> None:
    from rlhf_core.store.tables import InteractionRollup

    with store.writing() as db:
        add_day(db, TODAY, 0, 100, source="demo")
        assert firing(look(db, ApprovalBelow())) == [""]
        db.add(
            InteractionRollup(
                day=TODAY, source="app", action_type="", model_name="",
                num_interactions=1, num_with_feedback=0,
            )
        )  # fmt: skip
        db.flush()
        assert look(db, ApprovalBelow()) == []
        assert firing(look(db, ApprovalBelow(sources=("demo",)))) == [""]


@only_sqlite
def test_spike_of_one_action_type_is_found_and_the_others_stay_quiet(store: Store) -> None:
    rng = np.random.default_rng(5)
    with store.writing() as db:
        for days in range(1, 60):
            for name in ("book", "cancel", "refund"):
                share = 0.45 if name == "refund" and days <= 4 else 0.15
                bad = int(rng.binomial(60, share))
                add_day(db, ago(days), 60 - bad, bad, action_type=name)
        add_day(db, TODAY, 0, 500, action_type="book")  # a day that is not over says nothing yet
        found = look(db, NegativesSpike(split="action_type"))
        assert firing(found) == ["refund"]
        assert len(found) == 3
        (whole,) = look(db, NegativesSpike())
    assert whole.details["score"] > 3.2
    assert "sigmas over the weeks before" in whole.said


@only_sqlite
def test_many_judgements_with_hardly_a_bad_one_are_no_spike_and_few_say_nothing(
    store: Store,
) -> None:
    with store.writing() as db:
        add_days(db, 60, 1, good=50, bad=0)
        (found,) = look(db, NegativesSpike())
        assert look(db, NegativesSpike(min_n=1_000)) == []
    assert (found.is_firing, found.is_unsure, found.value) == (False, False, 0.0)


@only_sqlite
def test_new_action_type_with_many_downs_fires_while_it_is_new(store: Store) -> None:
    with store.writing() as db:
        add_days(db, 40, 0, good=5, bad=5, action_type="old")
        add_days(db, 2, 0, good=1, bad=3, action_type="new")
        add_days(db, 2, 0, good=3, bad=1, action_type="liked")
        found = look(db, NewActionType())
        assert firing(found) == ["new"]
        assert found[-1].said == f"New since {ago(2)}, 9 of 12 judged bad"
        assert look(db, NewActionType(days=2)) == []
        later = watch(db, NewActionType(), [NOW, NOW + timedelta(days=4), NOW + timedelta(days=5)])
    assert [firing(found) for found in later] == [["new"], ["new"], []]


@only_sqlite
def test_in_the_first_week_of_all_no_action_type_is_new(store: Store) -> None:
    with store.writing() as db:
        add_days(db, 3, 0, good=0, bad=10, action_type="first")
        assert look(db, NewActionType()) == []


def test_silence_is_counted_from_the_last_hour_with_feedback(store: Store) -> None:
    with store.writing() as db:
        add_day(db, ago(40), 1, 0, hour=3)
        (found,) = look(db, NoFeedback())
        assert found.is_firing
        assert found.said == f"No feedback since {ago(40)} 04:00 UTC"
        add_day(db, ago(1), 1, 0, hour=12)
        assert firing(look(db, NoFeedback())) == [], "23 hours of silence"
        assert firing(look(db, NoFeedback(hours=23))) == [""]
        add_day(db, ago(-1), 1, 0, hour=1)  # a clock that runs ahead
        (found,) = look(db, NoFeedback())
    assert found.value == 23.0
