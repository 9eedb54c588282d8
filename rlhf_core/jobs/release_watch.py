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

logger = logging.getLogger(__name__)


def watch_releases(store: Store, is_stopping: threading.Event) -> None:
    """Look until it is time to stop; whatever fails is tried again."""
    rest_s = 0.0
    while not is_stopping.wait(rest_s):
        started = time.monotonic()
        try:
            check_running(store)
        except (RlhfError, sa.exc.SQLAlchemyError) as error:
            logger.warning("The canaries wait to be looked at: %s", error)
        except Exception:
            logger.exception("Looking at the canaries failed")
        rest_s = max(EVERY_S, REST * (time.monotonic() - started))
