"""The data card of a version: what is in it, who said so, and what to be careful with.

Collected while the rows are read, in numbers only: some 40 bytes a row, no text.
"""

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.orm import Session

from rlhf_core.dataset.card_raters import describe_raters
from rlhf_core.dataset.near_duplicates import NearDuplicates
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.examples import (
    Example,
    PreferencePair,
    PromptOnly,
    ScoredCompletion,
    SftExample,
    SteppedCompletion,
    UnpairedPreference,
)
from rlhf_core.vocabulary import DatasetPurpose, PairOrigin, Split

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rlhf_core.dataset.voices import Voices

SEGMENTS = ("source", "action_type", "model_name", "language")
UNKNOWN = "not known"
SHOWN_VALUES = 20
SHOWN_ROWS = 10
NOTABLE_DIFFERENCE = 0.1
NOTABLE_Z = 3.0
FAR = 3.5  # robust z of the log length: Iglewicz and Hoaglin's rule
MIN_FAR_RATIO = 4.0
OUTCOMES = {
    ScoredCompletion: "rated good",
    PreferencePair: "chosen is the longer one",
    UnpairedPreference: "thumb up",
    SteppedCompletion: "no wrong step",
    SftExample: "written by a person",
}


class CardBuilder:
    """`add` every row, in order; then `finish`."""

    def __init__(self, db: Session, params: DatasetParams) -> None:
        self._db = db
        self._params = params
        self._segments: dict[str, Counter[str]] = {name: Counter() for name in SEGMENTS}
        self._told: dict[str, Counter[str]] = {name: Counter() for name in SEGMENTS}
        self._good: dict[str, Counter[str]] = {name: Counter() for name in SEGMENTS}
        self._lengths: dict[str, array[int]] = {}
        self._outcomes = array("b")  # 1, 0, or -1 where the row has none
        self._labels: Counter[str] = Counter()
        self._scores = array("f")
        self._num_ratings = 0
        self._keys = array("Q")  # of the row's content
        self._sides = array("b")  # which way round a pair is
        self._interactions = bytearray()
        self._outcome_name: str | None = None

    def add(self, row: Example) -> None:
        """Count the row in."""
        outcome = self._count_label(row)
        self._outcomes.append(-1 if outcome is None else outcome)
        self._outcome_name = OUTCOMES.get(type(row))
        for name in SEGMENTS:
            value = row.segments.get(name) or UNKNOWN
            self._segments[name][value] += 1
            if outcome is not None:
                self._told[name][value] += 1
            if outcome:
                self._good[name][value] += 1
        texts = _texts(row)
        for name, text in texts.items():
            self._lengths.setdefault(name, array("I")).append(len(text))
        answers = [text for name, text in texts.items() if name != "prompt"]
        self._sides.append(answers != sorted(answers))
        content = "\0".join([row.group, *sorted(answers)]).encode(errors="surrogatepass")
        self._keys.append(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()))
        for name in ("interaction_id", "chosen_interaction_id", "rejected_interaction_id"):
            text = getattr(row, name, "")
            if text:
                self._interactions += UUID(text).bytes

    def finish(
        self,
        *,
        parts: Sequence[Split],
        left_out: Mapping[str, int],
        near_duplicates: NearDuplicates | None,
        voices: "Voices",
    ) -> dict[str, Any]:
        """The card as plain values; `parts` are those of the rows, in their order."""
        ids = self._list_interactions()
        counted = Counter(parts)
        is_scored = self._params.purpose is DatasetPurpose.SCORES
        return {
            "num_rows": len(parts),
            "num_ratings": self._num_ratings,
            "num_interactions": len(ids),
            "parts": {part.value: counted[part] for part in Split if counted[part]},
            "num_left_out": sum(left_out.values()),
            "near_duplicates": near_duplicates and asdict(near_duplicates),
            **{name: _largest(self._segments[name]) for name in SEGMENTS},
            "labels": self._describe_labels(),
            "length": {name: _describe_lengths(lengths) for name, lengths in self._lengths.items()},
            "outliers": self._find_outliers(),
            "bias": self._compare_segments() + self._compare_lengths(),
            **describe_raters(
                self._db,
                voices=voices,
                interaction_ids=ids,
                threshold=self._params.threshold if is_scored else None,
                is_one_scale=self._is_one_scale(),
            ),
        }

    def _list_interactions(self) -> Sequence[bytes]:
        """The ids of all interactions, each once."""
        import numpy as np

        ids: Any = np.unique(np.frombuffer(bytes(self._interactions), dtype="V16"))
        found: Sequence[bytes] = ids
        return found

    def _is_one_scale(self) -> bool:
        """Whether a coefficient of agreement means something.

        Votes are -1 to 1 and ratings 1 to 5, so none is given of pairs of both kinds; and none of
        completions that were chosen for their ratings.
        """
        both = {PairOrigin.COMPARISON.value, PairOrigin.RATINGS.value}
        return self._params.purpose is not DatasetPurpose.SFT and not both <= set(self._labels)

    def _count_label(self, row: Example) -> int | None:
        """Note the label; returns the outcome that segments are compared by."""
        match row:
            case ScoredCompletion():
                self._num_ratings += row.num_ratings
                self._scores.append(row.score)
                self._labels[f"{math.floor(row.score + 0.5)}"] += 1
                return int(row.score >= self._params.threshold)
            case PreferencePair():
                self._num_ratings += row.num_votes
                self._scores.append(row.margin)
                self._labels[row.origin or UNKNOWN] += 1
                if row.margin == 0 or len(row.chosen) == len(row.rejected):
                    return None
                return int(len(row.chosen) > len(row.rejected))
            case UnpairedPreference():
                self._num_ratings += 1
                self._labels["up" if row.label else "down"] += 1
                return int(row.label)
            case SteppedCompletion():
                for label in row.labels:
                    self._labels[{True: "right", False: "wrong", None: "not judged"}[label]] += 1
                self._num_ratings += sum(label is not None for label in row.labels)
                return int(False not in row.labels)
            case SftExample():
                self._labels["correction" if row.is_correction else "rated good"] += 1
                return int(row.is_correction)
            case PromptOnly():
                return None

    def _describe_labels(self) -> dict[str, Any]:
        known = [outcome for outcome in self._outcomes if outcome >= 0]
        return {
            "outcome": self._outcome_name,
            "rate": _rounded(sum(known) / len(known)) if known else None,
            "counts": dict(sorted(self._labels.items())),
            "mean": _rounded(math.fsum(self._scores) / len(self._scores)) if self._scores else None,
        }

    def _find_outliers(self) -> dict[str, Any]:
        """Texts of an unusual length, equal rows, and pairs that say the opposite of another."""
        import numpy as np

        far: set[int] = set()
        for lengths in self._lengths.values():
            far.update(_find_far(np.asarray(lengths, dtype=float)))
        keys, sides = np.asarray(self._keys), np.asarray(self._sides)
        _, first, count = np.unique(keys, return_index=True, return_counts=True)
        order = np.argsort(keys, kind="stable")
        is_opposite = (np.diff(keys[order]) == 0) & (np.diff(sides[order]) != 0)
        opposite = {int(at) for at in order[1:][is_opposite]}
        return {
            "num_unusual_lengths": len(far),
            "unusual_rows": sorted(far)[:SHOWN_ROWS],
            "num_repeated_rows": int((count - 1).sum()) if len(first) else 0,
            "num_contradictions": len(opposite),
            "contradicting_rows": sorted(opposite)[:SHOWN_ROWS],
        }

    def _compare_segments(self) -> list[dict[str, Any]]:
        if not self._has_both_outcomes():
            return []
        return [
            _compare(name, value, count, self._good[name][value], self._whole())
            for name in SEGMENTS
            if len(self._told[name]) > 1
            for value, count in self._told[name].most_common(SHOWN_VALUES)
        ]

    def _compare_lengths(self) -> list[dict[str, Any]]:
        """By quarters of the completion's length: a judge must not learn that longer is better."""
        import numpy as np

        lengths = self._lengths.get("completion")
        if not self._has_both_outcomes() or lengths is None or len(lengths) < 8:
            return []
        values, outcomes = np.asarray(lengths), np.asarray(self._outcomes)
        edges = np.quantile(values, [0.25, 0.5, 0.75])
        quarter = np.searchsorted(edges, values, side="left")
        names = ("shortest quarter", "second quarter", "third quarter", "longest quarter")
        return [
            _compare("length", name, int(mine.sum()), int(outcomes[mine].sum()), self._whole())
            for place, name in enumerate(names)
            if (mine := quarter == place).any()
        ]

    def _has_both_outcomes(self) -> bool:
        return 0 in self._outcomes and 1 in self._outcomes

    def _whole(self) -> tuple[int, int]:
        """The rows that have an outcome, and the good ones of them."""
        told = [outcome for outcome in self._outcomes if outcome >= 0]
        return len(told), sum(told)


def _texts(row: Example) -> dict[str, str]:
    match row:
        case PreferencePair():
            return {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
        case SteppedCompletion():
            return {"prompt": row.prompt, "completion": "\n".join(row.completions)}
        case PromptOnly():
            return {"prompt": row.prompt}
        case _:
            return {"prompt": row.prompt, "completion": row.completion}


def _largest(counts: Counter[str]) -> dict[str, int]:
    """The most frequent values; the rest in one number, so that it adds up."""
    shown = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_VALUES])
    rest = sum(counts.values()) - sum(shown.values())
    return shown | ({f"{len(counts) - SHOWN_VALUES} others": rest} if rest else {})


def _describe_lengths(lengths: "array[int]") -> dict[str, float]:
    """In characters."""
    import numpy as np

    values = np.asarray(lengths)
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "mean": _rounded(float(values.mean())),
        "p5": _rounded(float(low)),
        "median": _rounded(float(middle)),
        "p95": _rounded(float(high)),
        "max": int(values.max()),
    }


def _find_far(lengths: "npt.NDArray[np.float64]") -> list[int]:
    """Places whose log length lies far from the median, by the median absolute deviation."""
    import numpy as np

    logs = np.log1p(lengths)
    distance = np.abs(logs - np.median(logs))
    spread = max(1.4826 * float(np.median(distance)), 1e-9)
    is_far = (distance / spread > FAR) & (distance > math.log(MIN_FAR_RATIO))
    return [int(place) for place in np.flatnonzero(is_far)]


def _compare(
    segment: str, value: str, count: int, num_good: int, whole: tuple[int, int]
) -> dict[str, Any]:
    """The rate of the outcome here and in all other rows; notable where both tests say so."""
    num_rows, num_all_good = whole
    rate = num_good / count
    others = num_rows - count
    rest = (num_all_good - num_good) / others if others else rate
    pooled = num_all_good / num_rows
    error = math.sqrt(pooled * (1 - pooled) * (1 / count + 1 / others)) if others else 0.0
    difference = rate - rest
    is_notable = abs(difference) >= NOTABLE_DIFFERENCE and abs(difference) > NOTABLE_Z * error
    return {
        "segment": segment,
        "value": value,
        "rows": count,
        "rate": _rounded(rate),
        "rate_of_others": _rounded(rest),
        "is_notable": bool(is_notable and others),
    }


def _rounded(value: float) -> float:
    return round(value, 4)
