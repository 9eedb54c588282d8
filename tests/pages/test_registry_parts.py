"""Lineage, card, files, labels, import, and the two questions of the page of models."""

import re
from datetime import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.registry import labels, service
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import Role
from tests.core.registry.test_imports import make_weights
from tests.core.registry.world import make_frozen, make_version
from tests.pages.test_registry import SignIn, _no_process, column, open_page, texts

__all__ = ["_no_process"]


def add_version(store: Store) -> ModelVersionView:
    with store.writing() as db:
        return make_version(db, dataset_version_id=make_frozen(db).id)


def links(app: AppTest) -> list[str]:
    """Where the page's links lead, with what they say."""
    found = [each.proto for each in app.get("page_link")]
    return [f"{each.page}?{each.query_string}: {each.label}" for each in found]


def leads(app: AppTest, page: str, query: str) -> bool:
    return any(each.startswith(page) and query in each for each in links(app))


def open_tab(app: AppTest, name: str) -> AppTest:
    app.session_state["version_tabs_reward"] = name
    return app.run(timeout=30)


def test_lineage_leads_to_dataset_raters_and_rows(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    version = add_version(store)
    with store.writing() as db:
        details = {"base": {"name": version.name, "version_id": str(version.id)}}
        make_version(db, details=details)
    app = open_page()
    app.query_params["version"] = str(version.id)
    app.run(timeout=30)
    assert not leads(app, "datasets", "version="), "only the open tab is asked for"
    open_tab(app, "Lineage")
    assert leads(app, "datasets", f"version={version.dataset_version_id}")
    assert leads(app, "registry", "version="), "the version that began from it"
    assert leads(app, "rows", "row_rater_id=")
    assert any("Kim · 3" in re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), each)
               for each in links(app))  # fmt: skip
    assert column(app, "Row") == [0, 1, 2]


def test_a_row_leads_back_to_its_models(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    add_version(store)
    with store.reading() as db:
        item = db.scalars(sa.select(Interaction.id)).first()
    app = open_page()
    app.query_params["row"] = str(item)
    app.run(timeout=30)
    assert "ratings v1, row" in texts(app)
    for asked, said in (("no id", "is no id of an interaction"), (str(new_id()), "may have been")):
        app.text_input(key=f"trained_on_{item}").set_value(asked).run(timeout=30)
        assert said in texts(app)


def test_card_is_shown_and_nothing_in_it_is_a_link(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    version = add_version(store)
    with store.writing() as db:
        labels.set_notes(
            db, version.id, actor=SYSTEM,
            notes="www.evil.example http://evil.example/x :smile: ![x](http://evil.example/y.png)",
        )  # fmt: skip
    app = open_tab(open_page(), "Card")
    (card,) = [each.value for each in app.markdown if each.value.startswith("# reward v1")]
    assert "## Training data" in card
    assert not re.search(r"www\.|https?://|:smile:|(?<!\\)!\[", card)


def test_files_are_offered_as_a_zip_and_room_is_told(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    add_version(store)
    app = open_page()
    urls = [each.proto.url for each in app.get("link_button")]
    assert "/api/v1/models/reward/1/files" in urls
    assert "1 version, " in texts(app)
    assert not {"delete_confirm", "push_hub", "import_go"} & {each.key for each in app.button}


def test_deleting_asks_for_name_and_reason_and_says_what_holds_it(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    first = add_version(store)
    with store.writing() as db:
        second = make_version(db)
        service.promote_version(db, first.id, actor=SYSTEM, reason="first")
    app = open_page()
    assert "it is the production version" in texts(app)
    app.query_params["version"] = str(second.id)
    app.run(timeout=30)
    assert app.button(key="delete_confirm").disabled
    app.text_input(key="delete_typed").set_value("reward v2").run(timeout=30)
    app.button(key="delete_confirm").click().run(timeout=30)
    assert "Say why" in texts(app)
    app.text_input(key="delete_reason").set_value("worse").run(timeout=30)
    app.button(key="delete_confirm").click().run(timeout=30)
    assert not app.exception
    assert column(app, "Version") == ["reward v1"]
    assert not second.folder.exists()


def test_tags_are_saved_and_filtered_by(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    version = add_version(store)
    with store.writing() as db:
        other = make_version(db)
        labels.set_tags(db, other.id, actor=SYSTEM, tags=["nightly"])
    app = open_page()
    app.query_params["version"] = str(version.id)
    app.run(timeout=30)
    app.multiselect(key=f"tags_{version.id}").set_value(["Stable"])
    app.button(key="save_notes").click().run(timeout=30)
    with store.reading() as db:
        assert service.get_version(db, version.id, actor=SYSTEM).tags == ("stable",)
    assert column(app, "Tags") == ["nightly", "stable"]
    del app.query_params["version"]
    app.get("button_group")[0].set_value("nightly").run(timeout=30)
    assert column(app, "Version") == ["reward v2"]


def test_what_was_live_is_told(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    version = add_version(store)
    app = open_page()
    assert "Nothing was promoted yet." in texts(app)
    with store.writing() as db:
        service.promote_version(db, version.id, actor=SYSTEM, reason="first")
    app.time_input(key="live_time").set_value(time(23, 59)).run(timeout=30)
    assert "UTC: **reward v1** served." in texts(app)


def test_a_folder_is_imported_only_from_the_configured_place(
    store: Store, sign_in_as: SignIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_as(Role.TRAINER)
    app = open_page()
    assert "Set RLHF_MODEL_IMPORT_DIR" in texts(app)
    make_weights(tmp_path / "in" / "mine")
    monkeypatch.setenv("RLHF_MODEL_IMPORT_DIR", str(tmp_path / "in"))
    get_settings.cache_clear()
    app.run(timeout=30)
    app.button(key="import_go").click().run(timeout=30)
    assert "mine is no model of kind reward_sbert" in texts(app)
    with store.reading() as db:
        assert service.list_versions(db, actor=SYSTEM) == []


def test_a_row_is_shown_whole_with_the_ways_on(store: Store, sign_in_as: SignIn) -> None:
    def draw(version_id: object, actor: object) -> None:
        from pages._ui.version_lineage import _show_row
        from rlhf_core.registry.lineage import list_lineage_rows
        from rlhf_core.store.engine import get_store

        with get_store().reading() as db:
            page = list_lineage_rows(db, version_id, actor=actor)  # type: ignore[arg-type]
        for row in page.rows:
            _show_row(row, actor)  # type: ignore[arg-type]

    actor = sign_in_as(Role.ANALYST)
    version = add_version(store)
    with store.writing() as db:
        keep = sa.select(Interaction.id).order_by(Interaction.id).limit(1).scalar_subquery()
        db.execute(sa.delete(Interaction).where(Interaction.id != keep))
    app = AppTest.from_function(draw, args=(version.id, actor)).run(timeout=30)
    assert not app.exception
    assert any("Why is it 0?" in each.value for each in app.text)
    said = [each.value for each in app.caption]
    assert sum("only the frozen row is left" in each for each in said) == 2
