"""The verdict on a running deployment."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.canary_simulation import World, make_plan, simulate
from rlhf_core.errors import InvalidInput
from rlhf_core.release.judging import Verdict, VerdictKind, judge, verdict_from_json
from rlhf_core.release.plans import CanaryPlan, Traffic, plan_canary
from rlhf_core.release.sums import ArmSums, Overlap, compare
from rlhf_core.vocabulary import Arm

PLAN = plan_canary(Traffic(approval=0.8))
OPEN = plan_canary(Traffic(approval=0.8), is_planned=False)


def arm(raters: int, good: int, *, users: int | None = None, failed: int = 0) -> ArmSums:
    """One rating a user."""
    users = raters if users is None else users
    return ArmSums(
        num_requests=2 * users, num_errors=failed, num_users=users, num_failed_users=failed,
        num_raters=raters, num_feedback=raters, num_good=good, sum_nn=raters, sum_yy=good,
        sum_ny=good,
    )  # fmt: skip


def say(
    control: ArmSums, treatment: ArmSums, plan: CanaryPlan = PLAN, before: Verdict | None = None
) -> Verdict:
    whole = control.num_users + treatment.num_users
    share = treatment.num_users / whole if whole else 0.05
    return judge(plan, [(control, treatment)], expected_shares=[share], before=before)


def test_nothing_is_said_before_anything_came() -> None:
    for verdict in (judge(PLAN, [], expected_shares=[]), say(ArmSums(), ArmSums())):
        assert verdict.kind is VerdictKind.KEEP_WAITING
        assert verdict.numbers["difference"] is None


def test_a_few_angry_users_roll_nothing_back() -> None:
    verdict = say(arm(171, 137), arm(9, 0))
    assert verdict.kind is VerdictKind.KEEP_WAITING
    assert "9 users rated the treatment" in verdict.sentence


def test_one_user_with_many_bad_ratings_rolls_nothing_back() -> None:
    crowd = arm(20, 16)
    angry = replace(
        crowd, num_raters=21, num_feedback=60, num_good=16, sum_nn=20 + 40 * 40, sum_yy=16,
        sum_ny=16,
    )  # fmt: skip
    assert say(arm(380, 304), angry).kind is VerdictKind.KEEP_WAITING
    # as many bad ratings by as many people do
    assert say(arm(380, 304), arm(60, 16)).kind is VerdictKind.ROLL_BACK_HARM


def test_harm_rolls_back_with_its_numbers_in_the_sentence() -> None:
    verdict = say(arm(1_900, 1_520), arm(100, 60))
    assert verdict.kind is VerdictKind.ROLL_BACK_HARM
    assert verdict.kind.is_roll_back
    assert "20 points lower" in verdict.sentence
    assert "60.0% of 100 ratings by 100 users" in verdict.sentence
    assert (verdict.numbers["high"] or 0) < 0
    assert (verdict.numbers["p_harm"] or 1) < 0.025


def test_errors_roll_back_before_anybody_rated() -> None:
    verdict = say(arm(0, 0, users=95), arm(0, 0, users=5, failed=5))
    assert verdict.kind is VerdictKind.ROLL_BACK_ERRORS
    assert "5 of 5 users met an error" in verdict.sentence


def test_errors_of_an_earlier_step_do_not_count_against_a_later_one() -> None:
    """An outage of all in the first step, when the treatment's share was large."""
    outage = (arm(0, 0, users=50, failed=30), arm(0, 0, users=50, failed=30))
    calm = (arm(0, 0, users=950), arm(0, 0, users=50))
    verdict = judge(PLAN, [outage, calm], expected_shares=[0.5, 0.05])
    assert verdict.kind is VerdictKind.KEEP_WAITING


def test_a_mismatch_blocks_words_about_ratings_but_not_the_roll_back_on_errors() -> None:
    control, treatment = arm(950, 760), arm(20, 5)  # 51 users were to get it
    lost = judge(PLAN, [(control, treatment)], expected_shares=[0.05])
    assert lost.kind is VerdictKind.BLOCKED_SAMPLE_RATIO
    assert "20 of 970 users got the treatment, 48 were to" in lost.sentence
    failing = replace(treatment, num_failed_users=20)
    broken = judge(PLAN, [(control, failing)], expected_shares=[0.05])
    assert broken.kind is VerdictKind.ROLL_BACK_ERRORS


def test_looks_are_taken_once_each_and_only_when_their_evidence_is_in() -> None:
    early = say(arm(60, 48), arm(60, 48))
    assert (early.kind, early.look) == (VerdictKind.KEEP_WAITING, 0)
    # z is 3.0: enough for the third look (2.63), which two thirds of the evidence are for
    control, treatment = arm(900, 695), arm(900, 745)
    third = say(control, treatment)
    assert (third.kind, third.look) == (VerdictKind.BETTER, 3)
    taken = replace(third, kind=VerdictKind.KEEP_WAITING, decided=None)
    assert say(control, treatment, before=taken).kind is VerdictKind.KEEP_WAITING
    assert say(control, treatment, before=replace(taken, look=2)).kind is VerdictKind.BETTER


def test_what_a_look_decided_stays() -> None:
    decided = say(arm(620, 485), arm(620, 540))
    later = say(arm(1_000, 790), arm(1_000, 800), before=decided)
    assert (later.kind, later.sentence) == (VerdictKind.BETTER, decided.sentence)
    harm = say(arm(3_000, 2_400), arm(3_000, 2_100), before=decided)
    assert harm.kind is VerdictKind.ROLL_BACK_HARM


@pytest.mark.parametrize(
    ("good", "kind", "words"),
    [
        (1_200, VerdictKind.NO_WORSE, "A drop of 5 points or more is ruled out"),
        (1_162, VerdictKind.NO_DIFFERENCE, "cannot be ruled out"),
        (1_260, VerdictKind.BETTER, "4 points higher"),
        (1_135, VerdictKind.WORSE, "It is rolled back"),
    ],
)
def test_last_look_decides(good: int, kind: VerdictKind, words: str) -> None:
    verdict = say(arm(1_500, 1_200), arm(1_500, good))
    assert verdict.kind is kind, verdict.sentence
    assert words in verdict.sentence
    assert "look 5 of 5" in verdict.sentence


def test_open_ended_decides_when_its_interval_allows() -> None:
    assert say(arm(500, 400), arm(500, 400), OPEN).kind is VerdictKind.KEEP_WAITING
    assert say(arm(3_000, 2_400), arm(3_000, 2_400), OPEN).kind is VerdictKind.NO_WORSE
    assert say(arm(3_000, 2_400), arm(3_000, 2_560), OPEN).kind is VerdictKind.BETTER


def test_a_trend_in_time_with_a_growing_share_is_no_harm() -> None:
    """Approval falls for all while the share grows: in one heap the treatment looks worse."""
    strata = [(arm(1_900, 1_710), arm(100, 90)), (arm(1_000, 600), arm(1_000, 600))]
    found = compare(strata)
    assert found is not None
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert judge(PLAN, strata, expected_shares=[0.05, 0.5]).kind is not VerdictKind.ROLL_BACK_HARM
    heap = judge(PLAN, [(arm(2_900, 2_310), arm(1_100, 690))], expected_shares=[0.275])
    assert heap.kind is VerdictKind.ROLL_BACK_HARM


def test_variance_is_that_of_users_drawn_again_and_again() -> None:
    """Users with several ratings that are alike, who come back in a second step."""
    rng = np.random.default_rng(4)
    found = [_draw_difference(rng) for _ in range(600)]
    assert np.var([one.value for one in found]) == pytest.approx(
        np.mean([one.variance for one in found]), rel=0.15
    )
    alone = [_draw_difference(rng, with_overlaps=False) for _ in range(200)]
    assert np.mean([one.variance for one in alone]) < 0.8 * np.mean([one.variance for one in found])


def _draw_difference(rng: np.random.Generator, *, with_overlaps: bool = True):  # type: ignore[no-untyped-def]
    users = 120
    taste = rng.beta(1.6, 0.4, users)
    is_treated = rng.random(users) < 0.4
    num = 1 + rng.poisson(2, (2, users))
    good = rng.binomial(num, taste)

    def sums(step: int, who: np.ndarray) -> ArmSums:  # type: ignore[type-arg]
        n, y = num[step, who], good[step, who]
        return ArmSums(
            num_raters=len(n), num_feedback=int(n.sum()), num_good=int(y.sum()),
            sum_nn=float((n * n).sum()), sum_yy=float((y * y).sum()), sum_ny=float((n * y).sum()),
        )  # fmt: skip

    strata = [(sums(step, ~is_treated), sums(step, is_treated)) for step in (0, 1)]
    overlaps = [
        Overlap(
            (0, side), (1, side), *(
                float((one[0, who] * other[1, who]).sum())
                for one, other in ((num, num), (good, good), (num, good), (good, num))
            ),
        )
        for side, who in ((Arm.CONTROL, ~is_treated), (Arm.TREATMENT, is_treated))
    ]  # fmt: skip
    found = compare(strata, overlaps if with_overlaps else ())
    assert found is not None
    return found


def test_verdict_comes_back_from_its_row() -> None:
    verdict = say(arm(620, 485), arm(620, 540))
    assert verdict.decided is not None
    assert verdict_from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
    with pytest.raises(InvalidInput, match="verdict is damaged"):
        verdict_from_json({"kind": "nonsense"})


def test_equal_versions_are_seldom_rolled_back_although_looked_at_all_the_time() -> None:
    world = World(num_requests=6_000, look_every=200)
    found = simulate(world, make_plan(is_planned=True), runs=40, seed=3)
    assert sum(one.stopped_by is not None for one in found) <= 4
    assert sum(one.is_peeked for one in found) > 10  # by hand it would be most


def test_a_version_worse_by_ten_points_is_rolled_back_in_most_runs() -> None:
    world = World(num_requests=24_000, drop=0.10, look_every=400)
    found = simulate(world, make_plan(is_planned=True), runs=12, seed=3)
    assert sum(one.stopped_by is VerdictKind.ROLL_BACK_HARM for one in found) >= 11
