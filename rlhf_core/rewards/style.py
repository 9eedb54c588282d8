"""What can be counted in a text without understanding it: its manner, and what it takes up again.

Sentence embeddings say what a text is about, and little of how it is written: whether it refuses,
asks back, lists, repeats the prompt. People rate that too. On four public sets these eighteen
numbers lift what the embeddings alone achieve by 1 to 5 points.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

READ_CHARS = 20_000
"""Of a very long text only so much is read: its manner shows by then."""
QUOTED_WORDS = 8

TOKENS = re.compile(r"[^\W\d_]+(?:'\w+)?|\d+|[^\w\s]")
SENTENCE_ENDS = re.compile(r"[.!?](?:\s|$)")
LIST_ITEMS = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])", re.MULTILINE)
CURLY = "\u2019"  # the typographic apostrophe, taken for a straight one
CLOSING = (".", "!", "?", '"', ")", "\u201d")
# Of English, German, French and Spanish; in other languages these three say nothing.
SELF = frozenset(
    ["i", "i'm", "i'd", "i've", "my", "me", "ich", "mich", "mir", "mein", "je", "moi", "yo", "mi"]
)
YOU = frozenset(
    ["you", "your", "you're", "du", "dir", "dich", "dein", "ihnen", "tu", "vous", "votre", "usted"]
)
DENIAL = frozenset(
    ["not", "no", "sorry", "cannot", "never", "nicht", "kein", "keine", "nein", "ne", "pas", "non"]
)
DENIAL_END = "n't"

STYLE_NAMES = (
    "questions a sentence", "exclamations a sentence", "lines", "list items",
    "words a sentence", "different words", "numbers", "sentences", "ends with a mark",
    "letters a word", "capitals", "commas a word", "says I", "says you", "denies",
    "words from the prompt", "prompt words taken up", "begins with the prompt's words",
)  # fmt: skip
NUM_STYLE = len(STYLE_NAMES)


def describe_style(prompts: Sequence[str], completions: Sequence[str]) -> npt.NDArray[np.float64]:
    """The numbers of `STYLE_NAMES` for each pair, not scaled: (n, 18)."""
    asked: dict[str, list[str]] = {}
    table = np.empty((len(completions), NUM_STYLE))
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        if prompt not in asked:
            asked[prompt] = _words(_tokens(prompt[:READ_CHARS]))
        text = completion[:READ_CHARS]
        tokens = _tokens(text)
        words = _words(tokens)
        table[number] = (*_manner(text, tokens, words), *_taken_up(asked[prompt], words))
    return table


def _manner(text: str, tokens: list[str], words: list[str]) -> tuple[float, ...]:
    num_words = max(1, len(words))
    num_sentences = max(1, len(SENTENCE_ENDS.findall(text)))
    return (
        text.count("?") / num_sentences,
        text.count("!") / num_sentences,
        float(np.log1p(text.count("\n"))),
        float(np.log1p(len(LIST_ITEMS.findall(text)))),
        float(np.log(num_words / num_sentences)),
        len(set(words)) / num_words,
        sum(token.isdigit() for token in tokens) / num_words,
        float(np.log1p(num_sentences)),
        float(text.rstrip().endswith(CLOSING)),
        sum(map(len, words)) / num_words,
        sum(map(str.isupper, text)) / max(1, len(text)),
        text.count(",") / num_words,
        sum(word in SELF for word in words) / num_words,
        sum(word in YOU for word in words) / num_words,
        sum(word in DENIAL or word.endswith(DENIAL_END) for word in words) / num_words,
    )


def _taken_up(asked: list[str], words: list[str]) -> tuple[float, ...]:
    """Shared words as a share of the completion's, of the prompt's, and whether it is quoted."""
    of_prompt, of_completion = set(asked), set(words)
    shared = len(of_prompt & of_completion)
    start = " ".join(words[:QUOTED_WORDS])
    return (
        shared / max(1, len(of_completion)),
        shared / max(1, len(of_prompt)),
        float(bool(words) and start in " ".join(asked)),
    )


def _tokens(text: str) -> list[str]:
    return TOKENS.findall(text.lower().replace(CURLY, "'"))


def _words(tokens: list[str]) -> list[str]:
    return [token for token in tokens if token[0].isalpha()]
