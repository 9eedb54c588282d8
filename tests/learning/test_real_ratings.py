"""The way from real ratings to a reward model, on data that is not part of the repository."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest

from benchmarks._public_sets import read_cohere, read_pairs
from benchmarks.rewards import measure_concatenated
from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.builder import build_rows
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.encoder.cache import CachedEncoder
from rlhf_core.encoder.model import load_encoder
from rlhf_core.examples import ScoredCompletion
from rlhf_core.interchange.importers import import_file
from rlhf_core.interchange.mapping import load_mapping
from rlhf_core.rewards import sbert
from rlhf_core.rewards.ensemble import halve_by_prompt
from rlhf_core.rewards.examination import examine
from rlhf_core.store.engine import Store
from rlhf_core.training import NoOpTracker
from rlhf_core.vocabulary import ImportFormat
from tests.databases import only_sqlite

MAPPING = Path(__file__).resolve().parents[1] / "mappings" / "cohere_hf.json"
SHORT_CHARS = 1_000
"""Of prompt and completion together: a third of the rows, embedded in seconds."""


@pytest.mark.slow
@only_sqlite
def test_imported_ratings_give_the_means_of_the_files(store: Store, shared_data: Path) -> None:
    folder = shared_data / "cohere_hf"
    import_file(
        store, folder, format=ImportFormat.TABLE, actor=SYSTEM, mapping=load_mapping(MAPPING)
    )
    said: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in (folder / "ratings.jsonl").read_text().splitlines():
        rating = json.loads(line)
        said[rating["response_id"]][rating["rater"]].append(rating["rating"])
    responses = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    num_empty = sum(not response["response"].strip() for response in responses)
    with store.reading() as db:
        built = build_rows(db, params=DatasetParams())
        rows = [row for row in built.rows if isinstance(row, ScoredCompletion)]
    assert built.left_out == {"empty completion": num_empty}
    assert len(rows) == len(said) - num_empty
    expected = sorted(
        (round(mean(mean(ratings) for ratings in raters.values()), 6), len(raters))
        for response in responses
        if response["response"].strip()
        for raters in [said[response["response_id"]]]
    )
    found = sorted((row.score, row.num_ratings) for row in rows)
    assert [n for _, n in found] == [n for _, n in expected]
    assert [score for score, _ in found] == pytest.approx([s for s, _ in expected], abs=1e-6)


def test_reward_model_beats_length_on_short_answers_to_prompts_it_has_not_seen(
    shared_data: Path, tmp_path: Path
) -> None:
    rows = [
        row
        for row in read_cohere(shared_data)
        if len(row.prompt) + len(row.completion) <= SHORT_CHARS
    ]
    assert len(rows) == 775
    report = sbert.train(
        rows,
        params=sbert.SbertParams(),
        encoder=CachedEncoder(load_encoder(), tmp_path / "embeddings"),
        out_dir=tmp_path,
        tracker=NoOpTracker(),
    )
    assert report.metrics["auc"] >= 0.72
    assert report.metrics["auc"] > report.metrics["length_only_auc"] + 0.02
    assert report.details["intervals"]["gain_over_length_auc"][0] > 0


@pytest.mark.slow
def test_reward_model_tells_good_from_bad_on_prompts_it_has_not_seen(
    shared_data: Path, tmp_path: Path
) -> None:
    rows = read_cohere(shared_data)
    assert len(rows) == 2_236  # 2,243 rated responses that check no attention, 7 of them empty
    encoder = CachedEncoder(load_encoder(), tmp_path / "embeddings")
    report = sbert.train(
        rows,
        params=sbert.SbertParams(),
        encoder=encoder,
        out_dir=tmp_path,
        tracker=NoOpTracker(),
    )
    assert report.metrics["auc"] >= 0.74
    assert report.metrics["auc"] > report.metrics["length_only_auc"] + 0.02
    assert report.details["intervals"]["gain_over_length_auc"][0] > 0
    assert report.metrics["ece"] < 0.05
    assert report.metrics["accuracy"] > report.metrics["majority_accuracy"] + 0.04
    assert report.metrics["auc"] > measure_concatenated(rows, encoder) + 0.05


@pytest.mark.slow
def test_pairs_of_real_people_are_put_in_order_better_than_by_length(
    shared_data: Path, tmp_path: Path
) -> None:
    report = sbert.train(
        read_pairs("hh_rlhf_harmless_test", shared_data),
        params=sbert.SbertParams(),
        encoder=CachedEncoder(load_encoder(), tmp_path / "embeddings"),
        out_dir=tmp_path,
        tracker=NoOpTracker(),
    )
    assert report.metrics["pair_accuracy"] >= 0.62
    assert report.details["intervals"]["gain_over_length_pair_accuracy"][0] > 0
    assert report.metrics["ece"] <= 0.05


@pytest.mark.slow
def test_a_model_of_half_the_prompts_is_as_good_as_it_says_on_the_other_half(
    shared_data: Path, tmp_path: Path
) -> None:
    encoder = CachedEncoder(load_encoder(), tmp_path / "embeddings")
    ours, others = halve_by_prompt(read_cohere(shared_data), 0)
    report = sbert.train(
        ours,
        params=sbert.SbertParams(),
        encoder=encoder,
        out_dir=tmp_path,
        tracker=NoOpTracker(),
    )
    found = examine(
        sbert.load_reward_model(tmp_path, encoder=encoder),
        others,
        threshold=4.0,
        train_groups={row.group for row in ours},
        train_prompts=[row.prompt for row in ours],
    )
    assert found.metrics["auc"] == pytest.approx(report.metrics["auc"], abs=0.04)
    assert found.metrics["auc"] > found.baselines["auc"]["length_only"] + 0.03
    assert found.leakage is not None
    assert found.leakage.num_seen == 0
    assert {one.segment for one in found.slices} == {"source", "model_name", "length"}
