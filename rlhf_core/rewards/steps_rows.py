"""Solutions with step labels as the step model takes them; what is left out, counted."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import SteppedCompletion
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.folds import assign_folds
from rlhf_core.rewards.logistic import Labels
from rlhf_core.rewards.steps_facts import describe_steps
from rlhf_core.rewards.steps_search import know_errors
from rlhf_core.rewards.steps_text import Cuts, StepReader, Window, cut_after

MIN_SOLUTIONS = 50
MIN_PROMPTS = 2  # with a right step, and with a wrong one: one to learn from, one to hold out
MIN_OF_KIND = 5  # prompts of faultless and of other solutions, to hold out of both kinds


@dataclass(frozen=True)
class RowReport:
    """What became of the rows. `num_unjudged` have no judged step and are left out.

    `num_empty_steps` are kept in their place, but nothing is learned from their labels. `cuts`:
    texts cut in their middle and solutions read in several windows.
    """

    num_rows: int
    num_unjudged: int
    num_empty_steps: int
    num_right: int
    num_wrong: int
    cuts: Cuts = field(default_factory=Cuts)


@dataclass(frozen=True)
class Solutions:
    """Rows with their tokens: `windows[i]` and `facts[i]` (steps, d; standardised) of row i.

    `training` are the windows that hold a judged step, over all rows, as they are trained on.
    """

    rows: list[SteppedCompletion]
    windows: list[list[Window]]
    facts: list[Floats]
    training: list[Window]

    def facts_of(self, window: Window) -> Floats:
        """The facts of the steps that the window judges (m, d)."""
        return self.facts[window.row][window.first : window.first + len(window.ends)]

    def labels_of(self, window: Window) -> Sequence[bool | None]:
        """The labels of the steps that the window judges."""
        return self.rows[window.row].labels[window.first : window.first + len(window.ends)]


def check_rows(rows: Sequence[SteppedCompletion]) -> tuple[list[SteppedCompletion], RowReport]:
    """The rows that can be learned from, without labels of empty steps.

    Raises:
        InvalidInput: a row has no steps, or not as many labels.
        NotEnoughData: fewer than 50 have a judged step.
        TrainingFailed: all judged steps are right, or wrong, or those of one kind answer one
            prompt.
    """
    kept = []
    num_empty = 0
    for number, row in enumerate(rows, start=1):
        if not row.completions or len(row.completions) != len(row.labels):
            raise InvalidInput(
                f"Row {number} (interaction {row.interaction_id}) has {len(row.completions)} steps "
                f"and {len(row.labels)} labels: give each step a label, or None."
            )
        is_empty = [not step.strip() for step in row.completions]
        num_empty += sum(is_empty)
        labels = tuple(
            None if empty else label for label, empty in zip(row.labels, is_empty, strict=True)
        )
        if any(label is not None for label in labels):
            kept.append(replace(row, labels=labels))
    _refuse_unlearnable(kept)
    judged = [label for row in kept for label in row.labels if label is not None]
    return kept, RowReport(
        num_rows=len(kept),
        num_unjudged=len(rows) - len(kept),
        num_empty_steps=num_empty,
        num_right=sum(judged),
        num_wrong=len(judged) - sum(judged),
    )


def hold_out(
    rows: Sequence[SteppedCompletion], *, percent: float, seed: int
) -> tuple[list[SteppedCompletion], list[SteppedCompletion]]:
    """(rows to learn from, about `percent` of them held out): no prompt in both.

    Solutions with and without a mistake are dealt out alike where there are enough of both;
    otherwise right and wrong steps are.
    """
    known = know_errors(rows)
    faultless = np.zeros(len(rows), dtype=bool)
    faultless[known.rows] = known.is_faultless
    groups = [row.group for row in rows]
    kinds = [{group for group, is_one in zip(groups, faultless == kind, strict=True) if is_one}
             for kind in (True, False)]  # fmt: skip
    num_folds = max(2, round(100.0 / percent))
    if min(len(kind) for kind in kinds) >= max(MIN_OF_KIND, num_folds):
        folds = assign_folds(faultless, groups, num_folds=num_folds, seed=seed)
        is_held = folds == 0
    else:
        labels, of_row = flatten_labels(rows)
        step_groups = [groups[row] for row in of_row]
        folds = assign_folds(labels, step_groups, num_folds=num_folds, seed=seed)
        held_rows = {int(row) for row, fold in zip(of_row, folds, strict=True) if fold == 0}
        is_held = np.array([number in held_rows for number in range(len(rows))])
    return (
        [row for row, held in zip(rows, is_held, strict=True) if not held],
        [row for row, held in zip(rows, is_held, strict=True) if held],
    )


def flatten_labels(rows: Sequence[SteppedCompletion]) -> tuple[Labels, list[int]]:
    """Labels of all judged steps (m,), and the row of each."""
    labels, of_row = [], []
    for number, row in enumerate(rows):
        for label in row.labels:
            if label is not None:
                labels.append(label)
                of_row.append(number)
    return np.array(labels, dtype=bool), of_row


def flatten(tables: Sequence[Floats], rows: Sequence[SteppedCompletion]) -> Floats:
    """The entries of tables (steps, ...) a row that belong to judged steps, joined."""
    kept = [
        table[[label is not None for label in row.labels]]
        for table, row in zip(tables, rows, strict=True)
    ]
    return np.concatenate(kept)


def describe_rows(rows: Sequence[SteppedCompletion]) -> list[Floats]:
    """The facts of each row's steps (steps, d), not scaled."""
    return [describe_steps(row.prompt, row.completions) for row in rows]


def read_rows(
    rows: list[SteppedCompletion], facts: list[Floats], reader: StepReader, *, is_forward: bool
) -> tuple[Solutions, Cuts]:
    """Tokens of the rows. A model that reads forward is trained up to the last label only."""
    windows, training, cuts = [], [], Cuts()
    for number, row in enumerate(rows):
        found, cut = reader.read(number, row.prompt, row.completions)
        cuts += cut
        windows.append(found)
        if is_forward:
            found = cut_after(
                found, max(place for place, one in enumerate(row.labels) if one is not None)
            )
        for window in found:
            labels = row.labels[window.first : window.first + len(window.ends)]
            if any(label is not None for label in labels):
                training.append(window)
    return Solutions(rows=rows, windows=windows, facts=facts, training=training), cuts


def digest_rows(rows: Sequence[SteppedCompletion]) -> str:
    """A hash of everything in the rows that training sees."""
    digest = hashlib.sha256()
    for row in rows:
        plain = asdict(row)
        text = json.dumps([plain[name] for name in ("prompt", "completions", "labels", "group")])
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def _refuse_unlearnable(rows: Sequence[SteppedCompletion]) -> None:
    if len(rows) < MIN_SOLUTIONS:
        raise NotEnoughData(have=len(rows), need=MIN_SOLUTIONS, what="solutions with a judged step")
    for kind, word, other in ((True, "right", "wrong"), (False, "wrong", "right")):
        groups = {row.group for row in rows if kind in row.labels}
        if not groups:
            raise TrainingFailed(
                f"All judged steps of {len(rows)} solutions are {other}: there is nothing to tell "
                f"apart; label some steps that are {word}."
            )
        if len(groups) < MIN_PROMPTS:
            raise TrainingFailed(
                f"All {word} steps answer one prompt: the model is tested on prompts it has not "
                f"seen, so at least {MIN_PROMPTS} need one; label solutions of more prompts."
            )
