"""Which parser reads which format. A `Recipe` says all that a process needs to make one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from rlhf_core.errors import InvalidInput
from rlhf_core.interchange.bundle import Bundle, ParseRow, RawRow
from rlhf_core.interchange.chats import OpenAiChatParser
from rlhf_core.interchange.decode import decode_object
from rlhf_core.interchange.joins import JoinedRows
from rlhf_core.interchange.mapping import check_mapping
from rlhf_core.interchange.native import NativeParser
from rlhf_core.interchange.prepare import Preparer
from rlhf_core.interchange.solutions import Prm800kParser
from rlhf_core.interchange.tables import TableParser
from rlhf_core.interchange.transcripts import HhRlhfParser
from rlhf_core.vocabulary import ImportFormat


@dataclass(frozen=True)
class Recipe:
    """How to read one file. Plain values only: it is handed to other processes."""

    format: str
    source: str
    is_source_forced: bool
    mapping: dict[str, Any] | None
    folder: str
    key: str
    now: str


@contextmanager
def open_preparer(recipe: Recipe) -> Iterator[Preparer]:
    """The preparer of a recipe, its joined files open."""
    kind = ImportFormat(recipe.format)
    joined: JoinedRows | None = None
    parse: ParseRow
    match kind:
        case ImportFormat.NATIVE:
            parse = NativeParser(source=recipe.source, forced=recipe.is_source_forced)
        case ImportFormat.TABLE:
            if recipe.mapping is None:
                raise InvalidInput(
                    "A table needs a mapping: --map prompt=COLUMN, or --mapping FILE."
                )
            mapping = check_mapping(recipe.mapping)
            parse = TableParser(mapping, source=recipe.source)
            if mapping.joins:
                parse = joined = JoinedRows(mapping.joins, Path(recipe.folder), parse)
        case ImportFormat.OPENAI_CHAT:
            parse = OpenAiChatParser(source=recipe.source, forced=recipe.is_source_forced)
        case ImportFormat.HH_RLHF:
            parse = HhRlhfParser(source=recipe.source)
        case ImportFormat.PRM800K:
            parse = Prm800kParser(source=recipe.source)
        case _:
            assert_never(kind)
    if kind is not ImportFormat.NATIVE:  # it reads the line's bytes itself
        parse = _decoding(parse)
    try:
        yield Preparer(
            parse,
            key=recipe.key.encode(),
            now=recipe.now,
            keeps_pseudonyms=kind is ImportFormat.NATIVE,
        )
    finally:
        if joined is not None:
            joined.close()


def _decoding(parse: ParseRow) -> ParseRow:
    def read(raw: RawRow) -> Bundle:
        return parse(decode_object(raw) if isinstance(raw, bytes) else raw)

    return read
