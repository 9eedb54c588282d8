"""The two files of an embeddings model: its regressions by skops, and what belongs to them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.errors import InvalidInput
from rlhf_core.rewards import features
from rlhf_core.rewards.calibration import Calibration
from rlhf_core.rewards.heads import OVERALL
from rlhf_core.rewards.sbert_fit import Head
from rlhf_core.rewards.sbert_rows import Objective

CLASSIFIER_FILE = "classifier.skops"
SPEC_FILE = "reward_model.json"
SPEC_FORMAT = 2


@dataclass(frozen=True)
class SavedModel:
    """What the files hold. `encoder_digest` names the only encoder it fits."""

    heads: dict[str, Head]
    scale: features.TextScale
    objective: Objective
    threshold: float
    encoder_digest: str
    dimension: int


def write_saved(folder: Path, model: SavedModel, *, params: dict[str, Any]) -> None:
    """Write the regressions as scikit-learn's own objects, and the rest beside them."""
    from zipfile import ZIP_DEFLATED

    from sklearn.linear_model import LogisticRegression
    from skops.io import dump

    classifiers = {}
    for name, head in model.heads.items():
        classifier = LogisticRegression()
        classifier.classes_ = np.array([0, 1])
        classifier.coef_ = head.weights[None, :].astype(np.float32)
        classifier.intercept_ = np.array([head.intercept])
        classifier.n_features_in_ = len(head.weights)
        classifiers[name] = classifier
    dump(classifiers, folder / CLASSIFIER_FILE, compression=ZIP_DEFLATED)
    spec = {
        "format": SPEC_FORMAT,
        "features": list(features.FEATURE_NAMES),
        "dimension": model.dimension,
        "encoder_digest": model.encoder_digest,
        "text_scale": asdict(model.scale),
        "heads": {name: asdict(head.calibration) for name, head in model.heads.items()},
        "objective": model.objective.value,
        "threshold": model.threshold,
        "params": params,
    }
    (folder / SPEC_FILE).write_text(json.dumps(spec, indent=1, sort_keys=True))


def read_saved(folder: Path) -> SavedModel:
    """What `write_saved` wrote. Raises InvalidInput where the files hold no such model."""
    try:
        spec = json.loads((folder / SPEC_FILE).read_text())
        if spec["format"] != SPEC_FORMAT or spec["features"] != list(features.FEATURE_NAMES):
            raise InvalidInput(
                f"{folder / SPEC_FILE} is of another format: train the version again."
            )
        classifiers = _load_trusted(folder / CLASSIFIER_FILE)
        heads = {
            str(name): Head(
                weights=np.asarray(classifiers[name].coef_, dtype=np.float64).ravel(),
                intercept=float(np.asarray(classifiers[name].intercept_).ravel()[0]),
                calibration=Calibration(**calibration),
            )
            for name, calibration in spec["heads"].items()
        }
        saved = SavedModel(
            heads=heads,
            scale=features.TextScale(
                **{name: tuple(values) for name, values in spec["text_scale"].items()}
            ),
            objective=Objective(spec["objective"]),
            threshold=float(spec["threshold"]),
            encoder_digest=str(spec["encoder_digest"]),
            dimension=int(spec["dimension"]),
        )
        _check(saved)
    except InvalidInput:
        raise
    except Exception as error:  # the files are damaged, in whichever of skops' many ways
        raise InvalidInput(
            f"{folder} holds no reward model ({type(error).__name__}: {error}): train it again."
        ) from error
    return saved


def _load_trusted(file: Path) -> Any:
    from skops.io import get_untrusted_types, load

    foreign = get_untrusted_types(file=file)
    if foreign:
        raise InvalidInput(
            f"{file} names types that are not trusted ({', '.join(sorted(foreign))}): it is not "
            "loaded; train the version again."
        )
    return load(file, trusted=[])


def _check(saved: SavedModel) -> None:
    expected = 4 * saved.dimension + features.NUM_TEXT_FEATURES
    numbers = [*saved.scale.mean, *saved.scale.deviation, saved.threshold]
    for head in saved.heads.values():
        numbers += [head.intercept, head.calibration.temperature, head.calibration.shift]
        numbers += head.weights.tolist()
    sound = (
        OVERALL in saved.heads
        and all(head.weights.shape == (expected,) for head in saved.heads.values())
        and all(head.calibration.temperature > 0 for head in saved.heads.values())
        and len(saved.scale.mean) == len(saved.scale.deviation) == features.NUM_COUNTS
        and min(saved.scale.deviation) > 0
        and bool(np.isfinite(numbers).all())
    )
    if not sound:
        raise InvalidInput(
            f"{CLASSIFIER_FILE} does not fit {SPEC_FILE} beside it: train the version again."
        )
