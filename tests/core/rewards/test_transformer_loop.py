"""One training step: the loss is TRL's, and cutting a batch into parts leaves its gradient."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_core.examples import PreferencePair
from rlhf_core.rewards.base_model import choose_precision, load_base, load_tokenizer, set_dropout
from rlhf_core.rewards.batching import pad_rows
from rlhf_core.rewards.transformer_loop import Machine, backward_batch
from rlhf_core.rewards.transformer_loss import preference_losses, regression_losses
from rlhf_core.rewards.transformer_optimizer import make_optimizer, rate_factor
from rlhf_core.rewards.transformer_params import TransformerParams
from rlhf_core.rewards.transformer_rows import Corpus, build_corpus, hold_out
from rlhf_core.rewards.transformer_text import TextEncoder
from rlhf_core.training import NoOpTracker
from tests.learning.rated import make_rows
from tests.learning.tiny_models import WORDS, make_bert, make_llama

CPU = torch.device("cpu")
MACHINE = Machine(CPU, choose_precision("fp32", CPU), 0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def model(bert: Path) -> Any:
    found = load_base(bert)
    set_dropout(found, hidden=0.0, attention=0.0)
    return found.train()


def make_pairs(number: int) -> list[PreferencePair]:
    """Pairs of very different lengths and margins."""
    drawn = np.random.default_rng(0)

    def text() -> str:
        return " ".join(drawn.choice(WORDS, int(drawn.integers(1, 60))))

    return [
        PreferencePair(f"why {place}", text(), text(), float(place % 3), f"group {place}")
        for place in range(number)
    ]


def corpus_of(rows: Any, bert: Path, params: TransformerParams) -> Corpus:
    encoder = TextEncoder(load_tokenizer(bert), params.max_tokens)
    return build_corpus(rows, encoder, params, NoOpTracker())[0]


def gradients(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in model.named_parameters():
        yield name, value.grad.clone()


def padded(corpus: Corpus) -> dict[str, torch.Tensor]:
    texts = [row[side] for side in range(len(corpus.texts[0])) for row in corpus.texts]
    return pad_rows(
        [text.ids for text in texts], pad_id=0, device=CPU, types=[text.types for text in texts]
    )


def test_a_batch_of_pairs_in_parts_has_the_loss_and_gradient_of_the_whole(
    model: Any, bert: Path
) -> None:
    params = TransformerParams(max_tokens=64, margin_weight=0.5, center_rewards=0.01)
    batch = corpus_of(make_pairs(64), bert, params)
    chosen, rejected = model(**padded(batch)).logits[:, 0].chunk(2)
    losses = preference_losses(
        chosen, rejected, margins=torch.tensor(0.5 * batch.margins), center=0.01
    )
    losses.mean().backward()
    whole = dict(gradients(model))
    model.zero_grad()
    found = backward_batch(model, batch, params=params, machine=MACHINE)
    assert found == pytest.approx(float(losses.mean().detach()), rel=1e-5)
    for name, gradient in gradients(model):
        assert torch.allclose(gradient, whole[name], atol=1e-6, rtol=1e-4), name


def test_a_batch_of_ratings_in_parts_has_the_loss_and_gradient_of_the_whole(
    model: Any, bert: Path
) -> None:
    params = TransformerParams(max_tokens=64)
    batch = corpus_of(make_rows(64), bert, params)
    targets, weights = (torch.tensor(table).float() for table in (batch.targets, batch.weights))
    loss = (weights * (model(**padded(batch)).logits[:, 0] - targets[:, 0]) ** 2).mean()
    loss.backward()
    whole = dict(gradients(model))
    model.zero_grad()
    found = backward_batch(model, batch, params=params, machine=MACHINE)
    assert found == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, gradient in gradients(model):
        assert torch.allclose(gradient, whole[name], atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize(("margin_weight", "center"), [(0.0, 0.0), (1.0, 0.05)])
def test_the_loss_of_pairs_is_that_of_trl(
    model: Any, bert: Path, tmp_path: Path, margin_weight: float, center: float
) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    params = TransformerParams(
        max_tokens=64, margin_weight=margin_weight, center_rewards=center, batch_size=64
    )
    batch = corpus_of(make_pairs(64), bert, params)
    columns: dict[str, Any] = {
        "chosen_ids": [row[0].ids for row in batch.texts],
        "rejected_ids": [row[1].ids for row in batch.texts],
    }
    if margin_weight:
        columns["margin"] = batch.margins.tolist()
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[],
            activation_checkpointing=False, per_device_train_batch_size=64, max_length=64,
            center_rewards_coefficient=center or None,
        ),
        processing_class=load_tokenizer(bert),
        train_dataset=Dataset.from_dict(columns),
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    inputs["token_type_ids"] = padded(batch)["token_type_ids"].zero_()  # TRL has no segments
    expected = float(trainer.compute_loss(model.train(), inputs).detach())
    plain = [
        tuple(type(text)(text.ids, [0] * len(text.ids), False, False) for text in row)
        for row in batch.texts
    ]
    ours = backward_batch(
        model,
        replace(batch, texts=plain),
        params=params,
        machine=MACHINE,
    )
    assert ours == pytest.approx(expected, rel=1e-5)


def test_an_unknown_aspect_costs_nothing_and_pulls_nothing() -> None:
    predicted = torch.tensor([[1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 0.0], [0.0, float("nan")]])
    losses = regression_losses(predicted, targets, head_weights=torch.tensor([1.0, 0.5]))
    assert losses.tolist() == [3.0, 1.0]
    losses.sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [[2.0, 2.0], [2.0, 0.0]]


def test_the_rate_rises_then_falls_to_nothing() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert max(factors) == 1.0
    assert 0.0 < factors[-1] < 0.02


def test_lower_layers_learn_slower_and_the_head_has_its_own_rate(bert: Path) -> None:
    model = load_base(bert)
    params = TransformerParams(lr=1e-3, head_lr=5e-3, layer_decay=0.5)
    rates = {
        id(value): group["lr"]
        for group in make_optimizer(model, params).param_groups
        for value in group["params"]
    }
    found = {name: rates[id(value)] for name, value in model.named_parameters()}
    assert found["classifier.weight"] == 5e-3
    assert found["bert.pooler.dense.weight"] == 1e-3
    assert found["bert.encoder.layer.1.output.dense.weight"] == 1e-3
    assert found["bert.encoder.layer.0.output.dense.weight"] == 5e-4
    assert found["bert.embeddings.word_embeddings.weight"] == 2.5e-4


def test_no_prompt_is_in_both_parts_and_the_held_out_ones_are_alike(bert: Path) -> None:
    params = TransformerParams(max_tokens=64)
    corpus = corpus_of(make_rows(400), bert, params)
    learned, held = hold_out(corpus, params)
    assert not set(learned.groups) & set(held.groups)
    assert len(learned) + len(held) == 400
    assert 0.08 < len(held) / 400 < 0.40
    assert held.targets.mean() == pytest.approx(learned.targets.mean(), abs=0.25)


def test_a_prompt_is_cut_on_its_left_to_keep_the_completion(bert: Path) -> None:
    encoder = TextEncoder(load_tokenizer(bert), 23)
    tokenizer = encoder.tokenizer
    (text,) = encoder.encode(["0 1 2 3 4 5 6 7 8 9 " * 3], ["good tools and a plan"])
    assert len(text.ids) == 23
    assert text.is_prompt_cut
    assert not text.is_completion_cut
    assert tokenizer.decode(text.ids).startswith("[CLS] 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 [SEP] good")
    assert tokenizer.decode(text.ids).endswith("plan [SEP]")
    assert text.types == [0] * 17 + [1] * 6


def test_a_long_completion_leaves_a_quarter_to_the_prompt(bert: Path) -> None:
    (text,) = TextEncoder(load_tokenizer(bert), 23).encode(["0 1 2 3 4 5 6 7"], ["good " * 90])
    assert text.is_completion_cut
    assert text.is_prompt_cut
    assert text.types == [0] * 7 + [1] * 16


def test_a_causal_model_reads_an_empty_line_between_and_its_end_token(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_llama(tmp_path))
    (text,) = TextEncoder(tokenizer, 64).encode(["why"], ["because"])
    assert tokenizer.convert_ids_to_tokens(text.ids) == ["why", "\n\n", "because", "<eos>"]
    assert text.types is None


def test_a_chat_template_frames_prompt_and_completion(tmp_path: Path) -> None:
    template = (
        "{% for message in messages %}{{ message['role'] + ' : ' + message['content'] + ' . ' }}"
        "{% endfor %}"
    )
    tokenizer = load_tokenizer(make_llama(tmp_path, chat_template=template))
    (text,) = TextEncoder(tokenizer, 64).encode(["why"], ["because"])
    words = tokenizer.convert_ids_to_tokens(text.ids)
    assert words == ["user", ":", "why", ".", "assistant", ":", "because", "."]
