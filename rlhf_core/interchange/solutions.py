"""The format `prm800k`: raw records with the steps of a solution and several completions a step.

The chosen way (where none was chosen, what the labeller wrote) is one interaction whose steps carry
the labels 1, 0 and -1. Each completion that was rated and not chosen is an interaction of its own:
the steps so far and this one, which alone carries its label. So no rating is lost, and each has
what it was a continuation of.
"""

from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import InteractionDraft
from rlhf_core.interchange.bundle import Bundle

Part = tuple[str, int | None]
"""A step's text and its label."""


class Prm800kParser:
    """Raw PRM800K records."""

    def __init__(self, *, source: str) -> None:
        self._source = source

    def __call__(self, row: dict[str, Any]) -> Bundle:
        """The solution of a record, and its alternatives.

        Raises:
            InvalidInput: a part of the record is missing.
            pydantic.ValidationError: a field breaks a rule.
        """
        question, label = _object(row, "question"), _object(row, "label")
        steps = label.get("steps")
        if not isinstance(steps, list) or not steps:
            raise InvalidInput("label.steps: is no list of steps", field="label")
        bundle = Bundle()
        path: list[Part] = []
        for position, step in enumerate(steps):
            if not isinstance(step, dict):
                raise InvalidInput(f"label.steps.{position}: is no object", field="label")
            completions = step.get("completions") or []
            if not isinstance(completions, list):
                raise InvalidInput(f"label.steps.{position}.completions: is no list", field="label")
            chosen = step.get("chosen_completion")
            for number, completion in enumerate(completions):
                part = _part(completion, position)
                if number != chosen and part[1] is not None:
                    alternative = [*((text, None) for text, _ in path), part]
                    self._add(bundle, row, question, alternative, alternative_at=position)
            if isinstance(chosen, int) and 0 <= chosen < len(completions):
                path.append(_part(completions[chosen], position))
            elif step.get("human_completion"):
                path.append(_part(step["human_completion"], position))
            else:
                break  # nobody went on from here
        if path:
            self._add(bundle, row, question, path, finish=label.get("finish_reason"))
        return bundle

    def _add(
        self,
        bundle: Bundle,
        row: dict[str, Any],
        question: dict[str, Any],
        parts: list[Part],
        **notes: Any,
    ) -> None:
        shared = {
            "rater": row.get("labeler") or "prm800k labeller",
            "occurred_at": row.get("timestamp"),
        }
        flags = ("generation", "is_quality_control_question", "is_initial_screening_question")
        extra = {name: row[name] for name in flags if row.get(name)}
        if question.get("ground_truth_answer") is not None:
            notes["reference_answer"] = question["ground_truth_answer"]
        draft = InteractionDraft.model_validate(
            {
                "prompt": question.get("problem"),
                "completion": "\n".join(text for text, _ in parts),
                "source": self._source,
                "action_type": "step_alternative" if "alternative_at" in notes else "solution",
                "extra": notes,
                "steps": [{"content": text} for text, _ in parts],
                "feedback": [
                    {**shared, "step": position, "label": label, "extra": extra or None}
                    for position, (_, label) in enumerate(parts)
                    if label is not None
                ],
            }
        )
        bundle.add_interaction(self._source, draft)


def _object(row: dict[str, Any], name: str) -> dict[str, Any]:
    value = row.get(name)
    if not isinstance(value, dict):
        raise InvalidInput(f"{name}: is no object", field=name)
    return value


def _part(completion: Any, position: int) -> Part:
    if not isinstance(completion, dict) or not isinstance(completion.get("text"), str):
        raise InvalidInput(f"label.steps.{position}: a completion has no text", field="label")
    return completion["text"], completion.get("rating")
