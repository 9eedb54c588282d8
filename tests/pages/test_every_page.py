"""Each page opens on PostgreSQL too; what pages do is tested on SQLite, the core on both."""

from collections.abc import Callable, Iterator

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.builders import make_feedback, make_interaction
from tests.postgres_databases import PostgresDatabases, postgres_url

pytestmark = pytest.mark.postgres


@pytest.fixture
def database_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    name = postgres_databases.take()
    yield postgres_url(postgres_databases.socket, name)
    postgres_databases.give_back(name)


def test_every_page_opens_on_postgresql(store: Store, sign_in_as: Callable[[Role], Actor]) -> None:
    actor = sign_in_as(Role.ADMIN)
    with store.writing() as db:
        for number, completion in enumerate(("good", "bad", "bad")):
            item = make_interaction(
                db, prompt="Which?", completion=f"{completion} {number}", steps=2,
                action_type="search", model_name="v1",
            )  # fmt: skip
            make_feedback(db, item.id, actor=actor, rating=5 if completion == "good" else 1)
    app = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    pages = sorted((SOURCE_ROOT / "pages").glob("[a-z]*/[a-z]*.py"))
    assert len(pages) > 12
    for page in pages:
        app.switch_page(str(page.relative_to(SOURCE_ROOT))).run()
        assert not app.exception, page
        assert not app.error, page
