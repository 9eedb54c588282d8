import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import InvalidInput
from rlhf_core.interchange.columns import preview_table, suggest_pairs
from rlhf_core.interchange.importers import ImportReport, import_file
from rlhf_core.interchange.mapping import check_mapping, load_mapping, mapping_of_pairs
from rlhf_core.interchange.tables import TableParser
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Feedback, Interaction, ReasoningStep
from rlhf_core.vocabulary import ImportFormat
from tests.databases import postgres_is_slow

PAIRS = ["prompt=question", "completion=answer", "rating=stars", "comment=note", "rater=who"]


def import_table(store: Store, path: Path, mapping: Any, **options: Any) -> ImportReport:
    return import_file(
        store, path, format=ImportFormat.TABLE, actor=SYSTEM, mapping=mapping, **options
    )


def parse(mapping: dict[str, Any], row: dict[str, Any]) -> Any:
    return TableParser(check_mapping(mapping), source="s")(row)


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.csv"
    path.write_bytes(
        "\ufeffquestion,answer,stars,note,who\n"
        'Why?,"Because\nof ""that"".",4,,ann\n'
        "Why?,No idea,2.0,short,ann\n"
        "ragged,row\n"
        "Why not?,,five,,bob\n"
        "Why not?,,NaN,,bob\n"
        "Why not?,,0,,bob\n"
        ",no question,3,,bob\n"
        "Grüße?,Hallo,5,,bob\n".encode()
        + b"broken,\xff\xfe,1,,bob\n"
        + b"nul,a\x00b,1,,bob\n\n"
    )
    return path


@postgres_is_slow
def test_csv_with_pairs_stores_the_good_rows(store: Store, csv_file: Path) -> None:
    report = import_table(store, csv_file, mapping_of_pairs(PAIRS))
    assert (report.lines, report.stored, report.rejected) == (10, 3, 7)
    with store.reading() as db:
        rows = db.execute(
            sa.select(Interaction.completion, Feedback.rating, Feedback.comment, Interaction.source)
            .join(Feedback, Feedback.interaction_id == Interaction.id)
            .order_by(Feedback.rating)
        ).all()
    assert rows == [
        ("No idea", 2, "short", "ratings"),
        ('Because\nof "that".', 4, None, "ratings"),
        ("Hallo", 5, None, "ratings"),
    ]


@postgres_is_slow
def test_csv_rows_are_refused_with_their_line_and_reason(store: Store, csv_file: Path) -> None:
    report = import_table(store, csv_file, mapping_of_pairs(PAIRS), dry_run=True)
    reasons = dict(report.reasons)
    expected = {
        5: "is ragged: 2 cells, the header has 5",
        6: "got 'five'",
        7: "got 'NaN'",
        8: "greater than or equal to 1",
        9: "prompt: is empty",
        11: "is not UTF-8",
        12: "contains a NUL character",
    }
    assert reasons.keys() == expected.keys()
    for line, part in expected.items():
        assert part in reasons[line]


@postgres_is_slow
def test_jsonl_and_parquet_give_what_csv_gives(store: Store, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": n, "question": f"q{n}", "answer": f"a{n}", "stars": 1 + n % 5} for n in range(7)]
    header = "id,question,answer,stars\n"
    (tmp_path / "t.csv").write_text(
        header + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    )
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    mapping = mapping_of_pairs(
        ["external_id=id", "prompt=question", "completion=answer", "rating=stars", "rater:=all"]
    )
    reports = [
        import_table(store, tmp_path / f"t.{kind}", mapping) for kind in ("csv", "jsonl", "parquet")
    ]
    assert [report.stored for report in reports] == [7, 0, 0]
    assert [report.duplicate for report in reports] == [0, 7, 7]


@postgres_is_slow
def test_a_parquet_nan_is_refused_and_a_null_is_not_given(store: Store, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"q": ["a", "b", "c"], "a": ["x"] * 3, "stars": [4.0, float("nan"), None]})
    pq.write_table(table, tmp_path / "t.parquet")
    mapping = mapping_of_pairs(["prompt=q", "completion=a", "rating=stars"])
    report = import_table(store, tmp_path / "t.parquet", mapping)
    assert (report.stored, report.rejected, report.num_feedback) == (2, 1, 1)
    assert report.reasons[0].line == 2


@postgres_is_slow
def test_what_is_no_parquet_is_said_in_one_sentence(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR?")
    with pytest.raises(InvalidInput, match=r"t\.parquet is no Parquet file"):
        import_table(store, path, mapping_of_pairs(["prompt=q", "completion=a"]))


def test_thumbs_are_read_in_the_words_people_use() -> None:
    mapping = {
        "interactions": [{"prompt": "q", "completion": "a", "feedback": [{"thumb": "vote"}]}]
    }
    for word, sign in {
        "positive": 1, "down": -1, "neutral": 0, True: 1, False: -1, "1": 1, "-1": -1,
    }.items():  # fmt: skip
        bundle = parse(mapping, {"q": "?", "a": "!", "vote": word})
        assert bundle.feedback[0].draft.thumb == sign
    assert not parse(mapping, {"q": "?", "a": "!", "vote": None}).feedback


def test_expressions() -> None:
    mapping = {
        "interactions": [
            {
                "external_id": {"text": "{id}/{@index}-{@item.x}"},
                "each": "parts",
                "prompt": {"join": ["head", "empty", "user.name"], "with": " - "},
                "completion": {"path": "@item.x", "values": {"1": "one", "2": "two"}},
                "model_name": {"path": "missing", "default": "unknown"},
                "language": {"value": "en"},
                "extra": {"n": "id", "flag": "flag", "none": "missing"},
                "steps": "steps",
            }
        ]
    }
    row = {
        "id": 7, "head": "H", "empty": "", "user": {"name": "N"}, "flag": False,
        "parts": [{"x": 1}, {"x": 2}], "steps": ["first", {"content": "second", "kind": "k"}],
    }  # fmt: skip
    drafts = [draft for _, draft in parse(mapping, row).interactions]
    assert [d.external_id for d in drafts] == ["7/0-1", "7/1-2"]
    assert [d.completion for d in drafts] == ["one", "two"]
    assert drafts[0].prompt == "H - N"
    assert (drafts[0].model_name, drafts[0].language) == ("unknown", "en")
    assert drafts[0].extra == {"n": 7, "flag": False}
    assert [(s.content, s.kind) for s in drafts[0].steps] == [("first", None), ("second", "k")]
    with pytest.raises(InvalidInput, match=r"@item\.x: '3' is none of 1, 2"):
        parse(mapping, {**row, "parts": [{"x": 3}]})


@postgres_is_slow
def test_a_join_takes_columns_of_a_second_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("key,question,answer\nk1,Why?,So.\nk2,When?,Now.\n")
    (tmp_path / "marks.csv").write_text("key,stars,who\nk1,5,a\nk2,1,a\nk1,4,b\nk9,3,b\n")
    mapping = {
        "join": [{"file": "texts.csv", "on": "key", "as": "text"}],
        "interactions": [
            {
                "external_id": "key",
                "prompt": "text.question",
                "completion": "text.answer",
                "feedback": [{"rating": "stars", "rater": "who"}],
            }
        ],
    }
    report = import_table(store, tmp_path / "marks.csv", check_mapping(mapping))
    assert (report.num_interactions, report.num_feedback, report.rejected) == (2, 3, 1)
    assert report.reasons[0].reason == "key: 'k9' is not in texts.csv"
    mapping["interactions"][0]["prompt"] = "text.questoin"  # type: ignore[index]
    with pytest.raises(InvalidInput, match=r"texts\.csv has no column 'questoin'"):
        import_table(store, tmp_path / "marks.csv", check_mapping(mapping))


@postgres_is_slow
def test_a_join_on_a_column_that_is_not_unique_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("key,q\nk1,Why?\nk1,When?\n")
    (tmp_path / "marks.csv").write_text("key,a\nk1,b\n")
    mapping = {
        "join": [{"file": "texts.csv", "on": "key"}],
        "interactions": [{"prompt": "texts.q", "completion": "a"}],
    }
    for workers in (0, 1):
        with pytest.raises(InvalidInput, match="line 3: key 'k1' stands there twice"):
            import_table(store, tmp_path / "marks.csv", check_mapping(mapping), num_workers=workers)


@postgres_is_slow
def test_steps_and_choices_of_a_csv_come_as_json_cells(store: Store, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        'id,q,a,b,better,steps\n1,Why?,x,y,b,"[""one"", ""two""]"\n2,Why?,x,y,,not json\n'
    )
    side = {"prompt": "q", "steps": "steps"}
    mapping = {
        "interactions": [
            {**side, "external_id": {"text": "{id}/a"}, "completion": "a"},
            {**side, "external_id": {"text": "{id}/b"}, "completion": "b"},
        ],
        "comparisons": [
            {
                "left": {"text": "{id}/a"},
                "right": {"text": "{id}/b"},
                "choice": {"path": "better", "values": {"a": "left", "b": "right"}},
            }
        ],
    }
    report = import_table(store, tmp_path / "t.csv", check_mapping(mapping))
    assert (report.num_interactions, report.num_steps, report.num_comparisons) == (2, 4, 1)
    assert "is no JSON" in report.reasons[0].reason
    with store.reading() as db:
        assert db.scalars(sa.select(Comparison.choice)).one() == "right"
        assert set(db.scalars(sa.select(ReasoningStep.content))) == {"one", "two"}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ([], "no JSON object"),
        ({}, "makes nothing"),
        ({"interactions": [{"prompt": "q"}]}, "completion has no column"),
        ({"interactions": [{"prompt": "q", "completion": "a", "promt": "x"}]}, "'promt' is no"),
        ({"interactions": [{"prompt": {"paht": "q"}, "completion": "a"}]}, "'paht' is no part"),
        ({"interactions": [{"prompt": {}, "completion": "a"}]}, "give one of path, value"),
        ({"interactions": [{"prompt": 3, "completion": "a"}]}, "a field is a column's name"),
        ({"comparisons": [{"left": "a", "right": "b"}]}, "choice has no column"),
        (
            {"interactions": [{"prompt": "q", "completion": "a"}],
             "join": [{"file": "../../etc/passwd", "on": "id"}]},
            "no bare file name",
        ),
        ({"interactions": "x"}, "no list of objects"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_before_the_first_row(mapping: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_mapping(mapping)


def test_pairs_lie_over_a_mapping_file(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"interactions": [{"prompt": "q", "completion": "a"}]}')
    mapping = mapping_of_pairs(["prompt=question", "feedback.occurred_at=at"], load_mapping(path))
    assert mapping.interactions[0] == {
        "prompt": "question", "completion": "a", "feedback": [{"occurred_at": "at"}],
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="is no pair"):
        mapping_of_pairs(["prompt"])


def test_columns_are_suggested_by_name(csv_file: Path) -> None:
    rows = preview_table(csv_file)
    assert suggest_pairs(list(rows[0])) == {
        "prompt": "question", "completion": "answer", "rating": "stars", "comment": "note",
    }  # fmt: skip


@postgres_is_slow
def test_delimiters_are_told_by_the_header(store: Store, tmp_path: Path) -> None:
    for name, mark in (("a.csv", ";"), ("b.tsv", "\t")):
        (tmp_path / name).write_text(f"q{mark}a\nWhy, tell me?{mark}So.\n")
        report = import_table(
            store, tmp_path / name, mapping_of_pairs(["prompt=q", "completion=a"]), source=name
        )
        assert report.stored == 1, report.reasons


@postgres_is_slow
def test_a_csv_without_header_or_with_a_doubled_column_is_refused(
    store: Store, tmp_path: Path
) -> None:
    mapping = mapping_of_pairs(["prompt=q", "completion=a"])
    (tmp_path / "none.csv").write_text("")
    with pytest.raises(InvalidInput, match="has no header"):
        import_table(store, tmp_path / "none.csv", mapping)
    (tmp_path / "twice.csv").write_text("q,a,q\n1,2,3\n")
    with pytest.raises(InvalidInput, match="column 'q' twice"):
        import_table(store, tmp_path / "twice.csv", mapping)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": {"path": 5}},
        {"prompt": {"text": 5}},
        {"prompt": {"join": 5}},
        {"prompt": {"join": [5]}},
        {"prompt": {"join": "c", "from": "x"}},
        {"steps": 5},
        {"context": [1]},
        {"steps": {"each": 5, "content": "a"}},
    ],
    ids=str,
)
def test_a_mapping_of_wrong_types_is_refused_where_it_is_read(wrong: dict[str, Any]) -> None:
    spec = {"prompt": "a", "completion": "b", **wrong}
    with pytest.raises(InvalidInput, match="interactions"):
        check_mapping({"interactions": [spec]})
