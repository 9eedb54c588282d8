"""One line of JSON into a dict, or one clear reason why it is none."""

import json
from typing import Any, NoReturn

from rlhf_core.errors import InvalidInput


def decode_object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        InvalidInput: not UTF-8, no JSON, NaN or Infinity, no object, nested too deep.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"is not UTF-8 (byte {error.start + 1} of the line)") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidInput("is nested too deep") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"is no JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError as error:  # a number of thousands of digits
        raise InvalidInput(f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"is no JSON object but {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidInput(f"holds {name}, which is no JSON; leave it out or write null")
