"""What `server.py` does before it serves: the port, the database, the first admin, the children."""

import socket

from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.api.children import Children, core_command
from rlhf_core.api.idempotency import forget_old_answers
from rlhf_core.config import SOURCE_ROOT, Settings
from rlhf_core.errors import Unavailable
from rlhf_core.jobs.devices import count_gpus, find_owned
from rlhf_core.privacy.pseudonyms import check_key
from rlhf_core.store import migrate
from rlhf_core.store.engine import Store

FIRST_LINK_VALID_S = 24 * 3600
FIRST_LINK = "printed at the start"


def prepare(store: Store, settings: Settings) -> str:
    """Bring the database into order; return the secret of a sign-in link for an admin.

    The links of earlier starts stop to work.

    Raises:
        RlhfError: schema or key are not this code's, or the database does not answer.
    """
    if store.is_sqlite:
        migrate.upgrade(store)
    else:
        migrate.check(store)  # a team upgrades on purpose, not because one machine has new code
    with store.writing() as db:
        check_key(db, settings.read_secret_key())
        forget_old_answers(db)
        admin = service.ensure_first_admin(db)
        return tokens.create_sign_in_link(
            db,
            actor=SYSTEM,
            account_name=admin.name,
            valid_s=FIRST_LINK_VALID_S,
            name=FIRST_LINK,
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket of the address.

    Raises:
        Unavailable: the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only on sockets that say that they are TCP
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Cannot listen on {host} port {port} ({error.strerror}): end the program that uses "
            "it, or set RLHF_PORT to another port."
        ) from error
    return listener


def make_children(settings: Settings) -> Children | None:
    """The inference process and the workers, where this machine shall start them."""
    if not settings.start_children:
        return None
    return Children(
        {
            "inference": core_command("inference", "--exit-with-parent"),
            **worker_commands(count_gpus()),
        },
        work_dir=SOURCE_ROOT,
        grace_s=settings.run_grace_s + 2,
    )


def worker_commands(num_gpus: int) -> dict[str, list[str]]:
    """A worker a GPU and one for the CPU; on a machine without GPUs one for everything."""
    host = socket.gethostname()
    own = ["worker", "--exit-with-parent", "--executor"]
    if not num_gpus:
        return {"worker": core_command(*own, f"{host}:cpu", "--resources", "cpu,gpu")}
    found = {"worker": core_command(*own, f"{host}:cpu", "--resources", "cpu", "--devices", "none")}
    for number, gpu in enumerate(find_owned() or map(str, range(num_gpus))):
        found[f"worker for GPU {number}"] = core_command(
            *own, f"{host}:gpu{number}", "--resources", "gpu", "--devices", gpu
        )
    return found
