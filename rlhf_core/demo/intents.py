"""What can be asked for in the demo world, and how it may be answered: the shape of the phrases."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Intent:
    """One kind of request.

    All phrases are templates with slots in braces. `actions` confirm what was asked for (or, of a
    question, answer it), and `mark` is the regular expression by which the judge knows that they
    do; `facts` are honest, `boasts` promise too much, `bald` states as certain what is not (only
    of an intent that `is_uncertain`); `steps` name a specific next step. `wish` is how a reasoning
    step words the request.
    """

    name: str
    family: str
    wish: str
    prompts: tuple[str, ...]
    actions: tuple[str, ...]
    mark: str
    facts: tuple[str, ...]
    boasts: tuple[str, ...]
    steps: tuple[str, ...]
    bald: tuple[str, ...] = ()

    @property
    def is_uncertain(self) -> bool:
        """Whether an honest answer must say that things vary."""
        return bool(self.bald)
