"""Checks of what lies behind a version: its files, its data's people, and the experts' word."""

from collections.abc import Mapping
from typing import Any

from rlhf_core.artifacts import open_lately
from rlhf_core.dataset.standing import Standing, count_licences
from rlhf_core.errors import RlhfError
from rlhf_core.gates.evidence import Examined
from rlhf_core.gates.vetoes import load_vetoes
from rlhf_core.gates.views import Finding, failed, not_measured, passed

Params = Mapping[str, Any]

NO_DATASET = "It names no frozen dataset: nothing here says what it learned from."
TRAIN_AGAIN = "Freeze the rows again and train another version."


def check_integrity(examined: Examined, params: Params) -> Finding:
    """Every byte of its files."""
    del params
    version = examined.version
    try:
        open_lately(version.folder, version.manifest_sha256)
    except RlhfError as error:
        return failed(str(error))
    return passed(
        f"All {version.num_bytes:,} bytes of its files are as they were registered.",
        bytes=version.num_bytes,
    )


def check_veto(examined: Examined, params: Params) -> Finding:
    """A veto of an expert stands until it is withdrawn."""
    del params
    standing = [one for one in load_vetoes(examined.db, examined.version.id)
                if one.withdrawn_at is None]  # fmt: skip
    if not standing:
        return passed("No expert's veto stands against it.", vetoes=0)
    said = "; ".join(f"{one.who or 'the command line'}: {one.reason}" for one in standing)
    return failed(f"Vetoed by {said}", vetoes=len(standing))


def check_consent(examined: Examined, params: Params) -> Finding:
    """Whoever opted out since the rows were frozen, and what the rows may be used for."""
    if not examined.learned_versions:
        return not_measured(NO_DATASET)
    standing = examined.standing
    most = int(params["max_rows"])
    numbers: dict[str, Any] = {"rows": standing.num_rows, "opted_out": standing.num_opted_out,
                               "limit": most}  # fmt: skip
    said = (
        f"{standing.num_opted_out:,} of {_rows(standing)} are of people who opted out since; "
        f"{most:,} at most is asked for."
    )
    if standing.num_opted_out > most:
        return failed(f"{said} {TRAIN_AGAIN}", **numbers)
    allowed = {one.strip().lower() for one in str(params["licences"]).split(",")} - {""}
    if not allowed:
        return passed(said, **numbers)
    return _check_licences(examined, allowed, said, numbers)


def _check_licences(
    examined: Examined, allowed: set[str], said: str, numbers: Mapping[str, Any]
) -> Finding:
    counts = count_licences(examined.db, examined.learned_versions)
    other = {name: count for name, count in counts.items()
             if name is not None and name.strip().lower() not in allowed}  # fmt: skip
    if other:
        named = ", ".join(f"{name} ({count:,} rows)" for name, count in sorted(other.items()))
        return failed(f"{said} Licences that are not allowed: {named}.", **numbers)
    if counts.get(None):
        return not_measured(
            f"{said} {counts[None]:,} rows name no licence: import them with a field `license`.",
            **numbers, unnamed=counts[None],
        )  # fmt: skip
    return passed(f"{said} All licences are allowed.", **numbers)


def check_erased(examined: Examined, params: Params) -> Finding:
    """What was erased or taken back since the rows were frozen."""
    if not examined.learned_versions:
        return not_measured(NO_DATASET)
    standing = examined.standing
    most, percent = int(params["max_erased"]), float(params["max_withdrawn_percent"])
    taken_back = 100.0 * standing.num_withdrawn / max(1, standing.num_rows)
    said = (
        f"Of {_rows(standing)} {standing.num_erased:,} were erased since ({most:,} at most is "
        f"asked for), and on {standing.num_withdrawn:,} ({taken_back:.1f} %) a rating was "
        f"withdrawn ({percent:g} % at most)."
    )
    numbers = {"rows": standing.num_rows, "erased": standing.num_erased,
               "withdrawn": standing.num_withdrawn, "limit": most}  # fmt: skip
    if standing.num_erased > most or taken_back > percent:
        return failed(f"{said} {TRAIN_AGAIN}", **numbers)
    return passed(said, **numbers)


def _rows(standing: Standing) -> str:
    return f"{standing.num_rows:,} rows learned from ({', '.join(standing.names)})"
