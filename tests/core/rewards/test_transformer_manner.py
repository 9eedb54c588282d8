"""What length and style say ahead of the transformer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_core.examples import PreferencePair, ScoredCompletion
from rlhf_core.rewards.base_model import load_tokenizer
from rlhf_core.rewards.features import count_texts
from rlhf_core.rewards.transformer import TransformerParams, load_transformer, train_transformer
from rlhf_core.rewards.transformer_manner import Manner, fit_manner, put_offsets
from rlhf_core.rewards.transformer_rows import Corpus, build_corpus, drop_ties
from rlhf_core.rewards.transformer_text import TextEncoder
from rlhf_core.training import NoOpTracker
from tests.learning.rated import make_rows
from tests.learning.tiny_models import make_bert

PARAMS = TransformerParams(max_tokens=48)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


def rate_by_length(number: int) -> list[ScoredCompletion]:
    """Ratings that follow the number of words, of completions that say nothing else."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, 30, number)
    return [
        ScoredCompletion(f"Question {place}?", "word " * count, 1 + 4 * count / 30, 1, str(place))
        for place, count in enumerate(words)
    ]


def corpus_of(rows: list[ScoredCompletion] | list[PreferencePair], bert: Path) -> Corpus:
    encoder = TextEncoder(load_tokenizer(bert), PARAMS.max_tokens)
    return build_corpus(rows, encoder, PARAMS, NoOpTracker())[0]


def test_length_that_people_like_is_found_on_prompts_not_seen(bert: Path) -> None:
    corpus = corpus_of(rate_by_length(200), bert)
    manner, learned = fit_manner(corpus.take(range(150)), seed=0)
    unseen = put_offsets(corpus.take(range(150, 200)), manner)
    for part in (learned, unseen):
        assert np.corrcoef(part.offsets[:, 0], part.targets[:, 0])[0, 1] > 0.95
        assert abs(part.offsets.mean()) < 0.5  # above and below the mean rating


def test_the_rating_of_a_prompt_has_no_say_in_its_own_offset(bert: Path) -> None:
    corpus = corpus_of(rate_by_length(60), bert)
    turned = corpus.targets.copy()
    turned[7] = 6.0 - turned[7]
    _, learned = fit_manner(corpus, seed=0)
    _, other = fit_manner(replace(corpus, targets=turned), seed=0)
    assert other.offsets[7] == learned.offsets[7]
    assert (other.offsets != learned.offsets).any()


def test_the_better_of_a_pair_gets_the_higher_offset(bert: Path) -> None:
    rows = sorted(rate_by_length(160), key=lambda row: row.score)
    pairs = [
        PreferencePair(good.prompt, good.completion, bad.completion, 1.0, good.group)
        for bad, good in zip(rows[:80], rows[80:], strict=True)
    ]
    _, learned = fit_manner(corpus_of(pairs, bert), seed=0)
    assert (learned.offsets[:, 0] > learned.offsets[:, 1]).mean() > 0.95


def test_ties_are_left_out_and_said() -> None:
    class Lines(NoOpTracker):
        said = ""

        def log(self, text: str) -> None:
            self.said += text

    lines = Lines()
    pair = PreferencePair("Which?", "this", "that", 1.0, "g")
    tie, twin = replace(pair, margin=0.0), replace(pair, rejected="this")
    assert drop_ties([pair, tie, twin], lines) == [pair]
    assert "2 of 3 pairs are ties" in lines.said


def test_a_saved_model_says_the_same_with_its_manner(bert: Path, tmp_path: Path) -> None:
    rows = make_rows(80)
    out_dir = tmp_path / "model"
    out_dir.mkdir()
    params = TransformerParams(base=str(bert), max_tokens=48, epochs=1, precision="fp32")
    train_transformer(
        rows, params=params, out_dir=out_dir, work_dir=tmp_path / "work", tracker=NoOpTracker()
    )
    model = load_transformer(out_dir)
    manner = model.spec.manner
    assert isinstance(manner, Manner)
    prompts, completions = [rows[0].prompt], [rows[0].completion]
    with_manner = model.score_raw(prompts, completions)
    model.spec = replace(model.spec, manner=None)
    gap = with_manner - model.score_raw(prompts, completions)
    assert gap[0, 0] == pytest.approx(float(manner.apply(count_texts(prompts, completions))[0]))
