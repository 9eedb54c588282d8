"""The format `hh-rlhf`: two transcripts a line, `chosen` and `rejected`, that differ at the end.

Each becomes an interaction, the pair a comparison. Which side was shown left is not recorded: the
hash of the text decides, so that no side is favoured. Who chose is not recorded either: all count
for one rater of the source, of the kind END_USER (people chatting with the assistant).
"""

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
            InvalidInput: no transcript, the same one twice, or two different prompts.
        """
        chosen = self._interaction(row, "chosen")
        rejected = self._interaction(row, "rejected")
        if chosen.prompt != rejected.prompt or chosen.context != rejected.context:
            raise InvalidInput("chosen and rejected answer different prompts")
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

    def _interaction(self, row: dict[str, Any], column: str) -> InteractionDraft:
        text = row.get(column)
        if not isinstance(text, str):
            raise InvalidInput(f"{column}: is no text", field=column)
        messages = split_transcript(text, column)
        *context, prompt, completion = messages
        return InteractionDraft.model_validate(
            {
                "prompt": prompt["content"],
                "completion": completion["content"],
                "context": context or None,
                "source": self._source,
            }
        )


def split_transcript(text: str, column: str) -> list[dict[str, str]]:
    r"""The messages of `\n\nHuman: ...\n\nAssistant: ...`; the last is the assistant's.

    Raises:
        InvalidInput: it does not begin with a turn, or does not end with a human's and an
            assistant's turn.
    """
    head, *turns = _TURN.split(text if text.startswith("\n\n") else "\n\n" + text.lstrip())
    if head.strip() or not turns:
        raise InvalidInput(f"{column}: does not begin with 'Human:' or 'Assistant:'", field=column)
    messages = [
        {"role": _ROLES[name], "content": content.strip()}
        for name, content in zip(turns[::2], turns[1::2], strict=True)
    ]
    if [message["role"] for message in messages[-2:]] != ["user", "assistant"]:
        raise InvalidInput(
            f"{column}: does not end with a 'Human:' and an 'Assistant:' turn", field=column
        )
    return messages
