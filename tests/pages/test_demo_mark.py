"""The mark of the demo world on the pages of datasets, runs and models."""

import html
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.jobs.service import enqueue_job
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind, Role
from tests.core.demo.test_marks import add_demo, freeze
from tests.core.registry.world import make_version
from tests.learning.rated import add_interaction


def open_page(name: str, **query: str) -> AppTest:
    test = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    for key, value in query.items():
        test.query_params[key] = value
    test.switch_page(f"pages/{name}.py").run()
    assert not test.exception
    return test


def is_marked(test: AppTest) -> bool:
    """Whether the heading has the badge; the table then has its column too."""
    shown: list[Any] = [*test.markdown]
    has_badge = any("violet-badge[:material/science: demo]" in html.unescape(one.value)
                    for one in shown)  # fmt: skip
    has_column = any("Data" in one.value.columns for one in test.dataframe)
    assert has_badge == has_column
    return has_badge


@pytest.mark.parametrize("is_demo", [True, False])
def test_what_was_made_of_demo_rows_wears_the_mark(
    store: Store, sign_in_as: Callable[[Role], Actor], is_demo: bool
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        if is_demo:
            add_demo(db)
        else:
            add_interaction(db, "Real?")
        version = freeze(db, "prompts")
        make_version(db, details={"is_demo": is_demo})
        enqueue_job(db, actor=SYSTEM, kind=JobKind.TRAIN_SBERT, params={})
    assert is_marked(open_page("train/datasets", version=str(version.id))) is is_demo
    assert is_marked(open_page("train/runs")) is is_demo
    assert is_marked(open_page("models/registry")) is is_demo
