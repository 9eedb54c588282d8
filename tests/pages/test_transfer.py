import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.interchange.importers import import_file
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Feedback, Interaction
from rlhf_core.vocabulary import ImportFormat, Role

SignIn = Callable[[Role], Actor]
EXAMPLE = Path(__file__).resolve().parents[1] / "data" / "native_example.jsonl"


def open_page() -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=60).run()
    page.switch_page("pages/admin/transfer.py").run()
    assert not page.exception
    return page


def upload(page: AppTest, key: str, name: str, content: bytes) -> None:
    page.file_uploader(key=key).set_value((name, content, "application/octet-stream")).run()
    assert not page.exception


def press(page: AppTest, key: str) -> None:
    page.button(key=key).click().run()
    assert not page.exception


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def count(store: Store, table: Any) -> int:
    with store.reading() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_a_native_file_is_checked_then_imported(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.TRAINER)
    page = open_page()
    upload(page, "import_file", "chats.jsonl", EXAMPLE.read_bytes() + b'{"prompt": ""}\n')
    assert page.get("segmented_control")
    press(page, "import_check")
    assert metrics(page) == {
        "Lines read": "5", "To be stored": "4", "Duplicate": "0", "Rejected": "1",
    }  # fmt: skip
    assert count(store, Interaction) == 0
    assert "prompt: is empty" in page.dataframe[-1].value["Reason"][0]
    press(page, "import_start")
    assert metrics(page)["Stored"] == "4"
    assert count(store, Interaction) == 2
    with store.reading() as db:
        accounts = set(
            db.scalars(sa.select(AuditEvent.account_id).where(AuditEvent.action.like("import.%")))
        )
    assert accounts == {actor.account_id}


def test_a_table_gets_its_columns_suggested(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    page = open_page()
    upload(
        page, "import_file", "shop.csv", b"Question,Answer,Stars,Annotator,shop\nWhy?,So.,5,ann,x\n"
    )
    chosen = {box.label: box.value for box in page.selectbox if box.value is not None}
    assert chosen == {
        "Prompt": "Question",
        "Completion": "Answer",
        "Rating, 1 to 5": "Stars",
        "Rater": "Annotator",
    }
    assert page.multiselect[0].options == ["shop"]
    page.multiselect[0].select("shop").run()
    press(page, "import_check")
    press(page, "import_start")
    with store.reading() as db:
        row = db.execute(sa.select(Feedback.rating, Feedback.extra, Feedback.source)).one()
    assert row == (5, {"shop": "x"}, "shop")


def test_another_choice_asks_for_another_check(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    page = open_page()
    upload(page, "import_file", "t.csv", b"prompt,completion,a\nWhy?,So.,1\n")
    press(page, "import_check")
    assert "Rejected" in metrics(page)
    page.text_input(key="import_source").set_value("elsewhere").run()
    assert not metrics(page)
    assert page.button(key="import_check")


def test_cohere_hf_is_imported_by_a_new_user_from_two_files(
    store: Store, sign_in_as: SignIn, shared_data: Path
) -> None:
    folder = shared_data / "cohere_hf"
    with (folder / "ratings.jsonl").open("rb") as file:
        ratings = b"".join(next(file) for _ in range(500))
    sign_in_as(Role.TRAINER)
    page = open_page()
    upload(page, "import_file", "ratings.jsonl", ratings)
    upload(page, "import_second", "responses.jsonl", (folder / "responses.jsonl").read_bytes())
    chosen = {box.label: box.value for box in page.selectbox if box.value is not None}
    assert chosen["Column of the first file"] == "response_id"
    assert chosen["equals column of the second"] == "response_id"
    assert chosen["Prompt"] == "responses.prompt"
    assert chosen["Completion"] == "responses.response"
    assert chosen["Rating, 1 to 5"] == "rating"
    press(page, "import_check")
    assert metrics(page)["To be stored"] == "500", page.dataframe[-1].value
    press(page, "import_start")
    assert count(store, Feedback) == 500
    given = [json.loads(line) for line in ratings.splitlines()]
    assert count(store, Interaction) == len({row["response_id"] for row in given})


def test_a_mapping_file_imports_what_columns_cannot_say(
    store: Store, sign_in_as: SignIn, shared_data: Path
) -> None:
    sign_in_as(Role.TRAINER)
    page = open_page()
    content = (shared_data / "tulu1" / "feedback.jsonl").read_bytes()
    upload(page, "import_file", "feedback.jsonl", content)
    page.segmented_control(key="import_mapping").set_value("Mapping file").run()
    upload(page, "import_mapping_file", "m.json", b'{"interactions": [{"promt": 1}]}')
    assert "'promt' is no field".replace("'", "&#39;") in page.error[0].value
    mapping = Path(__file__).resolve().parents[1] / "mappings" / "tulu1.json"
    upload(page, "import_mapping_file", "m.json", mapping.read_bytes())
    press(page, "import_check")
    assert metrics(page)["To be stored"] == "802"


def test_only_admins_read_the_servers_import_folder(
    store: Store, sign_in_as: SignIn, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "import"
    folder.mkdir(parents=True)
    (folder / "chats.jsonl").write_bytes(EXAMPLE.read_bytes())
    (folder / "outside.jsonl").symlink_to(EXAMPLE)
    sign_in_as(Role.TRAINER)
    assert "import_place" not in {control.key for control in open_page().get("segmented_control")}
    sign_in_as(Role.ADMIN)
    page = open_page()
    page.segmented_control(key="import_place").set_value("On the server").run()
    assert page.selectbox(key="import_server_file").options == ["chats.jsonl"]
    page.selectbox(key="import_server_file").set_value("chats.jsonl").run()
    press(page, "import_check")
    assert metrics(page)["To be stored"] == "4"


def test_an_analyst_exports_and_does_not_import(store: Store, sign_in_as: SignIn) -> None:
    import_file(store, EXAMPLE, format=ImportFormat.NATIVE, actor=SYSTEM)
    sign_in_as(Role.ANALYST)
    page = open_page()
    assert not page.file_uploader
    press(page, "export_start")
    assert [b.label for b in page.get("download_button")] == ["Download 4 lines (0.0 MB)"]


def test_an_empty_store_says_what_to_do_before_an_export(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    assert any("Nothing to export yet" in text.value for text in open_page().markdown)


def test_a_rater_does_not_see_the_page(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=60).run()
    with pytest.raises(ValueError, match="transfer"):
        page.switch_page("pages/admin/transfer.py").run()
