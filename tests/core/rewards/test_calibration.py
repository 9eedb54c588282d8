import numpy as np
import pytest

from rlhf_core.rewards.calibration import calibrate_across_folds, fit_calibration
from rlhf_core.rewards.evaluate import compute_ece


def draw(temperature: float, shift: float, number: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Log odds that are `temperature` times too sure and off by `shift`, and what came of them."""
    rng = np.random.default_rng(5)
    truth = rng.normal(size=number)
    labels = rng.random(number) < 1 / (1 + np.exp(-(truth + shift)))
    return truth * temperature, labels


@pytest.mark.parametrize(("temperature", "shift"), [(3.0, -0.7), (0.5, 0.4)])
def test_known_temperature_and_shift_are_found(temperature: float, shift: float) -> None:
    calibration = fit_calibration(*draw(temperature, shift))
    assert calibration.temperature == pytest.approx(temperature, rel=0.06)
    assert calibration.shift == pytest.approx(shift, abs=0.05)


def test_calibration_across_folds_mends_overconfidence_on_rows_it_was_not_fitted_on() -> None:
    log_odds, labels = draw(4.0, 0.5, 4_000)
    folds = np.arange(4_000) % 5
    before = compute_ece(1 / (1 + np.exp(-log_odds)), labels)[0]
    after = compute_ece(calibrate_across_folds(log_odds, labels, folds), labels)[0]
    assert before > 0.15
    assert after < 0.03


def test_scores_that_say_the_opposite_keep_their_order_and_become_the_base_rate() -> None:
    log_odds, labels = draw(1.0, 0.0, 2_000)
    calibration = fit_calibration(log_odds, ~labels)
    probabilities = calibration.apply(np.array([-5.0, 5.0]))
    assert probabilities[0] < probabilities[1]
    assert probabilities == pytest.approx([(~labels).mean()] * 2, abs=0.05)


def test_perfectly_separated_rows_stay_finite() -> None:
    log_odds = np.array([-3.0, -2.0, 2.0, 3.0] * 5)
    calibration = fit_calibration(log_odds, log_odds > 0)
    probabilities = calibration.apply(np.array([-1e6, 0.0, 1e6]))
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert (probabilities <= 1).all()
