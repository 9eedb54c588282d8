import re
from collections.abc import Callable, Iterator

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui import rerank_box
from pages._ui.measures import NONE_THERE
from rlhf_core.accounts import service as accounts
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT as ROOT
from rlhf_core.config import get_settings
from rlhf_core.registry import service
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.core.serving.server import loaded_stub, serve
from tests.core.serving.test_client import by_length, free_port

SignIn = Callable[[Role], Actor]


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine where no inference process runs; the page's client is closed at the end."""
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(free_port()))
    get_settings.cache_clear()
    yield
    rerank_box.get_client().close()


def open_page() -> AppTest:
    app = AppTest.from_file(ROOT / "app.py").run(timeout=30)
    return app.switch_page("pages/models/registry.py").run(timeout=30)


def make_versions(store: Store, count: int, *, promoted: int = 0) -> list[ModelVersionView]:
    with store.writing() as db:
        versions = [make_version(db) for _ in range(count)]
        for version in versions[:promoted]:
            service.promote_version(db, version.id, actor=SYSTEM, reason="first try")
    return versions


def texts(app: AppTest) -> str:
    assert not app.exception
    kinds = [app.error, app.warning, app.info, app.success, app.markdown, app.caption, app.header]
    shown = "\n".join(element.value for kind in kinds for element in kind)
    return re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), shown).replace("\u2060", "")


def column(app: AppTest, name: str) -> list[object]:
    """The column of the only table that has it."""
    (table,) = [frame.value for frame in app.dataframe if name in frame.value]
    return list(table[name])


def production(store: Store) -> int | None:
    with store.reading() as db:
        return service.get_alias(db, "reward", actor=SYSTEM).number


def test_without_a_model_the_page_leads_to_launch(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    app = open_page()
    assert "No model yet" in texts(app)
    assert not app.dataframe


def test_versions_figures_and_states_are_listed(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    make_versions(store, 3, promoted=2)
    app = open_page()
    table = app.dataframe[0].value
    assert list(table["Kind"]) == ["Sentence embeddings"] * 3
    assert list(table["Version"]) == ["reward v3", "reward v2", "reward v1"]
    assert list(table["State"]) == ["", "Production", "Previous"]
    assert list(table["AUC"]) == [0.7] * 3
    assert app.header[0].value == "reward v2"
    assert column(app, "From") == ["v1", "nothing"]
    assert column(app, "To") == ["v2", "v1"]
    assert column(app, "Why") == ["first try"] * 2


def test_promotion_asks_for_the_name_and_a_reason(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.TRAINER)
    versions = make_versions(store, 2, promoted=1)
    with store.writing() as db:
        examine(db, versions[1])
    app = open_page()
    app.query_params["version"] = str(versions[1].id)
    app.run(timeout=30)
    app.button(key="promote").click().run(timeout=30)
    assert app.button(key="promote_confirm").disabled
    app.text_input(key="promote_typed").set_value("reward v1").run(timeout=30)
    assert app.button(key="promote_confirm").disabled
    app.text_input(key="promote_typed").set_value("reward v2").run(timeout=30)
    app.button(key="promote_confirm").click().run(timeout=30)
    assert "Say why" in texts(app)
    assert production(store) == 1
    app.text_area(key="promote_reason").set_value("better on other prompts").run(timeout=30)
    app.button(key="promote_confirm").click().run(timeout=30)
    assert production(store) == 2
    assert not app.exception
    with pytest.raises(KeyError):
        app.button(key="promote_confirm")
    with store.reading() as db:
        latest = service.alias_history(db, "reward", actor=SYSTEM)[0]
    assert (latest.changed_by, latest.reason) == (actor.name, "better on other prompts")


def test_a_move_by_another_person_meanwhile_is_a_sentence_in_the_dialog(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    versions = make_versions(store, 3, promoted=1)
    with store.writing() as db:
        examine(db, versions[1])
    app = open_page()
    app.query_params["version"] = str(versions[1].id)
    app.run(timeout=30)
    app.button(key="promote").click().run(timeout=30)
    app.text_area(key="promote_reason").set_value("mine").run(timeout=30)
    app.text_input(key="promote_typed").set_value("reward v2").run(timeout=30)
    with store.writing() as db:
        service.promote_version(db, versions[2].id, actor=SYSTEM, reason="theirs")
    app.button(key="promote_confirm").click().run(timeout=30)
    assert "meanwhile" in texts(app)
    assert production(store) == 3


def test_roll_back_returns_to_the_version_before(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ADMIN)
    make_versions(store, 2, promoted=2)
    app = open_page()
    app.button(key="rollback").click().run(timeout=30)
    app.text_area(key="rollback_reason").set_value("worse in use").run(timeout=30)
    app.button(key="rollback_confirm").click().run(timeout=30)
    assert production(store) == 1
    assert column(app, "What")[0] == "Rolled back"


def test_analyst_sees_all_and_can_move_nothing(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    make_versions(store, 2, promoted=2)
    app = open_page()
    assert "reward v2" in texts(app)
    shown = {button.key for button in app.button}
    moves = {"promote", "rollback", "try_go", "save_notes", "evaluate_start", "score_stored"}
    assert shown & moves == set()


def test_integrity_check_names_the_damaged_file(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    (version,) = make_versions(store, 1)
    app = open_page()
    app.button(key="check_files").click().run(timeout=30)
    assert "All 1 files are as they were registered." in texts(app)
    (version.folder / "head.json").write_text("weightS")
    app.button(key="check_files").click().run(timeout=30)
    assert "head.json is not the file that was registered" in texts(app)
    (version.folder / "manifest.json").unlink()
    app.run(timeout=30)
    assert "Cannot read" in texts(app)


def test_trying_without_a_process_shows_the_original_order(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    make_versions(store, 1, promoted=1)
    app = open_page()
    assert "The inference process does not run." in texts(app)
    app.button(key="try_go").click().run(timeout=30)
    assert "Write a prompt" in texts(app)
    app.text_area(key="try_prompt").set_value("How?")
    app.text_area(key="try_candidates").set_value("b\n\n a \n")
    app.button(key="try_go").click().run(timeout=30)
    assert "Original order: The inference process does not run." in texts(app)
    assert column(app, "Candidate") == ["b", "a"]


def test_trying_ranks_by_the_served_model(
    store: Store, sign_in_as: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_as(Role.TRAINER)
    make_versions(store, 1, promoted=1)
    with serve(store, loaded_stub(by_length, "reward v1")) as (port, slot):
        slot.problem = None
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        app = open_page()
        assert "reward v1 serves." in texts(app)
        app.text_area(key="try_prompt").set_value("How?")
        app.text_area(key="try_candidates").set_value("a\nccc\nbb")
        app.button(key="try_go").click().run(timeout=30)
    assert column(app, "Candidate") == ["ccc", "bb", "a"]
    assert column(app, "Was") == [2, 3, 1]


def test_notes_are_saved(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    (version,) = make_versions(store, 1)
    app = open_page()
    notes = next(area for area in app.text_area if area.label == "Notes")
    notes.set_value("trained after the import of May")
    app.button(key="save_notes").click().run(timeout=30)
    assert not app.exception
    with store.reading() as db:
        assert service.get_version(db, version.id, actor=SYSTEM).notes == (
            "trained after the import of May"
        )


def test_notes_of_one_who_lost_the_right_meanwhile_are_not_saved(
    store: Store, sign_in_as: SignIn
) -> None:
    def draw_notes(version: "ModelVersionView", actor: "Actor") -> None:
        from pages._ui.version_labels import show_labels

        show_labels(version, actor)

    actor = sign_in_as(Role.TRAINER)
    (version,) = make_versions(store, 1)
    app = AppTest.from_function(draw_notes, args=(version, actor)).run(timeout=30)
    with store.writing() as db:
        accounts.set_role(db, actor=SYSTEM, account_name=actor.name, role=Role.RATER)
    app.text_area[0].set_value("mine")
    app.button(key="save_notes").click().run(timeout=30)
    assert "may not promote models" in texts(app)
    with store.reading() as db:
        assert service.get_version(db, version.id, actor=SYSTEM).notes is None


def test_empty_cells_of_the_tables_show_a_dash(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    make_versions(store, 1)
    app = open_page()
    assert [table.proto.placeholder for table in app.dataframe] == [NONE_THERE] * 2
