"""Finding a passage whatever its case, alike on both databases.

`ILIKE` of PostgreSQL knows all alphabets. SQLite's `LIKE` and `lower` fold ASCII letters only, and
a Python function called for each row takes ten times as long; so letters beyond ASCII are looked
for with `GLOB`, which takes classes of characters: `*Ж[Ии]*` or `*ж[Ии]*`. Its first letter stands
alone, as SQLite runs over the text for it quickly.
"""

from collections import defaultdict
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

LAST_CASED = 0x1E943
"""No letter behind this one has a case."""
WILD = "*?["


class _Contains(FunctionElement[bool]):
    """Its clauses are the condition for SQLite and the one for the others."""

    inherit_cache = True
    type = sa.Boolean()


@compiles(_Contains)
def _compile(element: Any, compiler: Any, **options: Any) -> str:
    _, elsewhere = element.clauses
    return str(compiler.process(elsewhere.self_group(), **options))


@compiles(_Contains, "sqlite")
def _compile_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    on_sqlite, _ = element.clauses
    return str(compiler.process(on_sqlite.self_group(), **options))


def contains_text(column: Any, wanted: str) -> sa.ColumnElement[bool]:
    """Whether a text holds this one, upper and lower case alike; NULL does not."""
    any_case = column.icontains(wanted, autoescape=True)
    if wanted.isascii():
        here = column.contains(wanted, autoescape=True)  # LIKE: ASCII letters of any case
    else:
        here = sa.or_(*(column.op("GLOB", is_comparison=True)(one) for one in _globs(wanted)))
    return _Contains(sa.and_(here), any_case)


def _globs(wanted: str) -> list[str]:
    rest = "".join(_class_of(char) for char in wanted[1:])
    return [f"*{_class_of(first, is_alone=True)}{rest}*" for first in _cases(wanted[0])]


def _class_of(char: str, *, is_alone: bool = False) -> str:
    cases = [char] if is_alone else _cases(char)
    return char if len(cases) == 1 and char not in WILD else f"[{''.join(cases)}]"


def _cases(char: str) -> list[str]:
    return _by_lower().get(char.lower(), [char])


@lru_cache
def _by_lower() -> dict[str, list[str]]:
    """The letters with a case, by their lower case."""
    found: dict[str, list[str]] = defaultdict(list)
    for char in map(chr, range(LAST_CASED + 1)):
        lower = char.lower()
        if lower != char and len(lower) == 1:
            found[lower].append(char)
    return {lower: [*upper, lower] for lower, upper in found.items()}
