"""Does the arithmetic of a text hold? A small language model cannot compute; this can.

Chains such as `3 * (4 + 5) = 27 = 20 + 7` are found in a text and each link computed, by a parser
of its own for numbers, the four operations and brackets: nothing of the text is ever run. What
cannot be read for certain (variables, units between numbers) is passed over, not called wrong.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

MAX_CHARS = 200
"""Of one chain; longer ones are passed over."""
_RUN = re.compile(r"(?:[\d\s,+\-*/()=\u00d7\u00f7\u2212$€£%]|\.(?!\s))+")
_TOKEN = re.compile(r"\s*(?:(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(\s*%)?|([-+*/()]))")
_SIGNS = str.maketrans({"\u00d7": "*", "\u00f7": "/", "\u2212": "-", "$": " ", "€": " ", "£": " "})
_DECIMALS = re.compile(r"\.(\d+)")


@dataclass(frozen=True)
class Equations:
    """How many equations of a text hold, and how many do not."""

    num_right: int
    num_wrong: int


def count_equations(text: str) -> Equations:
    """Compute the equations of a text; time is linear in its length.

    An equation has an operation on its left. It holds if both sides differ by no more than half of
    the last decimal that is written (100 / 3 = 33.3), with `%` read as hundredths or left out.

    >>> count_equations("So 180 * $50 = $9,000, and 2 + 2 = 5.")
    Equations(num_right=1, num_wrong=1)
    """
    num_right = num_wrong = 0
    for left, right in _find_links(text):
        verdict = _holds(left, right)
        num_right += verdict is True
        num_wrong += verdict is False
    return Equations(num_right=num_right, num_wrong=num_wrong)


def _find_links(text: str) -> Iterator[tuple[str, str]]:
    """Both sides of each equation sign; of `a = b = c` it is a, b and b, c."""
    for run in _RUN.finditer(text):
        if "=" not in run[0] or len(run[0]) > MAX_CHARS:
            continue
        sides = [_trim(side) for side in run[0].translate(_SIGNS).split("=")]
        if text[run.end() : run.end() + 1].isalpha() and (
            run[0][-1].isdigit() or run[0][-1] == ")"
        ):
            sides.pop()  # it goes on as `3x`
        if re.match(r"[+*/]|-\s", sides[0]) if sides else False:
            sides.pop(0)  # what comes before the sign is no number
        for left, right in pairwise(sides):
            if any(sign in left.lstrip("-+ (") for sign in "+-*/"):
                yield left, right


def _trim(side: str) -> str:
    """Without the marks of the sentence around it, and brackets that do not belong to it."""
    side = side.strip(" \t\n\r.,").rstrip("(+-*/ ")
    surplus = side.count("(") - side.count(")")
    if surplus > 0 and side.startswith("(" * surplus):
        side = side[surplus:]
    if surplus < 0 and side.endswith(")" * -surplus):
        side = side[:surplus]
    return side


def _holds(left: str, right: str) -> bool | None:
    """Whether the sides are equal; None where one cannot be read."""
    found = []
    for hundredth in (0.01, 1.0) if "%" in left + right else (1.0,):
        for other in (0.01, 1.0) if "%" in left + right else (1.0,):
            values = _Parser(left, hundredth).read(), _Parser(right, other).read()
            if values[0] is None or values[1] is None:
                return None
            found.append(abs(values[0] - values[1]) <= _tolerance(right, values[1], other))
    return any(found)


def _tolerance(right: str, value: float, hundredth: float) -> float:
    """Half of the last decimal of the right side."""
    decimals = max((len(digits) for digits in _DECIMALS.findall(right)), default=0)
    scale = hundredth if "%" in right else 1.0
    return float(0.5 * 10.0**-decimals * scale * (1 + 1e-6) + 1e-9 * abs(value))


class _Parser:
    """Numbers, `+ - * /`, signs and brackets, by recursive descent; `read` is None for others."""

    def __init__(self, text: str, hundredth: float) -> None:
        self._tokens = self._split(text, hundredth)
        self._place = 0

    def read(self) -> float | None:
        """The value of the whole text; None where it is no arithmetic, or divides by 0."""
        if not self._tokens:
            return None
        try:
            value = self._sum()
        except (ZeroDivisionError, OverflowError, IndexError, ValueError):
            return None
        return value if self._place == len(self._tokens) else None

    def _split(self, text: str, hundredth: float) -> list[float | str]:
        tokens: list[float | str] = []
        place = 0
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                return []
            number, percent, sign = found.groups()
            if number is None:
                tokens.append(sign)
            else:
                tokens.append(float(number.replace(",", "")) * (hundredth if percent else 1.0))
            place = found.end()
        return tokens

    def _peek(self) -> float | str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _sum(self) -> float:
        value = self._product()
        while self._peek() in ("+", "-"):
            sign = self._tokens[self._place]
            self._place += 1
            value = value + self._product() if sign == "+" else value - self._product()
        return value

    def _product(self) -> float:
        value = self._factor()
        while self._peek() in ("*", "/"):
            sign = self._tokens[self._place]
            self._place += 1
            value = value * self._factor() if sign == "*" else value / self._factor()
        return value

    def _factor(self) -> float:
        sign = self._tokens[self._place]
        self._place += 1
        if sign in ("-", "+"):
            return -self._factor() if sign == "-" else self._factor()
        if sign == "(":
            value = self._sum()
            if self._tokens[self._place] != ")":
                raise ValueError("a bracket is not closed")
            self._place += 1
            return value
        if isinstance(sign, str):
            raise ValueError(f"{sign} stands where a number should")
        return sign
