"""What a step model must beat: naming the last step, the first, and a per-step logistic regression.

The regression sees a step's place and length (`steps_facts.PLACE_NAMES`), or also an embedding of
its text, or also its arithmetic. It gets what the model gets: the same rows, of which the same
share is held out for its threshold, and the same first-error search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_core.encoder.model import SentenceEncoder
from rlhf_core.examples import SteppedCompletion
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.logistic import one_thread
from rlhf_core.rewards.steps_facts import PLACE_NAMES, StepLine, describe_steps, fit_step_line
from rlhf_core.rewards.steps_loop import compute_log_loss
from rlhf_core.rewards.steps_params import StepParams
from rlhf_core.rewards.steps_rows import check_rows, flatten, flatten_labels, hold_out
from rlhf_core.rewards.steps_search import (
    Places,
    choose_threshold,
    find_places,
    know_errors,
)

REGULARISATION_GRID = (0.001, 0.01, 0.1, 1.0)
"""For embeddings; the best is chosen by the log loss on the held-out part."""
TEXTS_A_BLOCK = 512


@dataclass(frozen=True)
class StepBaseline:
    """A fitted per-step regression and the threshold of its first-error search."""

    line: StepLine
    threshold: float
    encoder: SentenceEncoder | None
    has_arithmetic: bool

    def score_steps(self, rows: Sequence[SteppedCompletion]) -> list[Floats]:
        """P(right) of each step of each row."""
        tables = _build_tables(rows, self.encoder, self.has_arithmetic)
        return [_to_probabilities(self.line.score(table)) for table in tables]


def fit_baseline(
    rows: Sequence[SteppedCompletion],
    *,
    encoder: SentenceEncoder | None = None,
    has_arithmetic: bool = False,
    held_out_percent: float = StepParams.held_out_percent,
    seed: int = 0,
) -> StepBaseline:
    """Fit on the rows that a step model was trained on; with `encoder` embeddings join in.

    Raises as `steps_rows.check_rows` does.
    """
    kept, _ = check_rows(rows)
    learned, held = hold_out(kept, percent=held_out_percent, seed=seed)
    tables = [_build_tables(part, encoder, has_arithmetic) for part in (learned, held)]
    labels = [flatten_labels(part)[0] for part in (learned, held)]
    flat = [flatten(*pair) for pair in zip(tables, (learned, held), strict=True)]
    grid = (1.0,) if encoder is None else REGULARISATION_GRID
    with one_thread():
        lines = [fit_step_line(flat[0], labels[0], regularisation=value) for value in grid]
        line = min(lines, key=lambda one: compute_log_loss(one.score(flat[1]), labels[1]))
    known = know_errors(held)
    scores = [_to_probabilities(line.score(tables[1][row])) for row in known.rows]
    threshold = choose_threshold(scores, known, seed=seed) if scores else 1.0
    return StepBaseline(line, threshold, encoder, has_arithmetic)


def find_baseline_places(
    rows: Sequence[SteppedCompletion], baseline: StepBaseline | None
) -> dict[str, Places]:
    """The step that each baseline names in each row (n,); the number of steps for none."""
    counts = np.array([len(row.completions) for row in rows], dtype=np.intp)
    places = {"always_last": counts - 1, "always_first": np.zeros_like(counts)}
    if baseline is not None:
        places["logistic"] = find_places(baseline.score_steps(rows), baseline.threshold)
    return places


def _build_tables(
    rows: Sequence[SteppedCompletion], encoder: SentenceEncoder | None, has_arithmetic: bool
) -> list[Floats]:
    facts = [describe_steps(row.prompt, row.completions) for row in rows]
    tables = facts if has_arithmetic else [table[:, : len(PLACE_NAMES)] for table in facts]
    if encoder is None:
        return tables
    once = sorted({step for row in rows for step in row.completions}, key=len)
    blocks: list[Any] = [
        encoder.encode(once[start : start + TEXTS_A_BLOCK])
        for start in range(0, len(once), TEXTS_A_BLOCK)
    ]
    embeddings = np.concatenate(blocks).astype(np.float64)
    place = {text: number for number, text in enumerate(once)}
    return [
        np.hstack([table, embeddings[[place[step] for step in row.completions]]])
        for table, row in zip(tables, rows, strict=True)
    ]


def _to_probabilities(log_odds: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -700, 700)))
    return found
