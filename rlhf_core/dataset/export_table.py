"""The rows of a version as a table: one row each, a column a field, aspect and segment."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from typing import IO, Any, Literal, get_type_hints

from rlhf_core.examples import Example
from rlhf_core.vocabulary import Split

Kind = Literal["text", "number", "count", "truth", "texts", "truths"]
ROWS_A_GROUP = 10_000
SEGMENTS = ("action_type", "language", "model_name", "source")
_KINDS: dict[Any, Kind] = {
    str: "text",
    float: "number",
    int: "count",
    bool: "truth",
    tuple[str, ...]: "texts",
    tuple[bool | None, ...]: "truths",
}


@dataclass(frozen=True)
class Column:
    """A column. `key` names an entry of the mapping `field`; None: the field itself."""

    name: str
    kind: Kind
    field: str
    key: str | None = None


def build_columns(rows: Iterable[Example]) -> list[Column]:
    """The columns of all rows together: those of a part are the same."""
    kind: type[Example] | None = None
    aspects: set[str] = set()
    segments = set(SEGMENTS)
    for row in rows:
        kind = type(row)
        aspects.update(getattr(row, "aspects", ()))
        segments.update(row.segments)
    columns = [Column("split", "text", "split")]
    if kind is None:
        return columns
    types = get_type_hints(kind)
    columns += [
        Column(field.name, _KINDS[types[field.name]], field.name)
        for field in fields(kind)
        if types[field.name] in _KINDS
    ]
    columns += [Column(f"aspect_{key}", "number", "aspects", key) for key in sorted(aspects)]
    return columns + [Column(key, "text", "segments", key) for key in sorted(segments)]


def to_cells(row: Example, split: Split, columns: list[Column]) -> list[Any]:
    """The row's values in the order of the columns; None where it has none."""
    return [_cell(row, split, column) for column in columns]


def write_parquet(
    out: IO[bytes], columns: list[Column], rows: Iterator[tuple[Example, Split]]
) -> int:
    """Write a Parquet file, `ROWS_A_GROUP` rows in memory at a time; returns how many rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "text": pa.string(), "number": pa.float64(), "count": pa.int64(), "truth": pa.bool_(),
        "texts": pa.list_(pa.string()), "truths": pa.list_(pa.bool_()),
    }  # fmt: skip
    schema = pa.schema([(column.name, types[column.kind]) for column in columns])
    num_rows = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        while group := list(islice(rows, ROWS_A_GROUP)):
            cells = [to_cells(row, split, columns) for row, split in group]
            by_column = [list(values) for values in zip(*cells, strict=True)]
            arrays = [
                pa.array(values, type=types[column.kind])
                for values, column in zip(by_column, columns, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            num_rows += len(group)
    return num_rows


def _cell(row: Example, split: Split, column: Column) -> Any:
    if column.field == "split":
        return split.value
    value = getattr(row, column.field)
    if column.key is not None:
        return value.get(column.key)
    return list(value) if isinstance(value, tuple) else value
