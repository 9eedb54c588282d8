"""`gates list | set | reset | check | veto | withdraw-veto`."""

import uuid

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, writing
from rlhf_core.errors import InvalidInput
from rlhf_core.gates import service
from rlhf_core.gates.rules import SPECS
from rlhf_core.gates.views import GateResult, RuleView, list_blocking
from rlhf_core.registry.service import REWARD_MODEL, get_version_by_number
from rlhf_core.vocabulary import GateKind

SOURCES = {"default": "", "all_models": "  (set for all models)", "model": "  (set for the model)"}

kind_argument = click.argument("kind", type=click.Choice([kind.value for kind in GateKind]))
for_option = click.option("--model", "model_name", help="Only for this model.")
model_option = click.option(
    "--model", "model_name", default=REWARD_MODEL, show_default=True, help="Model name."
)
reason_option = click.option("--reason", required=True, help="Why; kept in the audit.")


@click.group(name="gates", help="What a version must show before it reaches users.")
def command() -> None:
    """Choose what to do with the rules."""


@command.command(name="list", help="The rules as they hold for all models, or for one.")
@for_option
@json_option
def list_(model_name: str | None, as_json: bool) -> None:
    """One line a rule."""
    with reading() as db:
        rules = service.list_rules(db, actor=SYSTEM, model_name=model_name)
    emit(rules, as_json=as_json, text="\n".join(_rule_line(rule) for rule in rules))


@command.command(name="set", help="Change the rule KIND, for all models or for one.")
@kind_argument
@click.argument("limits", nargs=-1, metavar="[NAME=VALUE]...")
@for_option
@click.option("--required/--warn", "is_required", default=None, help="Whether breaking it blocks.")
@click.option("--on/--off", "is_on", default=None, help="Whether it is asked at all.")
@click.option(
    "--must-be-measured/--may-be-unknown",
    default=None,
    help="Whether it blocks also where nothing is known.",
)
@json_option
def set_(
    kind: str,
    limits: tuple[str, ...],
    model_name: str | None,
    is_required: bool | None,
    is_on: bool | None,
    must_be_measured: bool | None,
    as_json: bool,
) -> None:
    """What is not named stays."""
    with writing() as db:
        rule = service.set_rule(
            db,
            actor=SYSTEM,
            kind=GateKind(kind),
            model_name=model_name,
            params=dict(_parse_limit(limit) for limit in limits),
            is_required=is_required,
            is_on=is_on,
            must_be_measured=must_be_measured,
        )
    emit(rule, as_json=as_json, text=_rule_line(rule))


@command.command(help="Take changed rules back, for all models or for one: all rules, or --kind.")
@for_option
@click.option("--kind", type=click.Choice([kind.value for kind in GateKind]))
@json_option
def reset(model_name: str | None, kind: str | None, as_json: bool) -> None:
    """Remove the rows."""
    with writing() as db:
        count = service.reset_rules(
            db, actor=SYSTEM, model_name=model_name, kind=None if kind is None else GateKind(kind)
        )
    emit({"num_reset": count}, as_json=as_json, text=f"{count} rules are as before.")


@command.command(help="What the rules say of version NUMBER now.")
@click.argument("number", type=int)
@model_option
@click.option("--share", is_flag=True, help="Of a share of the traffic, not of a promotion.")
@json_option
def check(number: int, model_name: str, share: bool, as_json: bool) -> None:
    """One line a rule, and what follows."""
    with reading() as db:
        version = get_version_by_number(db, model_name, number, actor=SYSTEM)
        results = service.check_gates(db, version.id, actor=SYSTEM, for_share=share)
    blocking = list_blocking(results)
    what = "may get a share of the traffic" if share else "may be promoted"
    end = (
        f"{version.name} {what}."
        if not blocking
        else f"{len(blocking)} rules keep {version.name} from users."
    )
    shown = {
        "version": version.name,
        "is_blocked": bool(blocking),
        "gates": [result.to_json() for result in results],
    }
    emit(shown, as_json=as_json, text="\n".join([*map(_result_line, results), end]))


@command.command(help="Speak against version NUMBER: it is not promoted while the veto stands.")
@click.argument("number", type=int)
@model_option
@reason_option
@json_option
def veto(number: int, model_name: str, reason: str, as_json: bool) -> None:
    """The word of the machine's owner; people use the page Models."""
    with writing() as db:
        version = get_version_by_number(db, model_name, number, actor=SYSTEM)
        given = service.set_veto(db, version.id, actor=SYSTEM, reason=reason)
    emit(given, as_json=as_json, text=f"Veto {given.id} stands against {version.name}.")


@command.command(name="withdraw-veto", help="Take the veto ID back.")
@click.argument("veto_id", type=click.UUID)
@reason_option
@json_option
def withdraw_veto(veto_id: uuid.UUID, reason: str, as_json: bool) -> None:
    """Its history stays."""
    with writing() as db:
        withdrawn = service.withdraw_veto(db, veto_id, actor=SYSTEM, reason=reason)
    emit(withdrawn, as_json=as_json, text=f"Veto {veto_id} is withdrawn.")


def _parse_limit(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"{text!r}: write a limit as NAME=VALUE, such as min_rows=50.")
    return name.strip(), value


def _rule_line(rule: RuleView) -> str:
    limits = "  ".join(
        f"{name}={value:g}" if isinstance(value, float | int) else f"{name}={value!r}"
        for name, value in rule.params.items()
    )
    state = "off" if not rule.is_on else "required" if rule.is_required else "warns"
    must = ", must be measured" if rule.must_be_measured else ""
    must += " once another version serves" if rule.spares_first else ""
    return f"{rule.kind.value:13}  {state}{must}  {limits}".rstrip() + SOURCES[rule.source.value]


def _result_line(result: GateResult) -> str:
    state = result.state.value.replace("_", " ")
    mark = "BLOCKS" if result.blocks else ""
    return f"{state:12}  {mark:6}  {SPECS[result.kind].title}: {result.sentence}"
