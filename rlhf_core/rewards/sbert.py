"""A reward model of sentence embeddings and a logistic regression.

It answers: how likely is it that people rate this completion of this prompt `threshold` or better?
It learns from 50 rated completions up, in seconds, on a CPU. All its figures are out of fold: each
row is scored by a model that has seen no completion of the same prompt.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.encoder.model import SentenceEncoder
from rlhf_core.errors import InvalidInput, TrainingFailed
from rlhf_core.examples import ScoredCompletion
from rlhf_core.rewards import features
from rlhf_core.rewards.calibration import Calibration, calibrate_across_folds, fit_calibration
from rlhf_core.rewards.crossval import score_out_of_fold
from rlhf_core.rewards.folds import assign_folds
from rlhf_core.rewards.logistic import (
    Floats,
    Labels,
    balance_weights,
    fit_line,
    one_thread,
    turn_to_axes,
)
from rlhf_core.rewards.report import build_report
from rlhf_core.rewards.requirements import RowCounts, find_obstacle
from rlhf_core.training import Tracker, TrainReport, installed_versions

CLASSIFIER_FILE = "classifier.skops"
SPEC_FILE = "reward_model.json"
SPEC_FORMAT = 1
TEXTS_A_BLOCK = 128
LONG_TEXT = 2_000  # characters; the bundled encoder reads 256 tokens, about half of that


@dataclass(frozen=True)
class SbertParams:
    """How to train. `threshold`: a mean rating at or above it is good (1..5).

    `regularisation`: values of scikit-learn's C to choose from, smaller is smoother. `max_rows`
    bounds memory (about 60 KB a row); beyond it whole prompts are drawn by the seed.
    """

    threshold: float = 4.0
    folds: int = 5
    seed: int = 0
    regularisation: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    max_rows: int = 20_000

    def __post_init__(self) -> None:
        if not 1.0 < self.threshold <= 5.0:
            raise InvalidInput(
                f"threshold {self.threshold:g}: choose above 1 and at most 5.", field="threshold"
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidInput(f"seed {self.seed}: choose 0 to 4294967295.", field="seed")
        if self.folds < 2:
            raise InvalidInput(f"folds {self.folds}: choose 2 or more.", field="folds")
        if not self.regularisation or min(self.regularisation) <= 0:
            raise InvalidInput("regularisation: give positive values.", field="regularisation")


class SbertRewardModel:
    """A trained model, ready to score. `encoder_digest` names the only encoder it fits."""

    def __init__(
        self,
        *,
        weights: Floats,
        intercept: float,
        scale: features.LengthScale,
        calibration: Calibration,
        threshold: float,
        encoder_digest: str,
    ) -> None:
        self._weights = weights.astype(np.float32)
        self._intercept = intercept
        self._scale = scale
        self._calibration = calibration
        self.threshold = threshold
        self.encoder_digest = encoder_digest

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], *, encoder: SentenceEncoder
    ) -> Floats:
        """P(good) in 0..1 of each pair, in their order; no text is embedded twice.

        Raises InvalidInput for another encoder than the one it was trained with, or for lists of
        different lengths.
        """
        if encoder.digest != self.encoder_digest:
            raise InvalidInput(
                f"The reward model was trained with the encoder {self.encoder_digest[:12]}, this "
                f"one is {encoder.digest[:12]}: set RLHF_ENCODER to that one, or train again."
            )
        if len(prompts) != len(completions):
            raise InvalidInput(f"{len(prompts)} prompts, but {len(completions)} completions.")
        if not prompts:
            return np.empty(0)
        once = list(dict.fromkeys([*prompts, *completions]))
        place = {text: index for index, text in enumerate(once)}
        embeddings = encoder.encode(once)
        lengths = features.build_length_features(
            features.count_characters(prompts, completions), self._scale
        )
        log_odds = features.apply_weights(
            self._weights,
            embeddings[[place[text] for text in prompts]],
            embeddings[[place[text] for text in completions]],
            lengths.astype(np.float32),
        )
        return self._calibration.apply(log_odds.astype(np.float64) + self._intercept)


def train(
    rows: Sequence[ScoredCompletion],
    *,
    params: SbertParams,
    encoder: SentenceEncoder,
    out_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train on the rows and write the model into `out_dir` (which exists).

    Same rows, encoder and parameters give the same model and figures on the same machine.

    Raises NotEnoughData or TrainingFailed where the rows cannot train a model, InvalidInput for a
    row without text. Where `tracker` asks to stop, TrainingFailed between two blocks of texts.
    """
    rows = _draw_prompts(rows, params, tracker)
    labels = _label(rows, params)
    groups = [row.group for row in rows]
    tracker.log(
        f"{len(rows)} completions of {len(set(groups))} prompts, {int(labels.sum())} of them good "
        f"(mean rating {params.threshold:g} or more)."
    )
    started_at = time.monotonic()
    prompts, completions = _embed(rows, encoder, tracker)
    embedded_at = time.monotonic()
    with one_thread():
        metrics, details = _learn(rows, labels, prompts, completions, params, out_dir, tracker)
    _save_spec(out_dir, details, params, encoder)
    details["seconds"] = {
        "embedding": embedded_at - started_at,
        "fitting": time.monotonic() - embedded_at,
    }
    tracker.metrics(0, metrics)
    tracker.log(
        f"On prompts not seen: AUC {metrics['auc']:.3f} (by length alone "
        f"{metrics['length_only_auc']:.3f}), accuracy {metrics['accuracy']:.3f} (always the more "
        f"frequent answer {metrics['majority_accuracy']:.3f}), calibration error "
        f"{metrics['ece']:.3f} (before calibration {metrics['uncalibrated_ece']:.3f}), "
        f"n = {len(rows)}."
    )
    tracker.progress(1.0, "Trained")
    return TrainReport(
        artifact_dir=out_dir,
        metrics=metrics,
        params=asdict(params),
        seed=params.seed,
        num_rows=len(rows),
        details=details,
        library_versions=installed_versions("scikit-learn", "skops", "numpy", "scipy", "torch"),
    )


def load_reward_model(path: Path) -> SbertRewardModel:
    """Read a model from its folder, which `artifacts.open_artifact` has verified.

    Nothing but numbers is read: skops refuses every type outside its own trusted list. Raises
    InvalidInput where the files are not those of such a model.
    """
    from skops.io import get_untrusted_types, load

    file = path / CLASSIFIER_FILE
    try:
        spec = json.loads((path / SPEC_FILE).read_text())
        foreign = get_untrusted_types(file=file)
        if foreign:
            raise InvalidInput(
                f"{file} names types that are not trusted ({', '.join(sorted(foreign))}): it is "
                "not loaded; train the version again."
            )
        classifier = load(file, trusted=[])
        weights = np.asarray(classifier.coef_, dtype=np.float64).ravel()
        intercept = float(np.asarray(classifier.intercept_).ravel()[0])
        scale = features.LengthScale(
            **{name: tuple(values) for name, values in spec["length_scale"].items()}
        )
        calibration = Calibration(**spec["calibration"])
        expected = 4 * spec["dimension"] + features.NUM_LENGTH_FEATURES
        threshold, digest = float(spec["threshold"]), str(spec["encoder_digest"])
        if spec["format"] != SPEC_FORMAT or spec["features"] != list(features.FEATURE_NAMES):
            raise InvalidInput(f"{path / SPEC_FILE} is of another format: train the version again.")
    except InvalidInput:
        raise
    except Exception as error:  # the files are damaged, in whichever of skops' many ways
        raise InvalidInput(
            f"{path} holds no reward model ({type(error).__name__}: {error}): train it again."
        ) from error
    if weights.shape != (expected,) or not np.isfinite([*weights, intercept]).all():
        raise InvalidInput(f"{file} does not fit {SPEC_FILE} beside it: train the version again.")
    return SbertRewardModel(
        weights=weights,
        intercept=intercept,
        scale=scale,
        calibration=calibration,
        threshold=threshold,
        encoder_digest=digest,
    )


def count_rows(rows: Sequence[ScoredCompletion], threshold: float) -> RowCounts:
    """What `requirements.find_obstacle` asks of rows."""
    scores = [row.score for row in rows] or [0.0]
    return RowCounts(
        num_rows=len(rows),
        num_good=sum(row.score >= threshold for row in rows),
        num_prompts=len({row.group for row in rows}),
        num_prompts_good=len({row.group for row in rows if row.score >= threshold}),
        num_prompts_bad=len({row.group for row in rows if row.score < threshold}),
        lowest=min(scores),
        highest=max(scores),
    )


def _draw_prompts(
    rows: Sequence[ScoredCompletion], params: SbertParams, tracker: Tracker
) -> Sequence[ScoredCompletion]:
    """At most `max_rows` rows: whole prompts, in an order that only seed and prompt decide."""
    if len(rows) <= params.max_rows:
        return rows

    def draw(group: str) -> bytes:
        return hashlib.blake2b(f"{params.seed}:{group}".encode(), digest_size=8).digest()

    kept: list[ScoredCompletion] = []
    for row in sorted(rows, key=lambda row: draw(row.group)):
        if len(kept) >= params.max_rows and row.group != kept[-1].group:
            break
        kept.append(row)
    tracker.log(
        f"{len(rows) - len(kept)} of {len(rows)} rows are left out: a run learns from at most "
        f"{params.max_rows}, drawn by prompt."
    )
    return kept


def _label(rows: Sequence[ScoredCompletion], params: SbertParams) -> Labels:
    """Which rows are good. Refuses rows that cannot train a model, with the reason."""
    for number, row in enumerate(rows, start=1):
        if not row.prompt.strip() or not row.completion.strip():
            part = "completion" if row.prompt.strip() else "prompt"
            raise InvalidInput(
                f"Row {number} (interaction {row.interaction_id}) has an empty {part}: "
                "leave it out."
            )
        if not 1.0 <= row.score <= 5.0 or row.num_ratings < 1:
            raise InvalidInput(
                f"Row {number} (interaction {row.interaction_id}) has the rating {row.score} of "
                f"{row.num_ratings} raters: ratings go from 1 to 5."
            )
    obstacle = find_obstacle(count_rows(rows, params.threshold), threshold=params.threshold)
    if obstacle is not None:
        raise obstacle
    return np.array([row.score >= params.threshold for row in rows])


def _embed(
    rows: Sequence[ScoredCompletion], encoder: SentenceEncoder, tracker: Tracker
) -> tuple[features.Array, features.Array]:
    """Embeddings of the prompts and of the completions: (n, d) each."""
    texts = sorted({text for row in rows for text in (row.prompt, row.completion)}, key=_by_length)
    num_long = sum(len(text) > LONG_TEXT for text in texts)
    if num_long:
        tracker.log(
            f"{num_long} of {len(texts)} texts have more than {LONG_TEXT} characters: the encoder "
            "reads the beginning of each, and its length counts."
        )
    blocks = []
    for start in range(0, len(texts), TEXTS_A_BLOCK):
        if tracker.should_stop():
            raise TrainingFailed("Stopped on request; the embeddings made so far are kept.")
        blocks.append(encoder.encode(texts[start : start + TEXTS_A_BLOCK]))
        done = min(len(texts), start + TEXTS_A_BLOCK)
        tracker.progress(0.7 * done / len(texts), f"Embedded {done} of {len(texts)} texts")
    embeddings = np.concatenate(blocks)
    place = {text: index for index, text in enumerate(texts)}
    return (
        embeddings[[place[row.prompt] for row in rows]],
        embeddings[[place[row.completion] for row in rows]],
    )


def _learn(
    rows: Sequence[ScoredCompletion],
    labels: Labels,
    prompts: features.Array,
    completions: features.Array,
    params: SbertParams,
    out_dir: Path,
    tracker: Tracker,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Test on prompts not seen, fit on all rows, save the classifier: (metrics, details)."""
    groups = [row.group for row in rows]
    logs = features.count_characters([row.prompt for row in rows], [row.completion for row in rows])
    scale = features.measure_lengths(logs)
    lengths = features.build_length_features(logs, scale)
    basis = turn_to_axes(features.build_joint_features(prompts, completions, lengths))
    # A mean of nine ratings says more than one rating, but not nine times as much: people differ.
    weights = np.sqrt([float(row.num_ratings) for row in rows])
    folds = assign_folds(labels, groups, num_folds=params.folds, seed=params.seed)
    grid = params.regularisation
    tested = score_out_of_fold(
        basis, labels, weights, folds, grid, lambda part: _say_tested(part, tracker)
    )

    tracker.progress(0.9, "Fitting the model on all rows")
    everything, balanced = np.arange(len(rows)), balance_weights(labels, weights)
    line = fit_line(basis, everything, labels, balanced, regularisation=tested.best)
    _save_classifier(out_dir, basis.axes @ line.coefficients, line.intercept)
    calibration = fit_calibration(tested.log_odds, labels)

    tracker.progress(0.95, "Measuring")
    by_length = score_out_of_fold(turn_to_axes(lengths), labels, weights, folds, grid)
    metrics, details = build_report(
        rows,
        labels,
        folds=folds,
        log_odds=tested.log_odds,
        probabilities=calibrate_across_folds(tested.log_odds, labels, folds),
        length_log_odds=by_length.log_odds,
        seed=params.seed,
    )
    metrics |= {"regularisation": tested.best, "temperature": calibration.temperature}
    details |= {
        "calibration": asdict(calibration),
        "length_scale": asdict(scale),
        "regularisation_by_fold": list(tested.chosen),
    }
    return metrics, details


def _say_tested(share: float, tracker: Tracker) -> None:
    tracker.progress(0.7 + 0.2 * share, "Testing on prompts not seen")


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _save_classifier(out_dir: Path, coefficients: Floats, intercept: float) -> None:
    """Write the regression as scikit-learn's own object, by skops."""
    from sklearn.linear_model import LogisticRegression
    from skops.io import dump

    classifier = LogisticRegression()
    classifier.classes_ = np.array([0, 1])
    classifier.coef_ = coefficients[None, :]
    classifier.intercept_ = np.array([intercept])
    classifier.n_features_in_ = len(coefficients)
    dump(classifier, out_dir / CLASSIFIER_FILE)


def _save_spec(
    out_dir: Path, details: dict[str, Any], params: SbertParams, encoder: SentenceEncoder
) -> None:
    """Write what belongs to the classifier: encoder, scales, calibration, parameters."""
    spec = {
        "format": SPEC_FORMAT,
        "features": list(features.FEATURE_NAMES),
        "dimension": encoder.dimension,
        "encoder_digest": encoder.digest,
        "length_scale": details["length_scale"],
        "calibration": details["calibration"],
        "threshold": params.threshold,
        "params": asdict(params),
    }
    (out_dir / SPEC_FILE).write_text(json.dumps(spec, indent=1, sort_keys=True))
