"""The format `hh-rlhf`: two transcripts a line, `chosen` and `rejected`, that differ at the end.

Each becomes an interaction, the pair a comparison. Which side was shown left is not recorded: the
hash of the text decides, so that no side is favoured. Who chose is not recorded either: all count
for one rater of the source, of the kind END_USER (people chatting with the assistant).
"""

import os.path
import re
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import ComparisonDraft, InteractionDraft
from rlhf_core.interchange.bundle import Bundle
from rlhf_core.vocabulary import Choice, RaterKind

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class HhRlhfParser:
    """Rows with `chosen` and `rejected`; other columns are not read, but `id` names the pair."""

    def __init__(self, *, source: str) -> None:
        self._source = source

    def __call__(self, row: dict[str, Any]) -> Bundle:
        """The two interactions and the comparison of a row.

        Raises:
            InvalidInput: no transcript, the same one twice, or two that share no prompt.
        """
        texts = [_text(row, "chosen"), _text(row, "rejected")]
        messages, cut = split_shared(texts[0], texts[1])
        *context, prompt = messages
        chosen, rejected = (
            InteractionDraft.model_validate(
                {
                    "prompt": prompt["content"],
                    "completion": text[cut:].strip(),
                    "context": context or None,
                    "source": self._source,
                }
            )
            for text in texts
        )
        if chosen.identity() == rejected.identity():
            raise InvalidInput("chosen and rejected are the same")
        left, right = sorted((chosen.identity(), rejected.identity()))
        comparison = ComparisonDraft(
            left=left,
            right=right,
            choice=Choice.LEFT if left == chosen.identity() else Choice.RIGHT,
            rater_kind=RaterKind.END_USER,
            external_id=None if row.get("id") is None else str(row["id"]),
            extra={"sides": "by hash"},
        )
        bundle = Bundle()
        bundle.add_interaction(self._source, chosen)
        bundle.add_interaction(self._source, rejected)
        bundle.add_comparison(self._source, comparison)
        return bundle


def _text(row: dict[str, Any], column: str) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        raise InvalidInput(f"{column}: is no text", field=column)
    text = text if text.startswith("\n\n") else "\n\n" + text.lstrip()
    if not _TURN.match(text):
        raise InvalidInput(f"{column}: does not begin with 'Human:' or 'Assistant:'", field=column)
    return text


def split_shared(chosen: str, rejected: str) -> tuple[list[dict[str, str]], int]:
    """The messages that both transcripts share, and where the two answers begin.

    The answers begin after the last `Assistant:` of the shared part that answers a `Human:`. Turns
    inside an answer, which people quoted or the model made up, stay in it.

    Raises:
        InvalidInput: there is no such place.
    """
    shared = os.path.commonprefix([chosen, rejected])  # noqa: RUF071 - texts, no paths
    turns = list(_TURN.finditer(shared))
    for at in range(len(turns) - 1, 0, -1):
        if (turns[at - 1][1], turns[at][1]) == ("Human", "Assistant"):
            ends = [turn.start() for turn in turns[1 : at + 1]]
            messages = [
                {"role": _ROLES[turn[1]], "content": shared[turn.end() : end].strip()}
                for turn, end in zip(turns[:at], ends, strict=True)
            ]
            return messages, turns[at].end()
    raise InvalidInput("chosen and rejected share no 'Human:' turn that both answer")
