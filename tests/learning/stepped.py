"""Solutions in steps with a planted rule, in the words of the tiny models."""

import random

from rlhf_core.examples import SteppedCompletion
from rlhf_core.feedback.drafts import prompt_hash

TOPICS = ["bread", "taxes", "bicycles", "chess", "rivers", "violins", "glaciers"]
PLAIN = ["patience", "tools", "plan", "work", "steps", "talk", "ask", "because", "better", "worse"]
WRONG_WORD = "roses"
"""A step with this word is wrong; nothing else tells."""


def make_solutions(
    number: int, *, seed: int = 0, share_wrong: float = 0.2, until_first: bool = True
) -> list[SteppedCompletion]:
    """Solutions of 3 to 6 steps of 4 words; with `until_first`, labels end at the first mistake."""
    drawn = random.Random(seed)
    rows = []
    for index in range(number):
        prompt = f"tell me about {drawn.choice(TOPICS)} part {index // 2}"
        steps, labels = [], []
        for _ in range(drawn.randint(3, 6)):
            words = [drawn.choice(PLAIN) for _ in range(4)]
            is_wrong = drawn.random() < share_wrong
            if is_wrong:
                words[drawn.randrange(4)] = WRONG_WORD
            steps.append(" ".join(words))
            said = False not in labels or not until_first
            labels.append(not is_wrong if said else None)
        rows.append(
            SteppedCompletion(
                prompt=prompt,
                completions=tuple(steps),
                labels=tuple(labels),
                group=prompt_hash(prompt),
                interaction_id=f"row-{index}",
                segments={"action_type": "odd" if index % 2 else "even"},
            )
        )
    return rows
