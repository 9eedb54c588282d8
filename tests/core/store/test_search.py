import pytest
import sqlalchemy as sa

from rlhf_core.store.engine import Store
from rlhf_core.store.queries.search import contains_text
from rlhf_core.store.tables import Interaction
from tests.builders import make_interaction
from tests.databases import only_sqlite

TEXTS = (
    "Die Ärzte fahren größtenteils über Köln",
    "ЖИЗНЬ и судьба",
    "ΑΘΗΝΑ, İzmir, Ǆungla",
    "50 % of [all] snake_case * or ? are \\ fine / ^ so",
    "",
)


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("ÄRZTE", 0), ("ärzte", 0), ("ÜBER k", 0), ("Größten", 0), ("KÖLN", 0), ("köln", 0),
        ("жизнь И", 1), ("Судьба", 1), ("αθηνα", 2), ("ǆUNGLA", 2), ("ǅungla", 2),
        ("50 % OF", 3), ("[ALL]", 3), ("SNAKE_case", 3), ("* or ?", 3), ("\\ F", 3), ("/ ^", 3),
        ("köln*", None), ("öl[n]", None), ("k?ln ü", None), ("жизнь_", None), ("50 %%", None),
    ],
)  # fmt: skip
def test_text_is_found_whatever_its_case_or_alphabet(
    store: Store, wanted: str, place: int | None
) -> None:
    with store.writing() as db:
        for number, text in enumerate(TEXTS):
            make_interaction(db, prompt="p", completion=text, external_id=str(number))
        rows = db.scalars(
            sa.select(Interaction.external_id).where(contains_text(Interaction.completion, wanted))
        ).all()
        others = db.scalars(
            sa.select(Interaction.external_id).where(~contains_text(Interaction.completion, wanted))
        ).all()
    assert rows == ([] if place is None else [str(place)])
    assert len(others) == len(TEXTS) - len(rows)


@only_sqlite
def test_sqlite_calls_no_function_of_ours_for_each_row(store: Store) -> None:
    query = sa.select(Interaction.id).where(contains_text(Interaction.prompt, "Über"))
    text = str(query.compile(store.engine))
    assert "GLOB" in text
    assert "lower(" not in text
