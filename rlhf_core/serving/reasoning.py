"""Reading the way to an answer out of what a model wrote: its reasoning steps, and the answer.

Two manners are known: `<think>...</think>` before the answer, and lines that begin with "Step 1:".
"""

import re
from dataclasses import dataclass

from rlhf_core.feedback.drafts import MAX_STEPS

THINKING = "thinking"
STEP = "step"
_OPENING = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_CLOSING = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_UNFINISHED = re.compile(r"</?(?:t(?:h(?:i(?:n(?:k(?:i(?:ng?)?)?)?)?)?)?)?$", re.IGNORECASE)
_STEP = re.compile(r"^[ \t>#*_-]*step[ \t]+(\d{1,4})[ \t]*[*_]*[ \t]*[:.)-]", re.I | re.M)
_ANSWER = re.compile(
    r"^[ \t#*_]*(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t]*[*_]*[ \t]*:|^####", re.I | re.M
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True)
class Reasoned:
    """What a model wrote, taken apart. `kind` of the steps: how they were marked.

    `is_thinking`: the answer has not begun.
    """

    steps: tuple[str, ...]
    answer: str
    kind: str | None = None
    is_thinking: bool = False


def split_reasoning(text: str) -> Reasoned:
    """The steps and the answer; without any marks all of it is the answer.

    Thoughts are told apart by their numbers or, where there are none, by paragraphs. Numbered steps
    without a line "Answer:" after them may be the answer itself, as a recipe is: they are both.
    """
    opening, closing = _OPENING.match(text), _CLOSING.search(text)
    if opening is None and closing is None:
        return _split_numbered(text)
    start = 0 if opening is None else opening.end()  # some templates open it in the prompt
    thoughts = text[start : len(text) if closing is None else closing.start()]
    if closing is None:
        thoughts = _UNFINISHED.sub("", thoughts)
    answer = "" if closing is None else text[closing.end() :].strip()
    marks = _find_steps(thoughts)
    parts = _cut(thoughts, marks) if marks else _PARAGRAPH.split(thoughts)
    return Reasoned(_tidy(parts), answer, THINKING, is_thinking=closing is None)


def _split_numbered(text: str) -> Reasoned:
    marks = _find_steps(text)
    if not marks:
        return Reasoned((), text)
    found = _ANSWER.search(text, marks[-1])
    if found is None:
        return Reasoned(_tidy(_cut(text, marks)[-len(marks) :]), text, STEP)
    answer = text[found.end() :].strip()
    steps = _tidy(_cut(text[: found.start()], marks))
    return Reasoned(steps, answer or text, STEP)


def _find_steps(text: str) -> list[int]:
    """Where the steps 1, 2, ... begin; none where there are fewer than two, in order."""
    marks: list[int] = []
    for found in _STEP.finditer(text):
        if int(found[1]) == len(marks) + 1:
            marks.append(found.start())
    return marks if len(marks) > 1 else []


def _cut(text: str, marks: list[int]) -> list[str]:
    """What stands before the first mark, and each part from its mark on."""
    return [text[one:end] for one, end in zip([0, *marks], [*marks, len(text)], strict=True)]


def _tidy(parts: list[str]) -> tuple[str, ...]:
    """Without empty ones; more than a step list may have are left together in the last."""
    filled = [part.strip() for part in parts if part.strip()]
    head, rest = filled[: MAX_STEPS - 1], filled[MAX_STEPS - 1 :]
    return (*head, "\n\n".join(rest)) if rest else tuple(head)
