"""A rater at the rate page under AppTest: helpers of its tests."""

import json
import re
import uuid
from typing import Any

import sqlalchemy as sa
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import Store, get_store
from rlhf_core.store.tables import Feedback, Interaction
from tests.builders import make_interaction


def make_items(num: int, **fields: object) -> list[uuid.UUID]:
    with get_store().writing() as db:
        for _ in range(num):
            make_interaction(db, **fields)
        return list(db.scalars(sa.select(Interaction.id).order_by(Interaction.id)))


def open_page(item: uuid.UUID | str | None = None) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30)
    page.switch_page("pages/collect/rate.py")  # the home of managers is another one
    if item is not None:
        page.query_params["item"] = str(item)
    page.run()
    assert not page.exception
    return page


def open_queue(queue_id: uuid.UUID) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30)
    page.switch_page("pages/collect/rate.py")
    page.query_params["queue"] = str(queue_id)
    page.run()
    assert not page.exception
    return page


def make_queue(store: Store, items: list[uuid.UUID], **fields: object) -> uuid.UUID:
    with store.writing() as db:
        return create_queue(db, actor=SYSTEM, name="work", interaction_ids=items, **fields).id


def press(page: AppTest, name: str) -> None:
    """Press the button of this name, whose key ends in the item that it is about."""
    find(page, name).click().run()
    assert not page.exception


def find(page: AppTest, name: str) -> Button:
    """The only button whose key begins so."""
    (found,) = [
        button
        for button in page.button
        if button.key == name or f"{button.key}".startswith(name + "_")
    ]
    return found


def name_of(button: Button) -> str:
    """The button's key without the item that it is about."""
    return re.sub(r"_[0-9a-f]{32}_.*", "", button.key or "")


def completion_of(page: AppTest) -> dict[str, Any]:
    """What the component that draws the completion was given."""
    (shown,) = [
        json.loads(element.proto.json)
        for element in page.get("bidi_component")
        if element.proto.component_name == "rlhf_spans"
    ]
    return shown


def shown_item(page: AppTest) -> str:
    value = page.query_params["item"]
    return value if isinstance(value, str) else value[-1]


def stored() -> dict[uuid.UUID, Feedback]:
    """Current feedback by target: the step's id, or the interaction's."""
    with get_store().reading() as db:
        rows = db.scalars(sa.select(Feedback).where(Feedback.withdrawn_at.is_(None)))
        return {row.step_id or row.interaction_id: row for row in rows}
