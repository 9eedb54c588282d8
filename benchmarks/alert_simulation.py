"""How often the rule of negatives cries wolf, and how soon it finds a drop: 2,000 simulated runs.

    python benchmarks/alert_simulation.py [--runs 2000]

Each run is a product with 50 or 200 ratings a day: 46 quiet days, then approval falls by 10 points
for good. Printed for an approval of 90, 80 and 70 %: the share of runs with an alarm in the 46
days, and the days from the drop to the first alarm (its own day counts as 1). "new": the rule is
switched on with the first rating, "seasoned": 49 days of history lie before the 46, all of which
are then watched. Beside it, on the same ratings, what people do by hand: "10 points under the mean
of the last 7 days". The function is the one that the live rule calls, with the usual numbers.
Then 20 action types at once: the share of runs in which any of them alarms in 46 days, with
Benjamini-Hochberg and with each alone at the same limit. Prints one JSON line last.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlhf_core.alerts.chance import (  # noqa: E402
    RECENT_DAYS,
    chance_above,
    pick_discoveries,
    score_negatives,
)
from rlhf_core.alerts.params import NegativesSpike  # noqa: E402

QUIET_DAYS = 46
DAYS_AFTER = 40
DROP = 0.10
USUAL = NegativesSpike()
HISTORY_DAYS = USUAL.baseline_days + RECENT_DAYS
NUM_SLICES = 20
NEVER = DAYS_AFTER + 1
MOST_FALSE = 0.13
MOST_DAYS = 5

Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def draw(rng: np.random.Generator, num: int, runs: int, bad: float, history: int) -> Counts:
    """Bad ratings: (runs, days), quiet and then after the drop."""
    shares = np.full(history + QUIET_DAYS + DAYS_AFTER, bad)
    shares[-DAYS_AFTER:] += DROP
    return rng.binomial(num, shares, size=(runs, len(shares)))


def alarm_live(bad: Counts, num: int) -> Bools:
    """The live rule."""
    return score(bad, num) > USUAL.limit


def score(bad: Counts, num: int) -> npt.NDArray[np.float64]:
    """What the live rule compares with its limit; below it where nothing can be said."""
    scores = score_negatives(
        bad.astype(np.float64), np.full(bad.shape, float(num)),
        weight=USUAL.weight, baseline_days=USUAL.baseline_days, min_n=USUAL.min_n,
    )  # fmt: skip
    return np.nan_to_num(scores, nan=-np.inf)


def alarm_by_hand(bad: Counts, num: int) -> Bools:
    """A day's approval lies 10 points or more under the mean of the seven days before."""
    share = bad / num
    sums = np.cumsum(np.pad(share, ((0, 0), (1, 0))), axis=1)
    alarms = np.zeros(bad.shape, dtype=np.bool_)
    mean = (sums[:, 7:-1] - sums[:, :-8]) / 7
    alarms[:, 7:] = share[:, 7:] >= mean + 0.10
    return alarms


def measure(alarms: Bools) -> dict[str, float]:
    """Of runs whose last days are those after the drop, and the 46 before them quiet."""
    quiet = alarms[:, -DAYS_AFTER - QUIET_DAYS : -DAYS_AFTER]
    after = alarms[:, -DAYS_AFTER:]
    days = np.where(after.any(axis=1), after.argmax(axis=1) + 1, NEVER)
    return {
        "false_alarms": round(float(quiet.any(axis=1).mean()), 4),
        "days_median": float(np.median(days)),
        "days_p90": float(np.quantile(days, 0.9)),
        "never_found": round(float((days == NEVER).mean()), 4),
    }


def measure_slices(rng: np.random.Generator, num: int, runs: int) -> dict[str, float]:
    """The share of runs in which any of the quiet slices alarms."""
    days = HISTORY_DAYS + QUIET_DAYS
    rate = chance_above(USUAL.limit)
    together = alone = 0
    for _ in range(runs):
        scores = score(rng.binomial(num, 0.2, size=(NUM_SLICES, days)), num)[:, HISTORY_DAYS:]
        alone += bool((scores > USUAL.limit).any())
        # only days on which the surest slice passes the widest step can tell anything
        near = scores.max(axis=0) > USUAL.limit
        told = (pick_discoveries([chance_above(s) for s in day], rate) for day in scores[:, near].T)
        together += any(any(day) for day in told)
    return {"together": round(together / runs, 4), "each_alone": round(alone / runs, 4)}


def main() -> None:
    """Simulate, print, and fail where the usual case misses its targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2_000)
    runs = parser.parse_args().runs
    started_at = time.perf_counter()
    rng = np.random.default_rng(11)
    report: dict[str, Any] = {"runs": runs, "quiet_days": QUIET_DAYS, "drop": DROP}
    print(
        "approval  ratings  rule              false alarms  days to the drop (median, p90)  never"
    )
    for num in (50, 200):
        for approval in (0.9, 0.8, 0.7):
            seasoned = draw(rng, num, runs, 1 - approval, HISTORY_DAYS)
            found = {
                "new": measure(alarm_live(seasoned[:, HISTORY_DAYS:], num)),
                "seasoned": measure(alarm_live(seasoned, num)),
                "by hand": measure(alarm_by_hand(seasoned, num)),
            }
            for name, one in found.items():
                print(
                    f"{approval:8.0%}  {num:7}  {name:16}  {one['false_alarms']:12.1%}  "
                    f"{one['days_median']:14.0f} {one['days_p90']:15.0f}  "
                    f"{one['never_found']:6.1%}"
                )
            report[f"{num}_a_day_{approval:.0%}"] = found
    report["slices"] = {f"{num}_a_day": measure_slices(rng, num, runs // 4) for num in (50, 200)}
    print(f"{NUM_SLICES} quiet action types, any alarm in 46 days: {report['slices']}")
    usual = [report[f"{num}_a_day_80%"][name] for num in (50, 200) for name in ("new", "seasoned")]
    report["holds"] = all(
        one["false_alarms"] <= MOST_FALSE and one["days_median"] <= MOST_DAYS for one in usual
    )
    report["seconds"] = round(time.perf_counter() - started_at, 1)
    print(json.dumps(report))
    if not report["holds"]:
        sys.exit("The usual case (80 % approval) misses its targets.")


if __name__ == "__main__":
    main()
