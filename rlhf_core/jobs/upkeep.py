"""What a worker looks after each minute beside its runs. Every worker does; one at a time each.

In a thread of its own: a long count holds up no heartbeat. A duty raises what it likes: it is said
in the log, and tried again with the next round.
"""

import logging
import threading
from collections.abc import Callable

import sqlalchemy as sa

from rlhf_core.alerts.checks import check_rules
from rlhf_core.alerts.deliveries import prune_deliveries, send_due
from rlhf_core.alerts.digest_mail import queue_due_digest
from rlhf_core.analytics.rollups import refresh_in_rounds
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.heartbeats import database_now
from rlhf_core.store.engine import Store

EVERY_S = 60.0

logger = logging.getLogger(__name__)

Duty = Callable[[Store], None]


def refresh_counts(store: Store) -> None:
    """Make the daily counts of the days that changed; those under change wait for the next time."""
    refresh_in_rounds(store)


def look_at_rules(store: Store) -> None:
    """Open and resolve alerts, by the counts made new just before."""
    with store.reading() as db:
        now = database_now(db)
    for result in check_rules(store, now=now):
        if result.num_opened:
            logger.warning("The rule %s fired: see Alerts.", result.rule)


def send_messages(store: Store) -> None:
    """Send what alerts and the weekly report have to say. Last: the network may take its time."""
    with store.reading() as db:
        now = database_now(db)
    queue_due_digest(store, now=now)
    prune_deliveries(store, now=now)
    send_due(store)


DUTIES: tuple[Duty, ...] = (refresh_counts, look_at_rules, send_messages)


def look_after(store: Store, is_stopping: threading.Event) -> None:
    """Do all duties at once and then each minute, until it is time to stop."""
    while True:
        for duty in DUTIES:
            if is_stopping.is_set():
                return
            try:
                duty(store)
            except (RlhfError, sa.exc.SQLAlchemyError) as error:
                logger.warning("%s waits: %s", duty.__name__, error)
            except Exception:
                logger.exception("%s failed", duty.__name__)  # the other duties go on
        if is_stopping.wait(EVERY_S):
            return
