import pytest

from rlhf_core.agreement.shares import wilson_interval
from rlhf_core.errors import InvalidInput


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (81, 263)])
@pytest.mark.parametrize("confidence", [0.95, 0.9])
def test_wilson_agrees_with_scipy(hits: int, trials: int, confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    known = stats.binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    found = wilson_interval(hits, trials, confidence=confidence)
    assert found is not None
    assert found.value == hits / trials
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)


def test_half_hits_count_and_nothing_is_said_of_no_trials() -> None:
    assert wilson_interval(0, 0) is None
    half = wilson_interval(2.5, 5)
    assert half is not None
    assert half.low + half.high == pytest.approx(1)
    for hits, trials, confidence in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(InvalidInput):
            wilson_interval(hits, trials, confidence=confidence)
