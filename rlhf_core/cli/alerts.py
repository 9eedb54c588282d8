"""`alerts list | check`: what is wrong now, and a look at the rules without a worker."""

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.alerts import service
from rlhf_core.alerts.checks import CheckResult, check_rules
from rlhf_core.alerts.deliveries import send_due
from rlhf_core.alerts.service import AlertView
from rlhf_core.analytics.rollups import reading_fresh
from rlhf_core.cli.output import emit, json_option, reading
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import AlertState


@click.group(name="alerts", help="Rules that watch the loop, and the alerts that they opened.")
def command() -> None:
    """Choose what to do."""


@command.command(name="list", help="Alerts that nobody resolved; with --all also the others.")
@click.option("--all", "is_all", is_flag=True, help="The resolved ones too, newest first.")
@json_option
def list_(is_all: bool, as_json: bool) -> None:
    """Print one line an alert."""
    states = [s for s in AlertState if is_all or s is not AlertState.RESOLVED]
    with reading() as db:
        found = service.list_alerts(db, actor=SYSTEM, states=states)
    text = "\n".join(map(alert_line, found)) or "No alert is open."
    emit(found, as_json=as_json, text=text)


@command.command(help="Look at all rules that are switched on, now, and send what is due.")
@json_option
def check(as_json: bool) -> None:
    """Look, open, resolve, send; exit 1 where a rule could not be looked at."""
    with reading():
        store = get_store()
    with reading_fresh(store):
        results = check_rules(store, only_due=False)
    num_sent = send_due(store)
    lines = [result_line(result) for result in results] or ["No rule is switched on."]
    if num_sent:
        lines.append(f"{num_sent} messages sent.")
    emit(results, as_json=as_json, text="\n".join(lines))
    if any(result.problem for result in results):
        raise SystemExit(1)


def alert_line(alert: AlertView) -> str:
    """An alert in one line."""
    parts = [f"{alert.opened_at:%Y-%m-%d %H:%M}", f"{alert.state.value:12}", alert.rule]
    if alert.slice_key:
        parts.append(alert.slice_key)
    return "  ".join([*parts, alert.said_last or alert.said])


def result_line(result: CheckResult) -> str:
    """What came of one rule, in one line."""
    if result.problem:
        return f"{result.rule}: {result.problem}"
    said = f"{result.num_firing} firing" if result.num_firing else "all well"
    for count, word in ((result.num_opened, "opened"), (result.num_resolved, "resolved")):
        said += f", {count} {word}" if count else ""
    return f"{result.rule}: {said}"
