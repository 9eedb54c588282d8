"""Alphas of real files, against figures that were computed independently."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.agreement import bootstrap_interval, count_arrays, krippendorff_alpha

TOLERANCE = 0.005


@pytest.fixture(scope="session")
def facts(shared_data: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((shared_data / "FACTS.json").read_text())
    return known


def read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        yield from map(json.loads, file)


@pytest.mark.parametrize("task", ["score_only", "errors_and_overall"])
def test_cohere_hf(shared_data: Path, facts: dict[str, Any], task: str) -> None:
    rows = [row for row in read(shared_data / "cohere_hf/ratings.jsonl") if row["task"] == task]
    units = count_arrays([row["response_id"] for row in rows], [row["rating"] for row in rows])
    known = facts["cohere_hf"][f"alpha_{task}"]
    assert units.num_pairable == known["units>=2"]
    ordinal = krippendorff_alpha(units, "ordinal")
    assert ordinal == pytest.approx(known["ordinal"], abs=TOLERANCE)
    assert krippendorff_alpha(units, "interval") == pytest.approx(known["interval"], abs=TOLERANCE)
    interval = bootstrap_interval(units, lambda drawn: krippendorff_alpha(drawn, "ordinal"))
    assert interval is not None
    assert interval.low < known["ordinal"] < interval.high
    assert interval.high - interval.low < 0.1


def test_pandalm(shared_data: Path, facts: dict[str, Any]) -> None:
    units = [row["votes"] for row in read(shared_data / "pandalm/pairs.jsonl")]
    assert krippendorff_alpha(units) == pytest.approx(
        facts["pandalm"]["alpha_nominal"], abs=TOLERANCE
    )


def test_tulu1_preferences_and_thumbs(shared_data: Path, facts: dict[str, Any]) -> None:
    winners: dict[Any, list[str]] = defaultdict(list)
    thumbs: dict[Any, list[str]] = defaultdict(list)
    for row in read(shared_data / "tulu1/feedback.jsonl"):
        models = (row["model_a"], row["model_b"])
        side = row["preference"][0]
        winner = "tie" if row["preference"] == "tie" else models[side == "b"]
        winners[row["instance_id"], *sorted(models)].append(winner)
        for model, thumb in zip(models, (row["thumb_a"], row["thumb_b"]), strict=True):
            thumbs[row["instance_id"], model].append(thumb)
    known = facts["tulu1"]
    for name, by_thing in (("pref", winners), ("thumb", thumbs)):
        units = [dict(enumerate(said)) for said in by_thing.values()]
        assert krippendorff_alpha(units) == pytest.approx(
            known[f"alpha_{name}_nominal"], abs=TOLERANCE
        )


@pytest.mark.parametrize("level", ["ordinal", "interval"])
def test_grade_and_popquorn(shared_data: Path, facts: dict[str, Any], level: Any) -> None:
    grade = [dict(enumerate(r["ratings"])) for r in read(shared_data / "grade/ratings.jsonl")]
    assert krippendorff_alpha(grade, level) == pytest.approx(
        facts["grade"][f"alpha_{level}"], abs=TOLERANCE
    )
    rows = list(read(shared_data / "popquorn_offensiveness/ratings.jsonl"))
    units = count_arrays([row["item_id"] for row in rows], [row["rating"] for row in rows])
    known = facts["popquorn_offensiveness"][f"alpha_{level}"]
    assert krippendorff_alpha(units, level) == pytest.approx(known, abs=TOLERANCE)


def test_qags(shared_data: Path, facts: dict[str, Any]) -> None:
    units: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in read(shared_data / "qags/steps.jsonl"):
        for step in row["steps"]:
            votes = enumerate(vote["thumb"] for vote in step["votes"])
            units[row["source"]].append({str(place): thumb for place, thumb in votes})
    for source, known in facts["qags"].items():
        assert krippendorff_alpha(units[source]) == pytest.approx(
            known["alpha_nominal"], abs=TOLERANCE
        )
