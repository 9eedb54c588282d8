"""The error tree. A message says what happened, with which value, and what to do.

Each edge (page, API, CLI, worker) translates these once; nothing else is shown to a user.
"""


class RlhfError(Exception):
    """Root of all expected failures. `str(error)` is one sentence fit for a user."""


class NotFound(RlhfError):
    """The named thing does not exist, or not any more."""


class Conflict(RlhfError):
    """Somebody else changed it first, or it exists already."""


class GatesFailed(Conflict):
    """A version does not keep the rules for reaching users. `failed` names those that it breaks."""

    def __init__(self, message: str, *, failed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.failed = failed


class Forbidden(RlhfError):
    """The actor lacks the permission."""


class InvalidInput(RlhfError):
    """The value breaks a rule. `field` names it where one field is to blame."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class TooLarge(InvalidInput):
    """The value is longer than its limit; the message names the limit."""


class Unavailable(RlhfError):
    """A part that is needed (database, inference process, disk) does not answer now."""


class NotEnoughData(RlhfError):
    """Training needs more rows. `have` and `need` count them.

    >>> str(NotEnoughData(have=38, need=50, what="rated interactions"))
    '38 rated interactions, 12 more needed: rate or import more, then start again.'
    """

    def __init__(self, *, have: int, need: int, what: str) -> None:
        super().__init__(
            f"{have} {what}, {need - have} more needed: rate or import more, then start again."
        )
        self.have = have
        self.need = need


class TrainingFailed(RlhfError):
    """A run could not finish; the message says what to change."""
