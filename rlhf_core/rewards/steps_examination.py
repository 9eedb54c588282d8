"""How a step model does on solutions that it was not trained on.

Two questions: is each step judged rightly, and is the first mistake found. Every figure stands
beside what is had for less. Intervals (95 %) are a bootstrap by prompt.
"""

from collections.abc import Sequence

import numpy as np

from rlhf_core.encoder.model import SentenceEncoder
from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import SteppedCompletion
from rlhf_core.rewards import evaluate
from rlhf_core.rewards.base import Floats, RewardModel
from rlhf_core.rewards.cases import Mistake
from rlhf_core.rewards.examination import Examination, Leakage
from rlhf_core.rewards.leakage import find_near
from rlhf_core.rewards.logistic import Labels, one_thread
from rlhf_core.rewards.measures import Measured, apply_statistics, measure_labelled
from rlhf_core.rewards.slices import Slice
from rlhf_core.rewards.steps_baselines import StepBaseline, find_baseline_places, fit_baseline
from rlhf_core.rewards.steps_model import StepRewardModel
from rlhf_core.rewards.steps_rows import flatten, flatten_labels
from rlhf_core.rewards.steps_search import (
    KnownErrors,
    Places,
    compute_first_error,
    find_places,
    know_errors,
    locate_error,
)
from rlhf_core.vocabulary import DatasetPurpose

MIN_SLICE_ROWS = 20
NUM_WORST = 50
NAMES = ("first_error_f1", "first_error_accuracy", "erroneous_accuracy", "faultless_accuracy")


def examine_steps(
    model: RewardModel,
    rows: Sequence[SteppedCompletion],
    *,
    train_rows: Sequence[SteppedCompletion] = (),
    encoder: SentenceEncoder | None = None,
    seed: int = 0,
) -> Examination:
    """The figures of the model on rows with step labels.

    Of judged steps: `auc`, `accuracy`, `brier`, `ece`. Of solutions whose first mistake is known
    (all steps up to it judged, or all right): `first_error_f1`, the harmonic mean of the accuracy
    on solutions with a mistake (`erroneous_accuracy`: exactly that step is named) and on those
    without (`faultless_accuracy`: none is named), as in ProcessBench (Zheng et al. 2024); where
    the rows hold one kind only, the accuracy on that kind. `first_error_accuracy` is the plain
    share found exactly.

    Beside them `always_last`, `always_first` and, where `train_rows` (those that the model was
    trained on) are given, `logistic`: a regression on a step's place and length, and with
    `encoder` on the embedding of its text. `leakage` needs `train_rows`, too.

    Raises NotEnoughData where no step is judged, InvalidInput for other rows or another model.
    """
    if not isinstance(model, StepRewardModel):
        raise InvalidInput("Only a step model can be examined on step labels: choose other rows.")
    check_stepped(rows)
    scores = model.score_steps([row.prompt for row in rows], [row.completions for row in rows])
    known = know_errors(rows)
    baseline, notes = _fit_baseline(train_rows, encoder, seed)
    labels, of_row = flatten_labels(rows)
    probabilities = flatten(scores, rows)
    groups = [rows[row].group for row in of_row]
    with one_thread():
        steps = measure_labelled(
            to_log_odds(probabilities),
            labels,
            groups,
            weights=evaluate.resample_groups(groups, seed=seed),
            probabilities=probabilities,
        )
        located = [scores[row] for row in known.rows]
        found = find_places(located, model.spec.threshold)
        errors = _measure_errors(rows, known, found, baseline, seed)
        slices = _cut_slices(rows, known, found, seed)
    if known.num_unknown:
        notes.append(
            f"Of {known.num_unknown} solutions nobody said where the first mistake is: the "
            "first-error figures are without them."
        )
    return Examination(
        purpose=DatasetPurpose.STEPS.value,
        num_rows=len(rows),
        num_prompts=len({row.group for row in rows}),
        threshold=model.spec.threshold,
        metrics={**errors.metrics, **steps.metrics},
        intervals={**errors.intervals, **steps.intervals},
        baselines={**errors.baselines, **steps.baselines},
        slices=slices,
        reliability=tuple(evaluate.reliability_table(probabilities, labels)),
        confusion=_count_confusion(probabilities >= 0.5, labels),
        worst=_find_worst(rows, known, located),
        leakage=_find_leakage(rows, train_rows),
        notes=tuple(notes),
    )


def check_stepped(rows: Sequence[SteppedCompletion]) -> None:
    """Raise InvalidInput for rows that are not sound, NotEnoughData where no step is judged."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, SteppedCompletion):
            raise InvalidInput(
                f"Row {number} is a {type(row).__name__}: a step model is examined on solutions "
                "with step labels."
            )
        if len(row.completions) != len(row.labels):
            raise InvalidInput(
                f"Row {number} (interaction {row.interaction_id}) has {len(row.completions)} steps "
                f"and {len(row.labels)} labels: give each step a label, or None."
            )
    if not any(label is not None for row in rows for label in row.labels):
        raise NotEnoughData(have=0, need=1, what="solutions with a judged step")


def _fit_baseline(
    train_rows: Sequence[SteppedCompletion], encoder: SentenceEncoder | None, seed: int
) -> tuple[StepBaseline | None, list[str]]:
    if not train_rows:
        return None, ["The rows trained on are not known: without the logistic baseline."]
    try:
        return fit_baseline(train_rows, encoder=encoder, seed=seed), []
    except (NotEnoughData, TrainingFailed) as error:
        return None, [f"Without the logistic baseline: {error}"]


def _measure_errors(
    rows: Sequence[SteppedCompletion],
    known: KnownErrors,
    found: Places,
    baseline: StepBaseline | None,
    seed: int,
) -> Measured:
    """First-error figures of the model and of the baselines, and the gain over the logistic one."""
    if not len(known.rows):
        return Measured()
    weights = evaluate.resample_groups(known.groups, seed=seed)
    places = find_baseline_places([rows[row] for row in known.rows], baseline)

    def figure(named: Places, name: str) -> evaluate.Statistic:
        return lambda w: compute_first_error(named, known, w).get(name, np.full(len(w), np.nan))

    statistics = {name: figure(found, name) for name in NAMES}
    if "logistic" in places:
        ours, theirs = figure(found, NAMES[0]), figure(places["logistic"], NAMES[0])
        statistics["gain_over_logistic_first_error_f1"] = lambda w: ours(w) - theirs(w)
    metrics, intervals = apply_statistics(statistics, weights)
    ones = np.ones((1, len(known.rows)))
    by_baseline = {name: compute_first_error(named, known, ones) for name, named in places.items()}
    baselines = {
        name: {one: float(figures[name][0]) for one, figures in by_baseline.items()}
        for name in NAMES
        if name in metrics
    }
    metrics |= {
        "num_known_errors": float(len(known.rows)),
        "num_faultless": float(known.is_faultless.sum()),
    }
    return Measured(metrics, intervals, baselines)


def _cut_slices(
    rows: Sequence[SteppedCompletion], known: KnownErrors, found: Places, seed: int
) -> tuple[Slice, ...]:
    """First-error figures by segment, and by the number of steps in quartiles."""
    members: dict[tuple[str, str], list[int]] = {}
    bounds = np.quantile(known.num_steps, [0.25, 0.5, 0.75]) if len(known.rows) else np.empty(0)
    for place, row in enumerate(known.rows):
        quartile = int(np.searchsorted(bounds, known.num_steps[place])) + 1
        segments = {**rows[row].segments, "number of steps": f"quartile {quartile}"}
        for segment, value in segments.items():
            members.setdefault((segment, value), []).append(place)
    slices = []
    for (segment, value), places in sorted(members.items()):
        if len(places) < MIN_SLICE_ROWS:
            continue
        part = KnownErrors(
            rows=known.rows[places],
            places=known.places[places],
            num_steps=known.num_steps[places],
            groups=[known.groups[place] for place in places],
            num_unknown=0,
        )
        measured = _measure_errors(rows, part, found[places], None, seed)
        slices.append(
            Slice(
                segment=segment,
                value=value,
                num_rows=len(places),
                num_prompts=len(set(part.groups)),
                metrics=measured.metrics,
                intervals=measured.intervals,
            )
        )
    return tuple(slices)


def _find_worst(
    rows: Sequence[SteppedCompletion], known: KnownErrors, scores: Sequence[Floats]
) -> tuple[Mistake, ...]:
    """Solutions in which the model finds the true place of the first mistake least likely.

    `reward` is its P(no mistake), `rating` 1 for a faultless solution and 0 for another.
    """
    found = []
    for place, row in enumerate(known.rows):
        chances = locate_error(scores[place])
        mistake = Mistake(
            row=int(row),
            interaction_id=rows[row].interaction_id,
            reward=float(chances[-1]),
            rating=float(known.is_faultless[place]),
            error=float(1.0 - chances[known.places[place]]),
        )
        found.append(mistake)
    return tuple(sorted(found, key=lambda one: (-one.error, one.row))[:NUM_WORST])


def _find_leakage(
    rows: Sequence[SteppedCompletion], train_rows: Sequence[SteppedCompletion]
) -> Leakage | None:
    if not train_rows:
        return None
    seen = {row.group for row in train_rows}
    by_group = {row.group: row.prompt for row in rows}
    fresh = [prompt for group, prompt in by_group.items() if group not in seen]
    near = find_near(fresh, list(dict.fromkeys(row.prompt for row in train_rows)))
    return Leakage(
        num_prompts=len(by_group), num_seen=len(by_group) - len(fresh), num_near=int(near.sum())
    )


def _count_confusion(says_right: Labels, labels: Labels) -> dict[str, int]:
    return {
        "true_good": int((says_right & labels).sum()),
        "false_good": int((says_right & ~labels).sum()),
        "true_bad": int((~says_right & ~labels).sum()),
        "false_bad": int((~says_right & labels).sum()),
    }


def to_log_odds(probabilities: Floats) -> Floats:
    """Log odds (n,) of chances; 0 and 1 are kept a little away from themselves."""
    clipped = np.clip(probabilities, 1e-12, 1.0 - 1e-12)
    found: Floats = np.log(clipped) - np.log1p(-clipped)
    return found
