"""Pages under Streamlit's AppTest: a person signed in, caches clean.

`sign_in_as(Role.RATER)` makes an account with a real session on the test's store and returns its
actor; then `AppTest.from_file(SOURCE_ROOT / "app.py").run()`, which can `switch_page`.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner

from pages._ui import guard
from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role


@pytest.fixture
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A page sees no difference between the databases: SQLite is enough here.

    `test_every_page.py` opens each of them on PostgreSQL too.
    """
    path = tmp_path / "pages.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture(scope="session", autouse=True)
def _scan_packages_once() -> Iterator[None]:
    """Every AppTest looks for components in each installed package: they stay the same."""
    with pytest.MonkeyPatch.context() as patch:
        scan = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(autouse=True)
def _clean_caches() -> Iterator[None]:
    """Streamlit's caches outlive an AppTest."""
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def browser_cookie(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """The session secret that AppTest's browser sends (AppTest itself cannot send cookies)."""
    jar: dict[str, str | None] = {"session": None}
    monkeypatch.setattr(guard, "_launched", True)
    monkeypatch.setattr(guard, "find_session_secret", lambda: jar["session"])
    return jar


@pytest.fixture
def sign_in_as(store: Store, browser_cookie: dict[str, str | None]) -> Callable[[Role], Actor]:
    """Sign a person of the role in, with a real session."""

    def sign_in(role: Role) -> Actor:
        with store.writing() as db:
            name = f"test {role.value}"
            if service.find_account(db, name) is None:
                service.create_account(db, actor=SYSTEM, name=name, role=role)
            link = tokens.create_sign_in_link(db, actor=SYSTEM, account_name=name)
            browser_cookie["session"] = tokens.redeem_sign_in_link(db, link)
            actor = tokens.find_session_actor(db, browser_cookie["session"])
        assert actor is not None
        return actor

    return sign_in
