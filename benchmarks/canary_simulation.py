"""How often a canary that is as good is rolled back, and how soon a worse one: 2,000 runs each.

    python benchmarks/canary_simulation.py [--runs 2000] [--only minus_5_points ...]

Each run is a product with 20 requests a minute of users who come back: a user makes 8 requests on
average and rates a quarter of the answers, and some users are never content (correlation of one
user's ratings 0.2). Approval is 80 % and rises by 6 points over the run, of both arms alike. The
new version gets 5 %, then 25 %, then 50 % of the users, sticky by user as live. 0.5 % of the
requests fail. After every 25 ratings (every 20 requests in the runs about errors) the verdict is
asked, by the same `judge` that runs live. A roll back ends the run, as live: on harm, on errors, or
where a planned look says worse.

Printed: equal versions: false alarms of the automatic roll back, and how often one is called better
or worse, with Wilson's interval; beside it what people do by hand, p < 0.05 of a
two-sample z test at every look. Then versions worse by 5 and 10 points: the share rolled back
within the run, median users (of both arms, and of those who got the bad version) and minutes until
then. Then versions that fail more often. Last how often the sample ratio is called wrong, where it
is right and where 30 % of the treatment's users are lost. Prints one JSON line last.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import erfc, sqrt
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlhf_core.agreement.shares import wilson_interval  # noqa: E402
from rlhf_core.release.judging import Verdict, VerdictKind, judge  # noqa: E402
from rlhf_core.release.plans import CanaryPlan, Traffic, plan_canary  # noqa: E402
from rlhf_core.release.sums import ArmSums, Overlap, Strata, sum_arm  # noqa: E402
from rlhf_core.vocabulary import Arm  # noqa: E402

Ints = np.ndarray[Any, np.dtype[np.int64]]

REQUESTS_A_MINUTE = 20
REQUESTS_A_USER = 8
RATED = 0.25
SHARES = (0.05, 0.25, 0.5)
STEP_ENDS = (0.3, 0.65, 1.0)  # of the run
TREND = 0.06
ERRORS = 0.005
ARMS = (Arm.CONTROL, Arm.TREATMENT)
CELLS = [(step, side) for step in range(len(SHARES)) for side in (0, 1)]


@dataclass(frozen=True)
class World:
    """What is simulated. `lost`: of the treatment's users, who are never counted."""

    num_requests: int = 24_000
    approval: float = 0.8
    correlation: float = 0.2  # of one user's ratings
    drop: float = 0.0
    error_rise: float = 0.0
    lost: float = 0.0
    look_every: int = 100  # requests; a quarter of them are rated


@dataclass(frozen=True)
class Outcome:
    """What became of a run. `evidence` is of what the plan needs, at the end."""

    stopped_by: VerdictKind | None
    decided: VerdictKind | None
    is_peeked: bool  # p < 0.05 at any look
    was_blocked: bool
    num_users: int
    num_treated: int
    num_requests: int
    evidence: float


class Run:
    """One run's requests, counted up to each look at once."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        num = world.num_requests
        users = max(20, num // REQUESTS_A_USER)
        first = rng.random(users)  # each user is about for a tenth of the run
        self.user = rng.permutation(np.repeat(np.arange(users), REQUESTS_A_USER))[:num]
        when = np.clip(first[self.user] * 0.9 + rng.random(len(self.user)) * 0.1, 0, 0.999999)
        order = np.argsort(when)
        self.user, when = self.user[order], when[order]
        step = np.searchsorted(STEP_ENDS, when, side="right")
        side = (rng.random(users)[self.user] < np.array(SHARES)[step]).astype(np.int64)
        if world.lost:
            stays = (side == 0) | (rng.random(users)[self.user] >= world.lost)
            self.user, when, step, side = (a[stays] for a in (self.user, when, step, side))
        self.cell = 2 * step + side
        rated = rng.random(len(self.user)) < RATED
        mean = world.approval + TREND * (when - 0.5) - world.drop * side
        whole = 1 / world.correlation - 1
        tastes = (world.approval * whole, (1 - world.approval) * whole)
        taste = rng.beta(*tastes, users) - world.approval  # of the user, whatever is served
        good = rng.random(len(self.user)) < np.clip(mean + taste[self.user], 0, 1)
        failed = rng.random(len(self.user)) < ERRORS + world.error_rise * side
        self.ends = np.arange(world.look_every, len(self.user) + 1, world.look_every)
        self._count(rated & ~failed, good, failed)

    def _count(self, rated: Any, good: Any, failed: Any) -> None:
        """Sums of every cell at every look; what a user adds depends on what they added before."""
        key = self.user * len(CELLS) + self.cell
        n, y = _before(key, rated), _before(key, rated & good)
        every = np.ones(len(key), dtype=bool)
        g = good.astype(np.int64)
        adds = {
            "num_requests": every, "num_errors": failed,
            "num_users": _before(key, every) == 0,
            "num_failed_users": failed & (_before(key, failed) == 0),
            "num_raters": rated & (n == 0), "num_feedback": rated, "num_good": rated & good,
            "sum_nn": rated * (2 * n + 1), "sum_yy": rated * g * (2 * y + 1),
            "sum_ny": rated * (n * g + y + g),
        }  # fmt: skip
        self.sums = {
            name: np.stack([self._at_looks(add * (self.cell == c)) for c in range(len(CELLS))])
            for name, add in adds.items()
        }
        self.overlaps: dict[tuple[int, int], tuple[Ints, ...]] = {}
        for one in range(len(CELLS)):
            is_one = rated & (self.cell == one)
            size = self.user.max() + 1
            n_one = np.bincount(self.user[is_one], minlength=size)[self.user]
            y_one = np.bincount(self.user[is_one & good], minlength=size)[self.user]
            for other in range(2 * (one // 2) + 2, len(CELLS)):  # later steps: `one` is complete
                is_other = rated & (self.cell == other)
                self.overlaps[one, other] = tuple(
                    self._at_looks(is_other * each) for each in (n_one, g * y_one, g * n_one, y_one)
                )

    def _at_looks(self, add: Any) -> Ints:
        sums: Ints = np.cumsum(add, dtype=np.int64)[self.ends - 1]
        return sums

    def at(self, look: int) -> tuple[Strata, list[Overlap], tuple[float, ...]]:
        """What the service would hand over at this look."""
        arms = [
            ArmSums(**{name: int(table[cell, look]) for name, table in self.sums.items()})
            for cell in range(len(CELLS))
        ]
        strata = [(arms[2 * s], arms[2 * s + 1]) for s in range(len(SHARES))]
        begun = sum(1 for pair in strata if pair[0].num_requests + pair[1].num_requests)
        overlaps = [
            Overlap(
                (one // 2, ARMS[one % 2]), (other // 2, ARMS[other % 2]),
                *(float(each[look]) for each in sums),
            )
            for (one, other), sums in self.overlaps.items()
            if sums[0][look]
        ]  # fmt: skip
        return strata[:begun], overlaps, SHARES[:begun]


def _before(key: Ints, flag: Any) -> Ints:
    """For each event, how many flagged ones of the same key came before it."""
    order = np.argsort(key, kind="stable")
    counts = np.cumsum(flag[order]) - flag[order]
    starts = np.concatenate([[True], key[order][1:] != key[order][:-1]])
    base = np.maximum.accumulate(np.where(starts, np.arange(len(key)), 0))
    found = np.empty(len(key), dtype=np.int64)
    found[order] = counts - counts[base]
    return found


def follow(run: Run, plan: CanaryPlan) -> Outcome:
    """Ask for the verdict at every look, as the worker does; a roll back ends it."""
    verdict: Verdict | None = None
    decided: VerdictKind | None = None
    is_peeked = was_blocked = False
    strata: Strata = []
    for look in range(len(run.ends)):
        strata, overlaps, shares = run.at(look)
        verdict = judge(plan, strata, expected_shares=shares, overlaps=overlaps, before=verdict)
        was_blocked |= verdict.kind is VerdictKind.BLOCKED_SAMPLE_RATIO
        is_peeked = is_peeked or _peek(strata)
        if decided is None and verdict.kind in (VerdictKind.BETTER, VerdictKind.WORSE):
            decided = verdict.kind
        if verdict.kind.is_roll_back:
            break
    users = [len(np.unique(run.user[: run.ends[look]][run.cell[: run.ends[look]] % 2 == side]))
             for side in (0, 1)]  # fmt: skip
    return Outcome(
        stopped_by=verdict.kind if verdict is not None and verdict.kind.is_roll_back else None,
        decided=decided,
        is_peeked=is_peeked,
        was_blocked=was_blocked,
        num_users=sum(users),
        num_treated=users[1],
        num_requests=int(run.ends[look]),
        evidence=float((verdict.numbers["evidence"] if verdict else None) or 0.0),
    )


def _peek(strata: Strata) -> bool:
    """By hand: ratings of both arms in one heap each, as if independent."""
    arms = [sum_arm([pair[side] for pair in strata]) for side in (0, 1)]
    if min(arm.num_feedback for arm in arms) < 30:
        return False
    one, other = (arm.num_good / arm.num_feedback for arm in arms)
    spread = sum(
        share * (1 - share) / arm.num_feedback
        for share, arm in zip((one, other), arms, strict=True)
    )
    return spread > 0 and erfc(abs(one - other) / sqrt(2 * spread)) < 0.05


def simulate(world: World, plan: CanaryPlan, *, runs: int, seed: int) -> list[Outcome]:
    """So many runs of one world."""
    rng = np.random.default_rng(seed)
    return [follow(Run(world, rng), plan) for _ in range(runs)]


def rate(hits: int, runs: int) -> dict[str, float]:
    """A share with Wilson's 95 % interval."""
    found = wilson_interval(hits, runs)
    if found is None:
        raise ValueError("no runs")
    return {"rate": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def make_plan(*, is_planned: bool) -> CanaryPlan:
    """The usual plan; its information does not depend on the traffic."""
    return plan_canary(Traffic(), is_planned=is_planned)


def measure_equal(world: World, is_planned: bool, runs: int) -> dict[str, Any]:
    """Versions that are alike."""
    found = simulate(world, make_plan(is_planned=is_planned), runs=runs, seed=7)
    return {
        "false_roll_backs": rate(sum(one.stopped_by is not None for one in found), runs),
        "by_kind": count_kinds(found),
        "false_decisions": rate(sum(one.decided is not None for one in found), runs),
        "peeking_by_hand": rate(sum(one.is_peeked for one in found), runs),
        "blocked_by_sample_ratio": rate(sum(one.was_blocked for one in found), runs),
        "evidence_at_the_end": round(float(np.median([one.evidence for one in found])), 2),
    }


def count_kinds(found: list[Outcome]) -> dict[str, int]:
    """Roll backs by what said so."""
    return dict(Counter(str(one.stopped_by) for one in found if one.stopped_by))


def measure_worse(world: World, runs: int) -> dict[str, Any]:
    """A version that is worse: rolled back when?"""
    found = simulate(world, make_plan(is_planned=True), runs=runs, seed=11)
    stopped = [one for one in found if one.stopped_by is not None]
    names = ("num_users", "num_treated", "num_requests")
    middle = {
        name: round(float(np.median([getattr(one, name) for one in stopped])))
        for name in names
        if stopped
    }
    if middle:
        middle["minutes"] = round(middle["num_requests"] / REQUESTS_A_MINUTE)
        middle["seconds_at_20_a_second"] = round(middle["num_requests"] / 20)
    return {
        "rolled_back": rate(len(stopped), runs),
        "by_kind": count_kinds(found),
        "median_until_roll_back": middle,
    }


def measure_loss(runs: int) -> dict[str, float]:
    """30 % of the treatment's users are lost: how often the sample ratio says so."""
    lost = simulate(World(lost=0.3), make_plan(is_planned=True), runs=runs // 10, seed=13)
    return rate(sum(one.was_blocked for one in lost), len(lost))


def list_worlds() -> dict[str, Callable[[int], dict[str, Any]]]:
    """What is measured, by name; each takes the number of runs."""
    quick = World(num_requests=4_000, look_every=20)
    broken = World(num_requests=2_000, look_every=5)
    equal = {
        "equal_planned": (World(), True),
        "equal_open_ended": (World(), False),
        "equal_at_approval_92": (World(approval=0.92, correlation=0.4), True),
    }
    worse = {
        "minus_5_points": World(drop=0.05),
        "minus_10_points": World(drop=0.10),
        "errors_plus_5_points": replace(quick, error_rise=0.05),
        "errors_half_of_all": replace(broken, error_rise=0.5),
        "errors_all": replace(broken, error_rise=1.0),
    }
    measures: dict[str, Callable[[int], dict[str, Any]]] = {
        name: partial(measure_equal, world, is_planned)
        for name, (world, is_planned) in equal.items()
    }
    measures |= {name: partial(measure_worse, world) for name, world in worse.items()}
    return measures | {"users_lost": measure_loss}


def main() -> None:
    """Simulate, print, and fail where false alarms lie surely above alpha."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--only", nargs="*", help="names of the worlds, such as minus_5_points")
    chosen = parser.parse_args()
    runs = chosen.runs
    started_at = time.perf_counter()
    report: dict[str, Any] = {"runs": runs}
    for name, measure in list_worlds().items():
        if not chosen.only or name in chosen.only:
            report[name] = measure(runs)
            print(f"{name}: {json.dumps(report[name])}", flush=True)
    report["holds"] = all(
        max(one["false_roll_backs"]["low"], one["false_decisions"]["low"]) <= 0.05
        for one in report.values()
        if isinstance(one, dict) and "false_roll_backs" in one
    )
    report["seconds"] = round(time.perf_counter() - started_at, 1)
    print(json.dumps(report))
    if not report["holds"]:
        sys.exit("False alarms lie above alpha.")


if __name__ == "__main__":
    main()
