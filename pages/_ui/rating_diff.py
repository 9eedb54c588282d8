"""What a correction changes, side by side: lines matched first, then the words of changed lines.

The texts reach the page as text nodes of our own component: no Markdown, no HTML, nothing fetched.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

import streamlit as st

CONTEXT_LINES = 2
MAX_MATCHED = 3_000
"""Lines or words of a changed stretch that are matched; a longer one is changed as a whole."""

Part = tuple[bool, str]
"""(whether it differs, text)"""

_WORD = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class DiffRow:
    """A line of the old text beside one of the new; None: there is none on that side.

    `num_hidden` > 0 stands for so many equal lines that are left out.
    """

    old: tuple[Part, ...] | None
    new: tuple[Part, ...] | None
    num_hidden: int = 0


def build_diff(old: str, new: str) -> list[DiffRow]:
    """The lines of both texts beside each other, with equal stretches cut to their edges."""
    rows: list[DiffRow] = []
    old_lines, new_lines = old.split("\n"), new.split("\n")
    blocks = list(_match(old_lines, new_lines))
    for number, (is_equal, olds, news) in enumerate(blocks):
        if is_equal:
            rows += _shorten(olds, is_first=number == 0, is_last=number == len(blocks) - 1)
        else:
            rows += _pair_lines(olds, news)
    return rows


def draw_diff(old: str, new: str, *, key: str) -> None:
    """Both texts side by side, on a narrow screen above each other, with the changes marked."""
    rows = [
        {"old": row.old, "new": row.new, "hidden": row.num_hidden} for row in build_diff(old, new)
    ]
    _component(data={"rows": rows}, key=key)


def _match(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[bool, list[str], list[str]]]:
    """(whether equal, old, new) of each stretch. Equal ends are cut off first: edits are local."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    if head:
        yield True, list(old[:head]), list(new[:head])
    olds, news = old[head : len(old) - tail], new[head : len(new) - tail]
    if len(olds) + len(news) > MAX_MATCHED:
        yield False, list(olds), list(news)
    else:
        for kind, a, b, c, d in SequenceMatcher(None, olds, news, autojunk=False).get_opcodes():
            yield kind == "equal", list(olds[a:b]), list(news[c:d])
    if tail:
        yield True, list(old[len(old) - tail :]), list(new[len(new) - tail :])


def _shorten(lines: list[str], *, is_first: bool, is_last: bool) -> list[DiffRow]:
    keep_before = 0 if is_first else CONTEXT_LINES
    keep_after = 0 if is_last else CONTEXT_LINES
    num_hidden = len(lines) - keep_before - keep_after
    if num_hidden <= 1:
        return [_equal_row(line) for line in lines]
    return [
        *map(_equal_row, lines[:keep_before]),
        DiffRow(None, None, num_hidden),
        *map(_equal_row, lines[len(lines) - keep_after :]),
    ]


def _equal_row(line: str) -> DiffRow:
    return DiffRow(((False, line),), ((False, line),))


def _pair_lines(olds: list[str], news: list[str]) -> list[DiffRow]:
    rows = []
    for old, new in zip_longest(olds, news):
        if old is None or new is None:
            rows.append(
                DiffRow(
                    None if old is None else ((True, old),), None if new is None else ((True, new),)
                )
            )
        else:
            rows.append(DiffRow(*_compare_words(old, new)))
    return rows


def _compare_words(old: str, new: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    old_words, new_words = _WORD.findall(old), _WORD.findall(new)
    left: list[Part] = []
    right: list[Part] = []
    for is_equal, olds, news in _match(old_words, new_words):
        if olds:
            left.append((not is_equal, "".join(olds)))
        if news:
            right.append((not is_equal, "".join(news)))
    return tuple(left), tuple(right)


_component: Any = st.components.v2.component(
    "rlhf_diff",
    html='<div class="grid" role="table" aria-label="Completion beside its correction"></div>\n',
    css="""
.grid { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; font-size: 0.93rem;
  line-height: 1.5; color: var(--st-text-color); font-family: var(--st-font); }
.grid > [role="row"] { display: contents; }
[role="cell"], [role="columnheader"] { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 0;
  unicode-bidi: plaintext; padding: 0 0.25rem; }
[role="columnheader"] { font-size: 0.85rem; font-weight: 600; }
.hidden { grid-column: 1 / -1; font-size: 0.85rem; opacity: 0.75; padding: 0.25rem; }
del, ins { text-decoration-thickness: 1px; border-radius: 2px; color: var(--st-text-color); }
del { background: var(--st-red-background-color); text-decoration-line: line-through; }
ins { background: var(--st-green-background-color); text-decoration-line: none; font-weight: 600; }
@media (max-width: 640px) {
  .grid { grid-template-columns: 1fr; }
  .grid > [role="row"].same [role="cell"]:last-child { display: none; }
  .grid > [role="row"].head { display: none; }
}
""",
    js="""
function cell(parts, tag, role) {
  const box = document.createElement('div');
  box.setAttribute('role', role);
  box.dir = 'auto';
  for (const [differs, text] of parts ?? []) {
    const piece = differs ? document.createElement(tag) : document.createTextNode(text);
    if (differs) piece.textContent = text;
    box.append(piece);
  }
  return box;
}

function row(kind, ...cells) {
  const line = document.createElement('div');
  line.setAttribute('role', 'row');
  line.className = kind;
  line.append(...cells);
  return line;
}

export default function ({ data, parentElement }) {
  const lines = [row('head', cell([[false, 'Completion']], 'del', 'columnheader'),
    cell([[false, 'Correction']], 'ins', 'columnheader'))];
  for (const { old, new: fresh, hidden } of data.rows) {
    if (hidden) {
      const gap = cell([[false, `${hidden} lines that are the same`]], 'del', 'cell');
      gap.className = 'hidden';
      lines.push(row('gap', gap));
      continue;
    }
    const same = old && fresh && ![...old, ...fresh].some(([differs]) => differs);
    const sides = [cell(old, 'del', 'cell'), cell(fresh, 'ins', 'cell')];
    lines.push(row(same ? 'same' : 'changed', ...sides));
  }
  parentElement.querySelector('.grid').replaceChildren(...lines);
}
""",
)
