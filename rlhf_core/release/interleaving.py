"""Two rankers in one list: each user compares them unknowingly (team-draft interleaving)."""

import random
from collections.abc import Sequence
from math import log

from rlhf_core.errors import InvalidInput
from rlhf_core.release.judging import Numbers, Verdict, VerdictKind
from rlhf_core.release.sequential import log_preference
from rlhf_core.vocabulary import Arm


def draft_teams(
    order_control: Sequence[int], order_treatment: Sequence[int], *, seed: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The merged order, and the team ("control" or "treatment") that chose each place.

    Radlinski, Kurup and Joachims (CIKM 2008): as two captains pick players. In each round a coin
    says who picks first; each takes its best that is left. So both teams are as large, bar one,
    and sit as high on average: whose place is chosen more often has the better order.

    Raises:
        InvalidInput: the two are not orders of the same candidates.
    """
    if sorted(order_control) != sorted(order_treatment) or len(set(order_control)) != len(
        order_control
    ):
        raise InvalidInput(
            "Two orders are merged only if they hold the same candidates, once each."
        )
    coin = random.Random(seed)
    merged: list[int] = []
    teams: list[str] = []
    taken: set[int] = set()
    orders = {Arm.CONTROL: iter(order_control), Arm.TREATMENT: iter(order_treatment)}
    while len(merged) < len(order_control):
        first = coin.random() < 0.5
        for arm in (Arm.CONTROL, Arm.TREATMENT) if first else (Arm.TREATMENT, Arm.CONTROL):
            best = next((each for each in orders[arm] if each not in taken), None)
            if best is not None:
                merged.append(best)
                teams.append(arm.value)
                taken.add(best)
    return tuple(merged), tuple(teams)


def interleaving_verdict(
    wins_control: int, wins_treatment: int, ties: int = 0, *, alpha: float = 0.05
) -> Verdict:
    """Which ranker's picks are used more; may be asked after every choice.

    Count a user once: as a win of the team whose places they chose more often, as a tie where both
    equally. `alpha` is the chance that equal rankers are ever called different, half of it a side.
    Ties say nothing of the direction and are left out (sign test).
    """
    users = wins_control + wins_treatment
    limit = log(2 / alpha)
    for_treatment = log_preference(wins_treatment, wins_control)
    for_control = log_preference(wins_control, wins_treatment)
    share = wins_treatment / users if users else None
    numbers: Numbers = {
        "wins_control": wins_control,
        "wins_treatment": wins_treatment,
        "ties": ties,
        "treatment_share": share,
    }
    said = (
        f"{wins_treatment:,} users chose the treatment's picks more often, {wins_control:,} the "
        f"control's, {ties:,} both alike"
    )
    if for_treatment >= limit:
        return Verdict(VerdictKind.BETTER, f"Better: {said}. Promote it.", numbers)
    if for_control >= limit:
        return Verdict(VerdictKind.WORSE, f"Worse: {said}. It is rolled back.", numbers)
    return Verdict(VerdictKind.KEEP_WAITING, f"Keep waiting: {said}. It may be chance.", numbers)
