"""The page Rollout says whether what it shows gets traffic at all."""

import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.rerank_box import get_client
from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT, get_settings
from rlhf_core.errors import InvalidInput
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving import client
from rlhf_core.serving.loader import LoadedModel
from rlhf_core.serving.policies import PolicyShelf
from rlhf_core.serving.traffic import Traffic
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.core.release.live_world import start_new
from tests.core.serving.server import StubModel, serve_traffic
from tests.core.serving.test_client import by_length


def test_a_canary_that_waits_or_cannot_be_loaded_is_said(
    store: Store, sign_in_as: Callable[[Role], Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_broken = True

    def load(version: ModelVersionView) -> LoadedModel:
        if is_broken and version.number == 2:
            raise InvalidInput("a file is damaged.")
        return LoadedModel(version.id, version.name, StubModel(by_length))  # type: ignore[arg-type]

    monkeypatch.setattr(client, "HEALTH_TIMEOUT_S", 30.0)
    sign_in_as(Role.ANALYST)
    start_new(store)
    traffic = Traffic(store, load, model_name=REWARD_MODEL, capacity=2)
    with serve_traffic(store, traffic, PolicyShelf(store)) as port:
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        app = AppTest.from_file(SOURCE_ROOT / "app.py").run(timeout=30)
        app.switch_page("pages/models/rollout.py").run(timeout=30)

        def said() -> str:
            app.run(timeout=30)
            shown = " ".join(each.value for each in [*app.info, *app.warning])
            return re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), shown)

        assert "loads reward v2: until then all goes to what serves." in said()
        traffic.refresh_deployment()
        assert "The canary gets no traffic: reward v2 cannot be served: a file is damag" in said()
        is_broken, traffic._retry_at = False, 0
        traffic.refresh_deployment()
        assert "reward v2" not in said()
        get_client().close()
