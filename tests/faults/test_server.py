"""The launcher: what it refuses, what it leaves behind, and that only its way leads in."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa
import websockets.exceptions
from websockets.sync.client import connect

from rlhf_core.config import SOURCE_ROOT
from rlhf_core.store import migrate
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import Role
from tests.live_server import SECRET_KEY, LiveServer, find_free_port, run_server
from tests.postgres_databases import postgres_url, run_on_server


def until(fact: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def family_of(server: LiveServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def start_refused(data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "RLHF_" not in name}
    environment |= {
        "RLHF_DATA_DIR": str(data_dir),
        "RLHF_PORT": str(find_free_port()),
        "RLHF_START_CHILDREN": "false",
        "RLHF_SECRET_KEY": SECRET_KEY,
        **settings,
    }
    return subprocess.run(
        [sys.executable, "server.py"],
        cwd=SOURCE_ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def quiet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server without children that the tests of this module share."""
    with run_server(tmp_path_factory.mktemp("quiet")) as server:
        yield server


@pytest.fixture
def whole_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server with its children, both running."""
    with run_server(
        tmp_path, RLHF_START_CHILDREN="true", RLHF_INFERENCE_PORT=str(find_free_port())
    ) as server:
        until(lambda: len(family_of(server)) >= 2)
        yield server


def test_ctrl_c_ends_everything(whole_server: LiveServer) -> None:
    family = family_of(whole_server)
    whole_server.process.send_signal(signal.SIGINT)
    assert whole_server.process.wait(30) == 0
    until(lambda: not any(map(is_alive, family)))
    assert "Traceback" not in "".join(whole_server.output)


def test_sigterm_with_an_open_page_ends_everything(whole_server: LiveServer) -> None:
    family = family_of(whole_server)
    client = httpx.Client(base_url=whole_server.url)
    assert client.get(whole_server.first_link).status_code == 303
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    client.close()
    address = whole_server.url.replace("http", "ws") + "/_stcore/stream"
    headers = {"cookie": cookie, "origin": whole_server.url}
    with connect(address, additional_headers=headers, subprotocols=["streamlit"]):
        whole_server.process.send_signal(signal.SIGTERM)
        assert whole_server.process.wait(30) == 0
    until(lambda: not any(map(is_alive, family)))


def test_kill_minus_9_leaves_no_orphan(whole_server: LiveServer) -> None:
    family = family_of(whole_server)
    assert len(family) >= 2
    whole_server.kill()
    until(lambda: not any(map(is_alive, family)))


def test_killed_child_comes_back(whole_server: LiveServer) -> None:
    def find(word: str) -> psutil.Process | None:
        living = filter(is_alive, family_of(whole_server))
        return next((process for process in living if word in process.cmdline()), None)

    victim = find("inference")
    assert victim is not None
    victim.kill()
    until(lambda: (now := find("inference")) is not None and now.pid != victim.pid)


def test_port_in_use_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = start_refused(tmp_path / "data", RLHF_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Cannot listen on 127.0.0.1 port")
    assert "RLHF_PORT" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_newer_schema_is_refused_with_a_sentence(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'rlhf.db'}")
    migrate.upgrade(store)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    done = start_refused(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: The database has schema 9999" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_other_secret_key_is_refused(quiet_server: LiveServer) -> None:
    done = start_refused(quiet_server.data_dir, RLHF_SECRET_KEY="another")
    assert done.returncode == 1
    assert "set the same key on every machine" in done.stderr


@pytest.mark.postgres
def test_postgres_is_not_upgraded_by_the_way(postgres_socket: str, tmp_path: Path) -> None:
    run_on_server(postgres_socket, "CREATE DATABASE untouched")
    url = postgres_url(postgres_socket, "untouched")
    done = start_refused(tmp_path, RLHF_DATABASE_URL=url)
    assert done.returncode == 1
    assert "python -m rlhf_core db upgrade" in done.stderr
    store = Store(url)
    assert migrate.current_revision(store) is None
    store.close()
    run_on_server(postgres_socket, "DROP DATABASE untouched")


def test_real_server_answers_strangers_with_the_sign_in_page_only(
    quiet_server: LiveServer,
) -> None:
    with httpx.Client(base_url=quiet_server.url) as client:
        for path in ("/", "/rate", "/runs", "/app/static/x", "/index.html", "/api", "/~/+/rate"):
            response = client.get(path)
            assert response.status_code == 303, path
            assert response.headers["location"].startswith("/login")
        for path in (
            "/_stcore/metrics",
            "/_stcore/host-config",
            "/_stcore/agent/openapi.json",
            "/_stcore/upload_file/a/b",
            "/media/x",
        ):
            assert client.get(path).status_code == 401, path
        for path in ("/api/feedback", "/api/docs", "/api/openapi.json"):
            assert client.get(path).status_code == 401, path
        assert client.get("/_stcore/health").text == "ok"
        page = client.get("/login")
        assert "RLHF Loop" in page.text
        policy = page.headers["content-security-policy"]
    assert "script-src 'self' blob: 'sha256-" in policy
    assert "unsafe-eval" not in policy


def test_dots_in_a_path_lead_nowhere(quiet_server: LiveServer) -> None:
    """Sent raw: a client library would fold them."""
    port = int(quiet_server.url.rsplit(":", 1)[1])
    for path in ("/api/../rate", "/login/../rate", "/api/..%2frate", "//rate", "/api//../"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest("GET", path, skip_host=False)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status in (303, 400, 401, 403, 404), path
        assert b"<script" not in body, path


def test_real_websocket_is_refused_without_the_cookie(quiet_server: LiveServer) -> None:
    address = quiet_server.url.replace("http", "ws") + "/_stcore/stream"
    for headers in ({}, {"x-app-user": "admin"}, {"cookie": "rlhf_session=x; _streamlit_user=x"}):
        with (
            pytest.raises(websockets.exceptions.InvalidStatus) as refused,
            connect(address, additional_headers=headers, subprotocols=["streamlit"]),
        ):
            pass
        assert refused.value.response.status_code == 403


def test_printed_link_signs_the_admin_in_once(quiet_server: LiveServer) -> None:
    with httpx.Client(base_url=quiet_server.url) as client:
        assert client.get(quiet_server.first_link).status_code == 303
        assert client.get("/").status_code == 200
    with httpx.Client(base_url=quiet_server.url) as other:
        assert other.get(quiet_server.first_link).status_code == 403
        assert other.get("/").status_code == 303


def test_acknowledged_feedback_survives_kill_minus_9(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        _, link = server.make_account(Role.TRAINER)
        headers = {"origin": server.url}
        with httpx.Client(base_url=server.url, headers=headers) as client:
            client.get(link)
            ids = [
                client.post(
                    "/api/v1/interactions", json={"prompt": f"p{n}", "completion": "c"}
                ).json()["id"]
                for n in range(20)
            ]
        server.kill()
    store = Store(f"sqlite:///{tmp_path / 'rlhf.db'}")
    with store.reading() as db:
        assert {str(found) for found in db.scalars(sa.select(Interaction.id))} == set(ids)
    store.close()
