"""`models lineage | trained-on | card | tags | notes | live`."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.models_files import model_option
from rlhf_core.cli.output import emit, json_option, reading, writing
from rlhf_core.errors import InvalidInput
from rlhf_core.registry import service
from rlhf_core.registry.labels import set_notes, set_tags
from rlhf_core.registry.lineage import (
    ROLES,
    Lineage,
    TrainedOn,
    find_trained_on,
    get_lineage,
    list_lineage_rows,
)
from rlhf_core.registry.lineage_raters import list_lineage_raters

MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]


@click.command(help="Where version NUMBER comes from: run, dataset, raters, versions.")
@click.argument("number", type=int)
@model_option
@click.option("--rows", "num_rows", type=click.IntRange(0, 10_000), default=0,
              help="Also the first so many rows.")  # fmt: skip
@json_option
def lineage(number: int, model_name: str, num_rows: int, as_json: bool) -> None:
    """A line a fact."""
    with reading() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        found = get_lineage(db, version.id, actor=SYSTEM)
        raters = list_lineage_raters(db, version.id, actor=SYSTEM)
        rows = list_lineage_rows(db, version.id, actor=SYSTEM, limit=num_rows) if num_rows else None
    lines = _lines(found)
    lines += [f"rater  {one.name}  {one.num_judgements} judgements" for one in raters.raters]
    if raters.num_end_users:
        lines.append(f"raters  {raters.num_end_users} end users, {raters.num_by_end_users}")
    lines += [
        f"row {row.row_number}  {row.split.value}  {row.interaction_id or 'gone'}"
        for row in (rows.rows if rows else ())
    ]
    shown = {
        "version": found.version.name,
        "run": found.run,
        "dataset": found.dataset,
        "parents": [_relative(one.role, one.name, one.version) for one in found.parents],
        "children": [_relative(one.role, one.name, one.version) for one in found.children],
        "raters": raters,
        "rows": rows,
    }
    emit(shown, as_json=as_json, text="\n".join(lines))


@click.command(name="trained-on", help="Which versions learned from the interaction ID.")
@click.argument("interaction_id", metavar="ID")
@json_option
def trained_on(interaction_id: str, as_json: bool) -> None:
    """One line a version."""
    try:
        wanted = uuid.UUID(interaction_id)
    except ValueError as error:
        raise InvalidInput(f"{interaction_id!r} is no id of an interaction.") from error
    with reading() as db:
        found = find_trained_on(db, wanted, actor=SYSTEM)
    shown = [
        {
            "version": one.version.name,
            "version_id": one.version.id,
            "dataset": one.dataset,
            "rows": one.row_numbers,
            "splits": one.splits,
            "through": one.through,
        }
        for one in found
    ]
    lines = [_trained_line(one) for one in found]
    emit(shown, as_json=as_json, text="\n".join(lines) or "No version learned from it.")


@click.command(help="The model card of version NUMBER, in Markdown.")
@click.argument("number", type=int)
@model_option
@click.option("--out", type=click.Path(path_type=Path), help="Write it to this file.")
@json_option
def card(number: int, model_name: str, out: Path | None, as_json: bool) -> None:
    """Written from the facts as they are now."""
    from rlhf_core.jobs.model_exchange import read_card

    with reading() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        text = read_card(db, version.id, actor=SYSTEM)
    if out is not None:
        try:
            out.write_text(text)
        except OSError as error:
            raise InvalidInput(f"{out} cannot be written: {error.strerror or error}.") from error
        emit({"path": str(out)}, as_json=as_json, text=f"Written to {out}.")
        return
    emit({"version": version.name, "card": text}, as_json=as_json, text=text)


@click.command(help="Replace the tags of version NUMBER; without any, remove them.")
@click.argument("number", type=int)
@click.argument("words", metavar="[TAG]...", nargs=-1)
@model_option
@json_option
def tags(number: int, words: tuple[str, ...], model_name: str, as_json: bool) -> None:
    """Short words to find it by."""
    with writing() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        kept = set_tags(db, version.id, actor=SYSTEM, tags=words)
    emit(kept, as_json=as_json, text=f"{version.name}: {', '.join(kept) or 'no tags'}")


@click.command(help="Replace the notes of version NUMBER; an empty text removes them.")
@click.argument("number", type=int)
@click.argument("text")
@model_option
@json_option
def notes(number: int, text: str, model_name: str, as_json: bool) -> None:
    """For those who come later."""
    with writing() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        set_notes(db, version.id, actor=SYSTEM, notes=text)
    emit({"version": version.name}, as_json=as_json, text=f"Notes of {version.name} are kept.")


@click.command(help="What was live at a moment (UTC): production, and who had part of the traffic.")
@model_option
@click.option("--at", type=click.DateTime(MOMENTS), help="Default: now.")
@json_option
def live(model_name: str, at: datetime | None, as_json: bool) -> None:
    """Production and the deployment of that moment."""
    from rlhf_core.release.live import read_live_at

    moment = datetime.now(UTC) if at is None else at.replace(tzinfo=UTC)
    with reading() as db:
        found = read_live_at(db, model_name, moment, actor=SYSTEM)
    said = f"{moment:%Y-%m-%d %H:%M:%S} UTC: {found.production or 'nothing was promoted yet'}"
    if found.deployment is not None:
        said += f"; {found.deployment.name} had {found.traffic_percent or 0:g} % of the traffic"
    emit(found, as_json=as_json, text=said)


def _lines(found: Lineage) -> list[str]:
    lines = [found.version.name]
    if found.run is not None:
        lines.append(f"run  {found.run.id}  {found.run.kind.value}  {found.run.state.value}")
    if found.dataset is not None:
        gone = f", {found.dataset.num_gone:,} gone since" if found.dataset.num_gone else ""
        lines.append(f"dataset  {found.dataset.name}  {found.dataset.num_rows:,} rows{gone}")
    lines += [f"{ROLES[one.role]}  {one.name}" for one in found.parents]
    return [*lines, *(f"is in  {one.name} ({ROLES[one.role]} it)" for one in found.children)]


def _relative(role: str, name: str, version: object) -> dict[str, object]:
    return {"role": role, "name": name, "version_id": getattr(version, "id", None)}


def _trained_line(one: TrainedOn) -> str:
    rows = ", ".join(str(number) for number in one.row_numbers[:10])
    parts = "/".join(split.value for split in one.splits)
    through = f"  {one.through}" if one.through else ""
    return f"{one.version.name}  {one.dataset} row {rows} ({parts}){through}"


COMMANDS = (lineage, trained_on, card, tags, notes, live)
