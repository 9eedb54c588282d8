"""What pages show of an empty database: what is missing, and a way to it that looks like one."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.vocabulary import Role
from tests.databases import only_sqlite

SignIn = Callable[[Role], Actor]
pytestmark = only_sqlite


def open_page(file: str) -> AppTest:
    page = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    page.switch_page(f"pages/{file}.py").run()
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    return "\n".join(element.value for element in [*page.markdown, *page.caption])


@pytest.mark.parametrize(
    "file",
    ["collect/rate", "collect/compare", "analyse/overview", "analyse/trends", "analyse/failures",
     "analyse/steps", "analyse/engagement", "analyse/model_trends", "analyse/rows"],
)  # fmt: skip
def test_where_nothing_is_stored_the_demo_world_is_offered(file: str, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ADMIN)
    page = open_page(file)
    assert "demo_load" in {button.key for button in page.button}
    assert {"Import a file", "Import interactions"} & {
        link.proto.label for link in page.get("page_link")
    }


@pytest.mark.parametrize(
    ("file", "word"),
    [("models/registry", "Launch training"), ("models/rollout", "Launch training"),
     ("models/compare_versions", "Launch training"), ("train/runs", "Launch training"),
     ("collect/my_ratings", "Rate"), ("analyse/raters", "Make a queue")],
)  # fmt: skip
def test_the_way_out_of_an_empty_page_has_an_arrow(
    file: str, word: str, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ADMIN)
    ways = {link.proto.label: link.proto.icon for link in open_page(file).get("page_link")}
    assert ways[word] == ":material/arrow_forward:"


def test_an_empty_list_of_queues_names_the_part_that_makes_one(sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    assert "*New queue* above makes one" in texts(open_page("collect/queues"))
