"""The weekly report: its week, its figures, and that it goes out once."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.alerts import digest_mail, service
from rlhf_core.alerts.checks import check_rules
from rlhf_core.alerts.digest import Digest, build_digest, last_monday, monday_of
from rlhf_core.alerts.digest_mail import DigestPlan, queue_due_digest, set_plan, write_digest
from rlhf_core.alerts.messages import write_mail
from rlhf_core.alerts.params import ApprovalBelow
from rlhf_core.analytics.rollups import mark_everything, refresh_rollups
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.registry.service import promote_version
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AlertDelivery
from rlhf_core.vocabulary import RaterKind, Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.databases import only_sqlite
from tests.learning.rated import add_feedback, add_interaction, add_rater

MONDAY = date(2026, 11, 9)
NOW = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)  # the Wednesday of the week after
HOUR = timedelta(hours=1)


def moment(day: date, hour: int = 12) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


@pytest.fixture
def mail_server(settings_for_test: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """E-mail is set up; nothing is sent in these tests."""
    monkeypatch.setenv("RLHF_SMTP_HOST", "mail.example.org")
    monkeypatch.setenv("RLHF_SMTP_FROM", "rlhf@example.org")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def read(store: Store, monday: date = MONDAY) -> Digest:
    with store.reading() as db:
        return build_digest(db, actor=SYSTEM, monday=monday, now=NOW)


def fill(store: Store) -> None:
    """The same answer called bad nine times, and others called good; some in the week before."""
    with store.writing() as db:
        rater = add_rater(db, "r", rater_kind=RaterKind.END_USER)
        for at, action, thumbs in (
            (moment(MONDAY, 0), "refund", [-1] * 9 + [1] * 3),
            (moment(MONDAY + timedelta(days=6), 23), "book", [1] * 12),
            (moment(MONDAY - timedelta(days=1), 23), "book", [1] * 5),
        ):
            for thumb in thumbs:
                fields = {"action_type": action, "occurred_at": at}
                thing = add_interaction(db, "Refund?", "No." if thumb < 0 else "Yes.", **fields)
                add_feedback(db, thing, rater, thumb=thumb, occurred_at=at)
        mark_everything(db, actor=SYSTEM)
        refresh_rollups(db)


def test_week_holds_what_happened_from_monday_to_sunday(store: Store) -> None:
    fill(store)
    digest = read(store)
    assert digest.overview.now.num_feedback == 24
    assert digest.overview.now.approval == pytest.approx(15 / 24)
    assert digest.overview.before is not None
    assert digest.overview.before.num_feedback == 5
    assert [one.action_type for one in digest.worst] == ["refund"]
    assert [(one.num_bad, one.completion) for one in digest.failures] == [(9, "No.")]
    assert digest.title == "Week 46 of 2026, 9 to 15 November"
    subject, text = write_digest(digest)
    assert subject == "Weekly report: Week 46 of 2026, 9 to 15 November"
    assert "Approval: 62.5% (week before: 100.0%)" in text
    assert "- refund: 25% of 12" in text
    assert "- refund: 9 times" in text
    assert "No." not in text
    assert "Refund?" not in text, "no text of people goes by e-mail"


@only_sqlite
def test_alerts_and_versions_of_the_week_are_in_it(store: Store) -> None:
    fill(store)
    with store.writing() as db:
        rule = ApprovalBelow(split="action_type", min_n=10)
        service.create_rule(db, actor=SYSTEM, name="too low", params=rule)
    check_rules(store, now=moment(MONDAY + timedelta(days=2)))
    assert [one.slice_key for one in read(store).alerts] == ["refund"]
    assert read(store).num_unresolved == 1
    assert read(store, MONDAY - timedelta(days=7)).alerts == []
    with store.writing() as db:
        version = make_version(db)
        promote_version(db, version.id, actor=SYSTEM, reason="test")
    this_week = monday_of(datetime.now(UTC).date())
    with store.reading() as db:
        digest = build_digest(db, actor=SYSTEM, monday=this_week)
    assert digest.versions == ["reward v1"]
    assert len(digest.releases) == 1
    assert not digest.is_over
    assert "registered: reward v1" in write_digest(digest)[1]


@only_sqlite
def test_empty_week_has_no_division_error(store: Store) -> None:
    digest = read(store)
    assert digest.is_over
    assert "Approval: none (week before: none)" in write_digest(digest)[1]
    assert write_mail({"event": "digest", "subject": "a", "text": "b"}) == ("a", "b")


@only_sqlite
def test_only_weeks_that_began_have_a_report(store: Store) -> None:
    with pytest.raises(InvalidInput, match="no Monday"):
        read(store, MONDAY + timedelta(days=1))
    with pytest.raises(InvalidInput, match="no Monday"):
        read(store, MONDAY + timedelta(days=14))
    assert last_monday(NOW) == MONDAY
    assert last_monday(moment(MONDAY)) == MONDAY - timedelta(days=7)


def switch_on(store: Store, now: datetime) -> DigestPlan:
    with store.writing() as db:
        return set_plan(
            db, actor=SYSTEM, emails=("a@example.org", "b@example.org"), is_enabled=True, now=now
        )


def num_queued(store: Store) -> int:
    with store.reading() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(AlertDelivery)) or 0


def test_it_goes_out_once_a_week_however_many_workers_ask(store: Store, mail_server: None) -> None:
    plan = switch_on(store, NOW)
    next_monday = moment(MONDAY + timedelta(days=14), 7)
    assert plan.next_at(NOW) == next_monday
    assert not queue_due_digest(store, now=next_monday - HOUR)
    barrier, won = threading.Barrier(4), []

    def work() -> None:
        barrier.wait()
        won.append(queue_due_digest(store, now=next_monday))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]
    assert num_queued(store) == 2
    assert not queue_due_digest(store, now=next_monday + timedelta(days=6))
    assert queue_due_digest(store, now=next_monday + timedelta(days=7))


@only_sqlite
def test_weeks_that_were_missed_are_one_report_of_the_last(store: Store, mail_server: None) -> None:
    switch_on(store, NOW)
    late = moment(MONDAY + timedelta(days=14 + 21 + 2), 3)
    assert queue_due_digest(store, now=late)
    assert not queue_due_digest(store, now=late)
    with store.reading() as db:
        plan = digest_mail.get_plan(db, actor=SYSTEM)
    assert plan.sent_for == last_monday(late)
    assert plan.next_at(late) == moment(last_monday(late) + timedelta(days=14), 7)


@only_sqlite
def test_nothing_goes_out_while_it_is_off_or_there_is_no_mail_server(store: Store) -> None:
    later = NOW + timedelta(days=30)
    assert not queue_due_digest(store, now=later)
    switch_on(store, NOW)
    assert not queue_due_digest(store, now=later), "no mail server"
    assert num_queued(store) == 0


@only_sqlite
def test_plan_is_refused_to_raters_and_without_addresses(store: Store) -> None:
    with store.writing() as db:
        rater, analyst = make_actor(db), make_actor(db, Role.ANALYST)
        with pytest.raises(Forbidden):
            set_plan(db, actor=rater, emails=("a@b.example",), is_enabled=True)
        with pytest.raises(InvalidInput, match="Nobody gets it"):
            set_plan(db, actor=analyst, emails=(), is_enabled=True)
        with pytest.raises(InvalidInput, match="choose 0 to 23"):
            set_plan(db, actor=analyst, emails=(), is_enabled=False, hour=24)
        assert set_plan(db, actor=analyst, emails=("a@b.example",), is_enabled=True).is_enabled
        assert digest_mail.get_plan(db, actor=analyst).emails == ("a@b.example",)
