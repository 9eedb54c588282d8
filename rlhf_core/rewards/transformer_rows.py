"""Training rows as a transformer takes them: tokens, targets, weights; what is cut is counted."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rlhf_core.errors import InvalidInput, NotEnoughData, RlhfError, TrainingFailed
from rlhf_core.examples import PreferencePair, ScoredCompletion, UnpairedPreference
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.features import count_texts
from rlhf_core.rewards.heads import OVERALL
from rlhf_core.rewards.requirements import MIN_PROMPTS, MIN_ROWS, RowCounts, find_obstacle
from rlhf_core.rewards.transformer_params import TransformerParams
from rlhf_core.rewards.transformer_text import TextEncoder, Tokens
from rlhf_core.training import Tracker

Row = ScoredCompletion | UnpairedPreference | PreferencePair
BEST_SCORE, WORST_SCORE = 5.0, 1.0  # what a thumb is worth among ratings
MIN_ASPECT_ROWS = 30
HELD_OUT_ROWS = 150
HELD_OUT_BOUNDS = (0.10, 0.25)


@dataclass(frozen=True)
class Corpus:
    """Rows in tokens. `texts` has one entry a row, or two (chosen, rejected) of a pair.

    `targets` (n, heads) are ratings 1..5, NaN where unknown; (n, 0) of pairs. `heads` names them,
    the overall one first. `margins` (n,) are rating points; `weights` (n,) have mean 1. `counts`
    (n, texts, 20) are `features.count_texts` of each text, `offsets` (n, texts) what these alone
    say of it, see `transformer_manner`.
    """

    texts: list[tuple[Tokens, ...]]
    targets: Floats
    margins: Floats
    weights: Floats
    groups: list[str]
    heads: tuple[str, ...]
    counts: Floats
    offsets: Floats

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def has_pairs(self) -> bool:
        """Whether the rows are preference pairs."""
        return bool(self.texts) and len(self.texts[0]) == 2

    @property
    def lengths(self) -> list[int]:
        """The tokens of each row; of a pair, of its longer side."""
        return [max(len(text.ids) for text in row) for row in self.texts]

    def take(self, places: Sequence[int] | npt.NDArray[np.intp]) -> "Corpus":
        """Some of the rows, by place."""
        return replace(
            self,
            texts=[self.texts[place] for place in places],
            targets=self.targets[places],
            margins=self.margins[places],
            weights=self.weights[places],
            groups=[self.groups[place] for place in places],
            counts=self.counts[places],
            offsets=self.offsets[places],
        )

    def digest(self) -> str:
        """A hash of everything that training sees, in hex: a checkpoint is bound to it."""
        found = hashlib.sha256()
        for row in self.texts:
            for text in row:
                found.update(np.asarray(text.ids, dtype=np.int64).tobytes())
                found.update(b"|")
        for table in (self.targets, self.margins, self.weights, self.counts):
            found.update(table.tobytes())
        found.update("\n".join(self.groups).encode("utf-8", "surrogatepass"))
        return found.hexdigest()


@dataclass(frozen=True)
class RowReport:
    """What became of the rows: `num_dropped` were too long, the others' cuts are counted."""

    num_rows: int
    num_dropped: int
    num_prompts_cut: int
    num_completions_cut: int


def build_corpus(
    rows: Sequence[Row], encoder: TextEncoder, params: TransformerParams, tracker: Tracker
) -> tuple[Corpus, RowReport]:
    """The rows in tokens, and what was cut or left out.

    Raises NotEnoughData or TrainingFailed where the rows cannot train a model, InvalidInput for a
    row without text, or rows of two kinds.
    """
    check_rows(rows, params)
    texts = _encode(rows, encoder)
    is_long = [any(text.is_completion_cut for text in row) for row in texts]
    kept = [place for place, long in enumerate(is_long) if not (long and params.overlong == "drop")]
    report = RowReport(
        num_rows=len(kept),
        num_dropped=len(rows) - len(kept),
        num_prompts_cut=sum(any(text.is_prompt_cut for text in texts[place]) for place in kept),
        num_completions_cut=sum(is_long[place] for place in kept),
    )
    _say_cuts(report, params, tracker)
    if report.num_dropped:
        try:
            check_rows([rows[place] for place in kept], params)
        except RlhfError as error:
            raise TrainingFailed(
                f"{report.num_dropped} of {len(rows)} rows are longer than {params.max_tokens} "
                f"tokens and were left out; of the others: {error} Or raise max_tokens."
            ) from error
    return _build(rows, texts, params).take(kept), report


def drop_ties(rows: Sequence[Row], tracker: Tracker) -> list[Row]:
    """The rows without pairs that say nothing: a margin of 0, or the same text twice."""
    kept = [
        row
        for row in rows
        if not isinstance(row, PreferencePair) or (row.margin != 0 and row.chosen != row.rejected)
    ]
    if len(kept) < len(rows):
        tracker.log(f"{len(rows) - len(kept)} of {len(rows)} pairs are ties and are left out.")
    return kept


def check_rows(rows: Sequence[Row], params: TransformerParams) -> None:
    """Raise the first reason why these rows cannot train a model."""
    if not rows:
        raise NotEnoughData(have=0, need=MIN_ROWS, what="rows")
    kinds = {"pairs" if isinstance(row, PreferencePair) else "completions" for row in rows}
    if len(kinds) > 1:
        raise InvalidInput("Pairs and single completions are mixed: train on one kind of rows.")
    wanted = {"regression": "completions", "preference": "pairs"}.get(params.objective)
    if wanted is not None and wanted not in kinds:
        raise InvalidInput(
            f"The objective {params.objective!r} needs {wanted}, these rows are {kinds.pop()}: "
            "choose the other objective, or `auto`.",
            field="objective",
        )
    for number, row in enumerate(rows, start=1):
        _check_row(number, row)
    if "pairs" in kinds:
        if len(rows) < MIN_ROWS:
            raise NotEnoughData(have=len(rows), need=MIN_ROWS, what="preference pairs")
        if len({row.group for row in rows}) < MIN_PROMPTS:
            raise TrainingFailed(
                f"All {len(rows)} pairs answer one prompt: the model is tested on prompts it has "
                "not seen; compare answers to more prompts."
            )
        return
    obstacle = find_obstacle(_count(rows, params.threshold), threshold=params.threshold)
    if obstacle is not None:
        raise obstacle


def hold_out(corpus: Corpus, params: TransformerParams) -> tuple[Corpus, Corpus]:
    """(rows to learn from, rows held out): by prompt, alike in mean rating, by the seed alone."""
    share = params.held_out_percent / 100
    if not share:
        share = float(np.clip(HELD_OUT_ROWS / len(corpus), *HELD_OUT_BOUNDS))
    names, members = np.unique(np.asarray(corpus.groups), return_inverse=True)
    level = np.zeros(len(names))
    if not corpus.has_pairs:
        level = np.bincount(members, weights=corpus.targets[:, 0]) / np.bincount(members)
    rng = np.random.default_rng(params.seed)
    drawn = rng.permutation(len(names))
    order = drawn[np.argsort(level[drawn], kind="stable")]
    count = min(len(names) - 1, max(1, round(share * len(names))))
    step = len(names) / count  # every so manieth prompt, from the worst rated to the best
    places = (rng.random() * step + step * np.arange(count)).astype(int)
    is_held = np.isin(members, order[np.minimum(places, len(names) - 1)])
    return corpus.take(np.flatnonzero(~is_held)), corpus.take(np.flatnonzero(is_held))


def _check_row(number: int, row: Row) -> None:
    sides = (row.chosen, row.rejected) if isinstance(row, PreferencePair) else (row.completion,)
    if not row.prompt.strip() or not all(side.strip() for side in sides):
        part = "completion" if row.prompt.strip() else "prompt"
        raise InvalidInput(f"Row {number} (prompt {row.group}) has an empty {part}: leave it out.")
    if isinstance(row, ScoredCompletion):
        fits = WORST_SCORE <= row.score <= BEST_SCORE and row.num_ratings >= 1
        if not fits or not all(1.0 <= value <= 5.0 for value in row.aspects.values()):
            raise InvalidInput(
                f"Row {number} (interaction {row.interaction_id}) has the rating {row.score} of "
                f"{row.num_ratings} raters: ratings, also of aspects, go from 1 to 5."
            )
        if OVERALL in row.aspects:
            raise InvalidInput(f"Row {number} has an aspect named {OVERALL!r}: name it otherwise.")
    if isinstance(row, PreferencePair) and not (0.0 <= row.margin < np.inf and row.num_votes >= 1):
        raise InvalidInput(
            f"Row {number} has the margin {row.margin} of {row.num_votes} votes: give 0 or more, "
            "of one vote at least."
        )


def _score_of(row: ScoredCompletion | UnpairedPreference) -> float:
    if isinstance(row, UnpairedPreference):
        return BEST_SCORE if row.label else WORST_SCORE
    return row.score


def _count(rows: Sequence[Row], threshold: float) -> RowCounts:
    scored = [(_score_of(row), row.group) for row in rows if not isinstance(row, PreferencePair)]
    good = [group for score, group in scored if score >= threshold]
    bad = {group for score, group in scored if score < threshold}
    return RowCounts(
        num_rows=len(scored),
        num_good=len(good),
        num_prompts=len({group for _, group in scored}),
        num_prompts_good=len(set(good)),
        num_prompts_bad=len(bad),
        lowest=min(score for score, _ in scored),
        highest=max(score for score, _ in scored),
    )


def _encode(rows: Sequence[Row], encoder: TextEncoder) -> list[tuple[Tokens, ...]]:
    prompts = [row.prompt for row in rows]
    pairs = [row for row in rows if isinstance(row, PreferencePair)]
    if pairs:
        chosen = encoder.encode(prompts, [row.chosen for row in pairs])
        rejected = encoder.encode(prompts, [row.rejected for row in pairs])
        return list(zip(chosen, rejected, strict=True))
    singles = [row.completion for row in rows if not isinstance(row, PreferencePair)]
    return [(text,) for text in encoder.encode(prompts, singles)]


def _build(
    rows: Sequence[Row], texts: list[tuple[Tokens, ...]], params: TransformerParams
) -> Corpus:
    heads = (OVERALL, *_choose_aspects(rows)) if params.aspects else (OVERALL,)
    targets = np.full((len(rows), len(heads)), np.nan)
    margins = np.zeros(len(rows))
    weights = np.ones(len(rows))
    for place, row in enumerate(rows):
        if isinstance(row, PreferencePair):
            margins[place] = row.margin
            weights[place] = row.num_votes
            continue
        targets[place, 0] = _score_of(row)
        if isinstance(row, ScoredCompletion):
            weights[place] = row.num_ratings
            for number, name in enumerate(heads[1:], start=1):
                targets[place, number] = row.aspects.get(name, np.nan)
    # A mean of nine ratings says more than one rating, but not nine times as much: people differ.
    weights = np.sqrt(weights)
    return Corpus(
        texts=texts,
        targets=targets,
        margins=margins,
        weights=weights / weights.mean(),
        groups=[row.group for row in rows],
        heads=heads,
        counts=_count_texts(rows),
        offsets=np.zeros((len(rows), len(texts[0]))),
    )


def _count_texts(rows: Sequence[Row]) -> Floats:
    """What is counted in each text: (n, texts, 20)."""
    prompts = [row.prompt for row in rows]
    pairs = [row for row in rows if isinstance(row, PreferencePair)]
    sides = [[row.chosen for row in pairs], [row.rejected for row in pairs]]
    if not pairs:
        sides = [[row.completion for row in rows if not isinstance(row, PreferencePair)]]
    found: Floats = np.stack([count_texts(prompts, side) for side in sides], axis=1)
    return found


def _choose_aspects(rows: Sequence[Row]) -> tuple[str, ...]:
    """The aspects that enough rows have, rated differently, in alphabetical order."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if isinstance(row, ScoredCompletion):
            for name, value in row.aspects.items():
                found.setdefault(name, []).append(value)
    return tuple(
        name
        for name in sorted(found)
        if len(found[name]) >= MIN_ASPECT_ROWS and min(found[name]) < max(found[name])
    )


def _say_cuts(report: RowReport, params: TransformerParams, tracker: Tracker) -> None:
    if report.num_dropped:
        tracker.log(
            f"{report.num_dropped} of {report.num_dropped + report.num_rows} rows are left out: "
            f"a completion is longer than {params.max_tokens} tokens leave room for."
        )
    tracker.log(
        f"{report.num_rows} rows; of {report.num_prompts_cut} the prompt is cut on the left, of "
        f"{report.num_completions_cut} the end of a completion ({params.max_tokens} tokens)."
    )
