import math

from rlhf_core.serving.ranking import keep_order, rank_scores


def test_best_first() -> None:
    assert rank_scores([0.1, 0.9, 0.5]) == (1, 2, 0)


def test_ties_keep_their_order() -> None:
    assert rank_scores([0.5, 0.7, 0.5, 0.7, 0.5]) == (1, 3, 0, 2, 4)


def test_a_candidate_without_a_number_comes_last_and_moves_no_other() -> None:
    whole = [0.3, 0.9, 0.1, 0.6]
    for bad in (None, math.nan):
        broken: list[float | None] = [0.3, bad, 0.9, 0.1, 0.6]
        order = [index for index in rank_scores(broken) if index != 1]
        assert rank_scores(broken)[-1] == 1
        assert [broken[index] for index in order] == [whole[index] for index in rank_scores(whole)]


def test_top_k_cuts_the_order() -> None:
    assert rank_scores([0.1, 0.9, 0.5], 2) == (1, 2)
    assert rank_scores([0.1], 5) == (0,)
    assert rank_scores([]) == ()


def test_fallback_keeps_the_order_and_says_why() -> None:
    ranking = keep_order(3, "no model", top_k=2)
    assert (ranking.ranking, ranking.scores) == ((0, 1), (None, None, None))
    assert (ranking.is_fallback, ranking.reason, ranking.version) == (True, "no model", None)
