"""Tiny real models with tokenizers of their own, made on the spot: folders as the hub has them."""

from pathlib import Path
from typing import Any

TEXT = (
    "tell me about bread taxes bicycles roses chess rivers violins glaciers part of course need "
    "patience good tools and a plan here is how work in steps no idea i cannot talk whatever ask "
    "somebody else what why because it so better worse 0 1 2 3 4 5 6 7 8 9 : , . ? user assistant"
)
WORDS = TEXT.split()


def make_bert(folder: Path, *, layers: int = 2, seed: int = 0, **config: Any) -> Path:
    """An encoder of 32 units whose tokenizer separates two texts by special tokens."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: place for place, word in enumerate([*special, *dict.fromkeys(WORDS)])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    settings = {
        "vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": layers, "num_attention_heads": 4, "max_position_embeddings": 128,
        "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(seed)
    BertModel(BertConfig(**settings | config)).save_pretrained(folder)
    return folder


def make_llama(folder: Path, *, layers: int = 2, seed: int = 0, chat_template: str = "") -> Path:
    """A causal model of 32 units without padding token, as many have none."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    vocabulary = {
        word: place for place, word in enumerate(["<unk>", "<eos>", "\n\n", *dict.fromkeys(WORDS)])
    }
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<eos>", unk_token="<unk>", model_max_length=256
    )
    if chat_template:
        tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    LlamaModel(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=None,
        )
    ).save_pretrained(folder)
    return folder
