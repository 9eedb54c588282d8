"""A reward model of sentence embeddings and logistic regressions.

It answers: how likely is it that people rate this completion of this prompt `threshold` or better?
It learns from 50 rated completions, pairs or thumbs up, in seconds, on a CPU. Each aspect that was
rated has a head of its own; a caller weighs them. All its figures are out of fold: each row is
scored by a model that has seen no completion of the same prompt.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.encoder.model import SentenceEncoder
from rlhf_core.errors import InvalidInput, TrainingFailed
from rlhf_core.rewards import features
from rlhf_core.rewards.heads import OVERALL, choose_weights, mix_heads
from rlhf_core.rewards.logistic import Floats, one_thread
from rlhf_core.rewards.sbert_files import SavedModel, read_saved, write_saved
from rlhf_core.rewards.sbert_fit import Embedded, Head, Learned, learn_heads
from rlhf_core.rewards.sbert_rows import (
    Objective,
    Prepared,
    TrainingRow,
    draw_weights,
    prepare_rows,
)
from rlhf_core.training import Tracker, TrainReport, installed_versions

TEXTS_A_BLOCK = 128
LONG_TEXT = 2_000  # characters; the bundled encoder reads 256 tokens, about half of that
EMBEDDING_SHARE = 0.7  # of the progress of a run


@dataclass(frozen=True)
class SbertParams:
    """How to train. `threshold`: a mean rating at or above it is good (1..5); pairs need none.

    `regularisation`: values of scikit-learn's C to choose from, smaller is smoother. `max_rows`
    bounds memory (about 60 KB a row); beyond it whole prompts are drawn by the seed. `bootstrap`
    weighs the prompts by a draw of the seed: the members of an ensemble would be alike without.
    """

    threshold: float = 4.0
    folds: int = 5
    seed: int = 0
    regularisation: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    max_rows: int = 20_000
    bootstrap: bool = False

    def __post_init__(self) -> None:
        if not 1.0 < self.threshold <= 5.0:
            raise InvalidInput(
                f"threshold {self.threshold:g}: choose above 1 and at most 5.", field="threshold"
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidInput(f"seed {self.seed}: choose 0 to 4294967295.", field="seed")
        if not 2 <= self.folds <= 50:
            raise InvalidInput(f"folds {self.folds}: choose 2 to 50.", field="folds")
        if not self.regularisation or min(self.regularisation) <= 0:
            raise InvalidInput("regularisation: give positive values.", field="regularisation")
        if self.max_rows < 1:
            raise InvalidInput(f"max_rows {self.max_rows}: choose 1 or more.", field="max_rows")


class SbertRewardModel:
    """A trained model with its encoder, ready to score.

    `objective` says what it was trained on: of pairs, P(good) is the probability to be preferred
    to an average completion of the training pairs, and log odds subtract.
    """

    def __init__(
        self,
        *,
        heads: Mapping[str, Head],
        scale: features.TextScale,
        threshold: float,
        objective: Objective,
        encoder: SentenceEncoder,
    ) -> None:
        self._heads = dict(heads)
        self._weights = {name: head.weights.astype(np.float32) for name, head in heads.items()}
        self._scale = scale
        self._encoder = encoder
        self.threshold = threshold
        self.objective = objective
        self.encoder_digest = encoder.digest

    @property
    def is_probability(self) -> bool:
        """Scores are P(good) in 0..1."""
        return True

    @property
    def aspects(self) -> tuple[str, ...]:
        """The aspects that have a head of their own, in alphabetical order."""
        return tuple(sorted(name for name in self._heads if name != OVERALL))

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        """P(good) in 0..1 of each pair (n,), in their order; no text is embedded twice.

        `weights` by aspect (and `overall`): the weighted mean of the heads' probabilities. Raises
        InvalidInput for lists of different lengths, an unknown aspect, or unsound weights.
        """
        shares = choose_weights(weights, self.aspects)
        found = {
            name: self._heads[name].calibration.apply(log_odds)
            for name, log_odds in self._find_log_odds(prompts, completions, [*shares]).items()
        }
        return mix_heads(found, shares)

    def prefer(
        self, prompts: Sequence[str], firsts: Sequence[str], seconds: Sequence[str]
    ) -> Floats | None:
        """P(the first completion is better) (n,) of a model of pairs; None of any other."""
        if self.objective is not Objective.PAIRS:
            return None
        if len(firsts) != len(seconds):
            raise InvalidInput(f"{len(firsts)} first completions, but {len(seconds)} second ones.")
        found = self._find_log_odds([*prompts, *prompts], [*firsts, *seconds], [OVERALL])[OVERALL]
        differences = found[: len(prompts)] - found[len(prompts) :]
        return self._heads[OVERALL].calibration.apply(differences)

    def _find_log_odds(
        self, prompts: Sequence[str], completions: Sequence[str], names: Sequence[str]
    ) -> dict[str, Floats]:
        """What each named head says before calibration: (n,) each."""
        if len(prompts) != len(completions):
            raise InvalidInput(f"{len(prompts)} prompts, but {len(completions)} completions.")
        if not prompts:
            return {name: np.empty(0) for name in names}
        once = list(dict.fromkeys([*prompts, *completions]))
        place = {text: index for index, text in enumerate(once)}
        embeddings = self._encoder.encode(once)
        texts = features.build_text_features(
            features.count_texts(prompts, completions), self._scale
        ).astype(np.float32)
        of_prompts = embeddings[[place[text] for text in prompts]]
        of_completions = embeddings[[place[text] for text in completions]]
        found = {}
        for name in names:
            raw = features.apply_weights(self._weights[name], of_prompts, of_completions, texts)
            found[name] = raw.astype(np.float64) + self._heads[name].intercept
        return found


def train(
    rows: Sequence[TrainingRow],
    *,
    params: SbertParams,
    encoder: SentenceEncoder,
    out_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train on rows of one kind and write the model into `out_dir` (which exists).

    Same rows, encoder and parameters give the same model and figures on the same machine.

    Raises NotEnoughData or TrainingFailed where the rows cannot train a model, InvalidInput for a
    row without text. Where `tracker` asks to stop, TrainingFailed between two blocks of texts.
    """
    prepared = prepare_rows(
        rows,
        threshold=params.threshold,
        max_rows=params.max_rows,
        seed=params.seed,
        tracker=tracker,
    )
    if params.bootstrap:
        prepared = draw_weights(prepared, params.seed)
    tracker.log(_describe(prepared, params))
    started_at = time.monotonic()
    embedded = _embed(prepared, encoder, tracker)
    embedded_at = time.monotonic()

    def say(share: float, message: str) -> None:
        tracker.progress(EMBEDDING_SHARE + (1 - EMBEDDING_SHARE) * share, message)

    with one_thread():
        learned = learn_heads(
            prepared,
            embedded,
            num_folds=params.folds,
            grid=params.regularisation,
            seed=params.seed,
            on_progress=say,
        )
    write_saved(
        out_dir,
        SavedModel(
            heads=learned.heads,
            scale=learned.scale,
            objective=prepared.objective,
            threshold=params.threshold,
            encoder_digest=encoder.digest,
            dimension=encoder.dimension,
        ),
        params=asdict(params),
    )
    details = learned.details | {
        "seconds": {
            "embedding": embedded_at - started_at,
            "fitting": time.monotonic() - embedded_at,
        }
    }
    tracker.metrics(0, learned.metrics)
    tracker.log(_summarise(learned))
    tracker.progress(1.0, "Trained")
    return TrainReport(
        artifact_dir=out_dir,
        metrics=learned.metrics,
        params=asdict(params),
        seed=params.seed,
        num_rows=prepared.num_rows,
        details=details,
        library_versions=installed_versions("scikit-learn", "skops", "numpy", "scipy", "torch"),
    )


def load_reward_model(path: Path, *, encoder: SentenceEncoder) -> SbertRewardModel:
    """Read a model from its folder, which `artifacts.open_artifact` has verified.

    Nothing but numbers is read: skops refuses every type outside its own trusted list. Raises
    InvalidInput where the files are not those of such a model, or fit another encoder.
    """
    saved = read_saved(path)
    if encoder.digest != saved.encoder_digest:
        raise InvalidInput(
            f"The reward model was trained with the encoder {saved.encoder_digest[:12]}, this "
            f"one is {encoder.digest[:12]}: set RLHF_ENCODER to that one, or train again."
        )
    return SbertRewardModel(
        heads=saved.heads,
        scale=saved.scale,
        threshold=saved.threshold,
        objective=saved.objective,
        encoder=encoder,
    )


def _embed(prepared: Prepared, encoder: SentenceEncoder, tracker: Tracker) -> Embedded:
    """Embeddings of every text, each embedded once, in blocks of texts of like length."""
    texts = prepared.texts()
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
        tracker.progress(
            EMBEDDING_SHARE * done / len(texts), f"Embedded {done} of {len(texts)} texts"
        )
    embeddings = np.concatenate(blocks)
    place = {text: index for index, text in enumerate(texts)}

    def pick(wanted: list[str]) -> features.Array:
        found: features.Array = embeddings[[place[text] for text in wanted]]
        return found

    return Embedded(
        prompts=pick(prepared.prompts),
        completions=pick(prepared.completions),
        others=None if prepared.others is None else pick(prepared.others),
    )


def _describe(prepared: Prepared, params: SbertParams) -> str:
    num_prompts = len(set(prepared.groups))
    match prepared.objective:
        case Objective.PAIRS:
            num_ties = 0 if prepared.is_tie is None else int(prepared.is_tie.sum()) // 2
            return f"{prepared.num_rows} pairs of {num_prompts} prompts, {num_ties} of them ties."
        case Objective.THUMBS:
            return (
                f"{prepared.num_rows} completions of {num_prompts} prompts, "
                f"{int(prepared.labels.sum())} of them with a thumb up."
            )
        case Objective.SCORES:
            aspects = ", ".join(prepared.aspects)
            return (
                f"{prepared.num_rows} completions of {num_prompts} prompts, "
                f"{int(prepared.labels.sum())} of them good (mean rating {params.threshold:g} or "
                f"more){'; aspects: ' + aspects if aspects else ''}."
            )


def _summarise(learned: Learned) -> str:
    metrics: dict[str, Any] = learned.metrics
    if "auc" in metrics:
        main = (
            f"AUC {metrics['auc']:.3f} (by length alone {metrics['length_only_auc']:.3f}), "
            f"accuracy {metrics['accuracy']:.3f} (always the more frequent answer "
            f"{metrics['majority_accuracy']:.3f})"
        )
    else:
        main = (
            f"{metrics['pair_accuracy']:.3f} of the pairs in the right order (by length alone "
            f"{metrics['length_only_pair_accuracy']:.3f})"
        )
    return (
        f"On prompts not seen: {main}, calibration error {metrics['ece']:.3f} (before calibration "
        f"{metrics['uncalibrated_ece']:.3f}), n = {learned.details['n']}."
    )
