"""The real `server.py` as a process of its own, for tests that need one."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role

START_TIMEOUT_S = 90
SECRET_KEY = "live-test-key"


@dataclass
class LiveServer:
    """A running server, its database opened beside it, and the first sign-in link it printed."""

    process: subprocess.Popen[str]
    url: str
    first_link: str
    data_dir: Path
    store: Store
    output: list[str] = field(repr=False)

    def make_account(self, role: Role) -> tuple[Actor, str]:
        """A new account of the role, and a link that signs it in once."""
        name = f"{role.value} {uuid.uuid4().hex[:6]}"
        with self.store.writing() as db:
            view = service.create_account(db, actor=SYSTEM, name=name, role=role)
            secret = tokens.create_sign_in_link(db, actor=SYSTEM, account_name=name)
        return Actor(name, role, view.id), f"{self.url}/login?token={secret}"

    def kill(self) -> None:
        """kill -9: nothing of the process gets to clean up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def run_server(data_dir: Path, **settings: str) -> Iterator[LiveServer]:
    """Start `server.py` on a free port, without its children; end it at the end."""
    port = find_free_port()
    environment = {name: value for name, value in os.environ.items() if "RLHF_" not in name}
    environment |= {
        "RLHF_DATA_DIR": str(data_dir),
        "RLHF_PORT": str(port),
        "RLHF_START_CHILDREN": "false",
        "RLHF_SECRET_KEY": SECRET_KEY,
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
    process = subprocess.Popen(
        [sys.executable, "server.py"],
        cwd=SOURCE_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output: list[str] = []
    found = threading.Event()
    reader = threading.Thread(target=_read, args=(process, output, found))
    reader.start()
    store = Store(f"sqlite:///{data_dir / 'rlhf.db'}")
    try:
        assert found.wait(START_TIMEOUT_S), "no sign-in link:\n" + "".join(output)
        link = _find_link("".join(output))
        assert link is not None, "the server ended:\n" + "".join(output)
        url = f"http://127.0.0.1:{port}"
        yield LiveServer(process, url, link, data_dir, store, output)
    finally:
        store.close()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        reader.join(20)
        assert process.stdout is not None
        process.stdout.close()


def find_free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _find_link(text: str) -> str | None:
    match = re.search(r"http://\S+/login\?token=\S+", text)
    return None if match is None else match[0]


def _read(process: "subprocess.Popen[str]", output: list[str], found: threading.Event) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        if _find_link(line):
            found.set()
    found.set()  # it ended
