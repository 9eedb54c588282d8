"""Two rankers in one list."""

from collections import Counter

import numpy as np
import pytest

from rlhf_core.errors import InvalidInput
from rlhf_core.release.interleaving import draft_teams, interleaving_verdict
from rlhf_core.release.judging import VerdictKind


def test_merged_order_holds_each_candidate_once_and_as_many_of_each_team() -> None:
    control, treatment = (3, 1, 0, 2, 4, 5), (5, 4, 3, 2, 1, 0)
    for seed in range(50):
        order, teams = draft_teams(control, treatment, seed=seed)
        assert sorted(order) == list(range(6))
        assert Counter(teams) == {"control": 3, "treatment": 3}
        for place in (0, 2, 4):  # each round has a pick of each team
            assert set(teams[place : place + 2]) == {"control", "treatment"}


def test_each_team_picks_its_best_that_is_left() -> None:
    control, treatment = (0, 1, 2, 3), (3, 0, 2, 1)
    for seed in range(50):
        order, teams = draft_teams(control, treatment, seed=seed)
        for place, team in enumerate(teams):
            wished = control if team == "control" else treatment
            assert order[place] == next(one for one in wished if one not in order[:place])


def test_the_same_seed_merges_the_same_and_the_coin_is_fair() -> None:
    first = [draft_teams((0, 1), (1, 0), seed=seed) for seed in range(1_000)]
    assert first[7] == draft_teams((0, 1), (1, 0), seed=7)
    assert 440 < sum(teams[0] == "treatment" for _, teams in first) < 560


def test_equal_orders_stay_as_they_are() -> None:
    assert draft_teams((2, 0, 1), (2, 0, 1), seed=1)[0] == (2, 0, 1)
    assert draft_teams((0,), (0,), seed=1)[0] == (0,)


@pytest.mark.parametrize("other", [(0, 1), (0, 1, 1), (0, 1, 3)])
def test_orders_of_other_candidates_are_refused(other: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="same candidates"):
        draft_teams((0, 1, 2), other, seed=1)


def test_verdict_waits_then_says_which_is_better() -> None:
    assert interleaving_verdict(0, 0).kind is VerdictKind.KEEP_WAITING
    assert interleaving_verdict(4, 6, 90).kind is VerdictKind.KEEP_WAITING
    better = interleaving_verdict(30, 70, 12)
    assert better.kind is VerdictKind.BETTER
    assert "70 users chose the treatment's picks" in better.sentence
    assert better.numbers["treatment_share"] == 0.7
    assert interleaving_verdict(70, 30).kind is VerdictKind.WORSE


def test_equal_rankers_are_called_different_in_fewer_runs_than_alpha() -> None:
    rng = np.random.default_rng(2)
    called = 0
    for _ in range(200):
        wins = np.cumsum(rng.random(150) < 0.5)
        called += any(
            interleaving_verdict(int(n + 1 - wins[n]), int(wins[n])).kind
            is not VerdictKind.KEEP_WAITING
            for n in range(9, 150, 10)
        )
    assert called / 200 <= 0.05
