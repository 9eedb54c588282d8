"""Several models trained alike from different seeds: their mean, and how far they disagree.

Where the members disagree, the reward is a guess; a policy that is rewarded by the least of them
finds it harder to exploit one (Coste et al. 2023, "Reward Model Ensembles Help Mitigate
Overoptimization"). The other guard is a judge that was trained on other prompts than the model
that rewards: `halve_by_prompt` deals them out.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from rlhf_core.encoder.model import SentenceEncoder
from rlhf_core.errors import InvalidInput
from rlhf_core.examples import Example
from rlhf_core.rewards.base import Floats, RewardModel
from rlhf_core.rewards.pairwise import Comparing, compare
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import ModelKind

SPEC_FILE = "ensemble.json"
SPEC_FORMAT = 1
MAX_MEMBERS = 16
Aggregate = Literal["mean", "min"]
Row = TypeVar("Row", bound=Example)


@dataclass(frozen=True)
class EnsembleSpec:
    """What `ensemble.json` says. `members` are folders beside it, all of `member_kind`."""

    member_kind: ModelKind
    members: tuple[str, ...]
    aggregate: Aggregate = "mean"


class EnsembleRewardModel:
    """Its score is the mean (or the least) of its members' scores."""

    def __init__(self, members: Sequence[RewardModel], *, aggregate: Aggregate = "mean") -> None:
        if not members:
            raise InvalidInput("An ensemble needs a member at least.")
        if len({member.is_probability for member in members}) > 1:
            raise InvalidInput("Some members score 0 to 1 and some do not: they cannot be mixed.")
        if aggregate not in get_args(Aggregate):
            raise InvalidInput(
                f"aggregate {aggregate!r}: choose from {', '.join(get_args(Aggregate))}.",
                field="aggregate",
            )
        self.members = tuple(members)
        self.aggregate = aggregate

    @property
    def is_probability(self) -> bool:
        """Whether the members' scores are P(good) in 0..1."""
        return self.members[0].is_probability

    @property
    def aspects(self) -> tuple[str, ...]:
        """The aspects that every member has a head for."""
        shared = set(self.members[0].aspects)
        for member in self.members[1:]:
            shared &= set(member.aspects)
        return tuple(sorted(shared))

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        """The members' mean (or least) score of each pair (n,), in their order."""
        table = self.score_members(prompts, completions, weights=weights)
        found: Floats = table.mean(axis=0) if self.aggregate == "mean" else table.min(axis=0)
        return found

    def score_members(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        """Each member's score of each pair: (k, n)."""
        return np.stack(
            [member.score(prompts, completions, weights=weights) for member in self.members]
        )

    def spread(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        """The standard deviation between the members at each pair (n,); 0 of one member."""
        found: Floats = self.score_members(prompts, completions, weights=weights).std(axis=0)
        return found

    def prefer(
        self, prompts: Sequence[str], firsts: Sequence[str], seconds: Sequence[str]
    ) -> Floats | None:
        """The members' mean P(the first completion is better); None unless all are asked so."""
        if not all(isinstance(member, Comparing) for member in self.members):
            return None
        found = [compare(member, prompts, firsts, seconds) for member in self.members]
        mean: Floats = np.mean(found, axis=0)
        return mean


class LatestEncoder:
    """An encoder that keeps its latest answer: members ask for the same texts in turn."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.digest = encoder.digest
        self.dimension = encoder.dimension
        self._latest: tuple[list[str], Any] = ([], None)

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> "np.ndarray[Any, Any]":
        """L2-normalised float32 embeddings (n, dimension), in the order of `texts`."""
        asked, found = self._latest  # one read: another thread may replace the pair meanwhile
        wanted = list(texts)
        if found is None or asked != wanted:
            found = self._encoder.encode(wanted, batch_size=batch_size)
            self._latest = (wanted, found)
        embeddings: np.ndarray[Any, Any] = found
        return embeddings


def train_ensemble(
    train_one: Callable[[int, Path], TrainReport],
    seeds: Sequence[int],
    out_dir: Path,
    *,
    member_kind: ModelKind,
    aggregate: Aggregate = "mean",
) -> TrainReport:
    """Train a member a seed by `train_one(seed, folder)` and write the ensemble into `out_dir`.

    The report's metrics are the members' means, those that all have; `details["members"]` holds
    each member's own, `details["metrics_spread"]` their standard deviations. What a member raises
    goes through. Raises InvalidInput for fewer than 2 or repeated seeds.
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise InvalidInput(
            f"seeds {list(seeds)}: an ensemble needs at least 2, all different.", field="seeds"
        )
    if len(seeds) > MAX_MEMBERS:
        raise InvalidInput(f"{len(seeds)} seeds: {MAX_MEMBERS} at most.", field="seeds")
    if member_kind is ModelKind.REWARD_ENSEMBLE:
        raise InvalidInput("The members of an ensemble are no ensembles: choose another learner.")
    names = tuple(f"member-{number}" for number in range(len(seeds)))
    reports = []
    for seed, name in zip(seeds, names, strict=True):
        (out_dir / name).mkdir()
        reports.append(train_one(seed, out_dir / name))
    spec = EnsembleSpec(member_kind=member_kind, members=names, aggregate=aggregate)
    (out_dir / SPEC_FILE).write_text(
        json.dumps({"format": SPEC_FORMAT, **asdict(spec)}, indent=1, sort_keys=True)
    )
    return _summarise(reports, seeds, out_dir)


def read_ensemble(folder: Path) -> EnsembleSpec:
    """What the folder's `ensemble.json` says. Raises InvalidInput where it is not sound."""
    try:
        spec = json.loads((folder / SPEC_FILE).read_text())
        found = EnsembleSpec(
            member_kind=ModelKind(spec["member_kind"]),
            members=tuple(str(name) for name in spec["members"]),
            aggregate=spec["aggregate"],
        )
        sound = spec["format"] == SPEC_FORMAT and found.aggregate in get_args(Aggregate)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{folder} holds no ensemble ({type(error).__name__}: {error}): train it again."
        ) from error
    expected = tuple(f"member-{number}" for number in range(len(found.members)))
    if (
        not sound
        or not 0 < len(expected) <= MAX_MEMBERS
        or found.members != expected
        or found.member_kind is ModelKind.REWARD_ENSEMBLE
    ):
        raise InvalidInput(f"{folder / SPEC_FILE} is of another format: train the version again.")
    return found


def halve_by_prompt(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Two halves of the rows that share no prompt: for the model that rewards, and its judge.

    Only the seed and the prompts decide, so a row that is added moves no other prompt's half by
    much; within a half, rows keep their order. With one prompt the second half is empty.
    """
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.group] = sizes.get(row.group, 0) + 1
    halves: list[set[str]] = [set(), set()]
    filled = [0, 0]
    for group in sorted(sizes, key=lambda group: _draw(group, seed)):
        lesser = int(filled[1] < filled[0])
        halves[lesser].add(group)
        filled[lesser] += sizes[group]
    return (
        [row for row in rows if row.group in halves[0]],
        [row for row in rows if row.group in halves[1]],
    )


def _draw(group: str, seed: int) -> bytes:
    return hashlib.blake2b(f"half:{seed}:{group}".encode(), digest_size=8).digest()


def _summarise(reports: list[TrainReport], seeds: Sequence[int], out_dir: Path) -> TrainReport:
    first = reports[0]
    shared = [
        name for name in first.metrics if all(name in report.metrics for report in reports[1:])
    ]
    table = {name: [report.metrics[name] for report in reports] for name in shared}
    metrics = {name: float(np.mean(values)) for name, values in table.items()}
    return TrainReport(
        artifact_dir=out_dir,
        metrics=metrics | {"num_members": float(len(reports))},
        params=first.params | {"seeds": list(seeds)},
        seed=seeds[0],
        num_rows=first.num_rows,
        details={
            **first.details,
            "metrics_spread": {name: float(np.std(values)) for name, values in table.items()},
            "members": [
                {"seed": seed, "metrics": report.metrics}
                for seed, report in zip(seeds, reports, strict=True)
            ],
        },
        library_versions=first.library_versions,
    )
