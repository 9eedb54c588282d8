"""A kept comparison of two registered versions: judged by rules, measured and stored for real."""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import write_artifact
from rlhf_core.config import get_settings
from rlhf_core.examples import ScoredCompletion
from rlhf_core.registry.comparisons import ROWS_FILE, ComparisonView, record_comparison
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.paired import compare_sheets
from rlhf_core.rewards.paired_sheets import judge_sheet
from tests.builders import make_interaction
from tests.core.registry.world import make_version


class Rule:
    """P(good) of an answer `good 7 ...` or `bad 7 ...`: right on `knows` of ten numbers."""

    is_probability = True
    aspects = ()

    def __init__(self, knows: int) -> None:
        self.knows = knows

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        found = []
        for text in completions:
            is_right = int(text.split()[1]) % 10 < self.knows
            is_good = text.startswith("good")
            found.append((0.9 if is_good is is_right else 0.1) - len(text) / 10_000)
        return np.array(found)


def add_rows(
    db: Session, number: int, *, a_prompt: int = 1, prompt: str = "Question"
) -> list[ScoredCompletion]:
    """Stored interactions with the ratings that people gave them."""
    rows = []
    for n in range(number):
        asked, is_good = f"{prompt} {n // a_prompt}?", n % 2 == 0
        completion = f"{'good' if is_good else 'bad'} {n // a_prompt} answer"
        stored = make_interaction(
            db, prompt=asked, completion=completion, external_id=f"{asked}{n}"
        )
        rows.append(
            ScoredCompletion(
                prompt=asked, completion=completion, score=5.0 if is_good else 1.0, num_ratings=1,
                group=f"g{n // a_prompt}", interaction_id=str(stored.id),
                segments={"source": "app" if n % 4 < 2 else "web"},
            )
        )  # fmt: skip
    return rows


def make_comparison(
    db: Session, rows: Sequence[ScoredCompletion], *, knows: tuple[int, ...] = (6, 9)
) -> ComparisonView:
    """The rows judged by versions that know so much, the first of them the baseline."""
    versions = [
        make_version(db, metrics={"auc": 0.6 + one / 50}, details={"num_rows": 100 + one})
        for one in knows
    ]
    sheets = {
        str(version.id): judge_sheet(Rule(one), rows, threshold=4.0)
        for version, one in zip(versions, knows, strict=True)
    }
    paired = compare_sheets(sheets, baseline=str(versions[0].id))

    def fill(folder: Path) -> None:
        lines = [json.dumps(vars(row)) + "\n" for row in paired.rows]
        (folder / ROWS_FILE).write_text("".join(lines))

    folder = get_settings().artifact_dir / "comparisons" / uuid.uuid4().hex
    learned = {versions[1].name: {"num_prompts": len(rows) + 3, "num_seen": 3, "num_left_out": 3}}
    return record_comparison(
        db, actor=SYSTEM, versions=versions, dataset_version_id=None, job_id=None, split="test",
        num_rows=len(rows), artifact=write_artifact(folder, fill),
        result={**paired.to_json(), "purpose": "scores", "learned": learned},
    )  # fmt: skip
