"""A worker's look at running deployments, every two seconds, in a thread of its own."""

import logging
import threading
import time

import sqlalchemy as sa

from rlhf_core.errors import RlhfError
from rlhf_core.release.watch import check_running
from rlhf_core.store.engine import Store

EVERY_S = 2.0
REST = 10.0  # times as long as a look took: a large count is no load on the database
MAX_REST_S = 15.0

logger = logging.getLogger(__name__)


def watch_releases(store: Store, is_stopping: threading.Event) -> None:
    """Look until it is time to stop; whatever fails is tried again."""
    rest_s = 0.0
    while not is_stopping.wait(rest_s):
        started = time.monotonic()
        rest_s = EVERY_S
        try:
            check_running(store)
            rest_s = find_rest_s(time.monotonic() - started)
        except (RlhfError, sa.exc.SQLAlchemyError) as error:
            logger.warning("The canaries wait to be looked at: %s", error)
        except Exception:
            logger.exception("Looking at the canaries failed")


def find_rest_s(took_s: float) -> float:
    """How long to wait after a look that took so long. One that failed is tried again soon."""
    return max(EVERY_S, min(MAX_REST_S, REST * took_s))
