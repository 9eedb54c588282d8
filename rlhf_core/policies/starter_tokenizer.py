"""The starter's own tokenizer: byte-level BPE of the texts at hand, with a chat template."""

from collections.abc import Sequence
from typing import Any

from rlhf_core.pretrained import quiet_transformers

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
MARKS = (PAD, END, *(f"<|{role}|>" for role in ROLES))
MIN_FREQUENCY = 2
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + (message['content'] | replace('<|', '< |')) -}}"
    "{%- if message['role'] == 'assistant' -%}{{- '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""A text cannot pass itself off as a mark: what looks like one is taken apart."""


def train_tokenizer(texts: Sequence[str], *, vocab_size: int, positions: int) -> Any:
    """A tokenizer of at most `vocab_size` tokens that knows all texts, byte by byte if need be."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=list(MARKS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    plain.train_from_iterator(texts, trainer)
    with quiet_transformers():
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=plain,
            eos_token=END,
            pad_token=PAD,
            additional_special_tokens=[mark for mark in MARKS if mark not in (PAD, END)],
            model_max_length=positions,
            clean_up_tokenization_spaces=False,
        )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
