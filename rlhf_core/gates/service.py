"""The one way on which versions reach users: checked by the rules, moved, and the evidence kept."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import open_lately
from rlhf_core.errors import GatesFailed, InvalidInput, RlhfError
from rlhf_core.gates import data, figures, manner
from rlhf_core.gates.canary import check_canary
from rlhf_core.gates.evidence import Examined
from rlhf_core.gates.rules import (
    NEVER_OVERRIDDEN,
    SPECS,
    list_rules,
    read_rules,
    reset_rules,
    set_rule,
)
from rlhf_core.gates.vetoes import hold_model, list_vetoes, set_veto, withdraw_veto
from rlhf_core.gates.views import Finding, GateResult, RuleView, list_blocking
from rlhf_core.registry.reasons import clean_reason
from rlhf_core.registry.service import (
    find_roll_back_target,
    get_version,
    promote_version,
)
from rlhf_core.registry.service import roll_back as move_back
from rlhf_core.registry.views import AliasView, ModelVersionView, storable
from rlhf_core.release.service import close_for_move, describe_evidence
from rlhf_core.release.starting import SERVED
from rlhf_core.vocabulary import DeploymentState, GateKind, GateState

__all__ = [
    "check_gates",
    "check_share",
    "list_rules",
    "list_vetoes",
    "promote_by_gates",
    "reset_rules",
    "roll_back_to",
    "set_rule",
    "set_veto",
    "verify_files",
    "withdraw_veto",
]

CHECKS: dict[GateKind, Callable[[Examined, Mapping[str, Any]], Finding]] = {
    GateKind.INTEGRITY: data.check_integrity,
    GateKind.NUM_ROWS: figures.check_num_rows,
    GateKind.QUALITY: figures.check_quality,
    GateKind.NOT_WORSE: figures.check_not_worse,
    GateKind.CALIBRATION: figures.check_calibration,
    GateKind.LENGTH_DRIFT: manner.check_length,
    GateKind.KL: manner.check_kl,
    GateKind.SYCOPHANCY: manner.check_sycophancy,
    GateKind.BLIND_WINS: manner.check_blind_wins,
    GateKind.CANARY: check_canary,
    GateKind.VETO: data.check_veto,
    GateKind.CONSENT: data.check_consent,
    GateKind.ERASED_ROWS: data.check_erased,
}
MAX_SMALL_SHARE = 50.0
"""Percent of the traffic. Beyond, most users have the version: it is asked what production is."""


def check_gates(
    db: Session,
    version_id: uuid.UUID,
    *,
    actor: Actor,
    for_share: bool = False,
    to_roll_back: bool = False,
) -> tuple[GateResult, ...]:
    """What each rule that is on for such a model says of the version, in the rules' order.

    `for_share`: of a small share of the traffic, which is there to measure: only the rules on
    files, data and vetoes keep a version from that, the others warn. `to_roll_back`: only those
    rules are asked, for a roll back cannot wait for a measurement.

    The version's files are read. Raises NotFound where there is no such version.
    """
    require(actor, Permission.READ_MODELS)
    version = get_version(db, version_id, actor=actor)
    examined = Examined(db, actor, version)
    return tuple(
        _apply(rule, examined, for_share=for_share)
        for rule in read_rules(db, version.model_id)
        if rule.is_on
        and version.kind in SPECS[rule.kind].models
        and (SPECS[rule.kind].for_share or not to_roll_back)
    )


def check_share(
    db: Session,
    version_id: uuid.UUID,
    *,
    actor: Actor,
    percent: float,
    override_reason: str | None = None,
) -> dict[str, Any]:
    """The rules' word on giving the version that share of the traffic, to be kept with it.

    Above `MAX_SMALL_SHARE` all rules decide, as on a promotion.

    Raises GatesFailed, Forbidden and InvalidInput as `promote_by_gates`.
    """
    require(actor, Permission.PROMOTE_MODELS)
    hold_model(db, version_id=version_id)
    version = get_version(db, version_id, actor=actor)
    results = check_gates(db, version_id, actor=actor, for_share=percent <= MAX_SMALL_SHARE)
    return _decide(db, version, results, actor=actor, override_reason=override_reason)


def verify_files(db: Session, version_id: uuid.UUID | None, *, actor: Actor) -> None:
    """Read the version's files, so that a decision on it in the next minutes need not.

    To be called in a session for reads, before the transaction that decides: while that one read
    gigabytes, nobody else could write to SQLite. What is wrong is said by the decision.
    """
    require(actor, Permission.READ_MODELS)
    if version_id is not None:
        with suppress(RlhfError):
            version = get_version(db, version_id, actor=actor)
            open_lately(version.folder, version.manifest_sha256)


def promote_by_gates(
    db: Session,
    version_id: uuid.UUID,
    *,
    actor: Actor,
    reason: str,
    expected_revision: int | None = None,
    override_reason: str | None = None,
) -> AliasView:
    """Let the version serve all requests, if it keeps the rules.

    What the rules said is kept with the move, and the verdict of the deployment that runs on the
    model, which the move ends (promoted where it is this version's own). `override_reason` passes
    over rules that it breaks, but never over damaged files.

    Raises:
        GatesFailed: it breaks required rules; the message names them.
        Forbidden: the actor may not promote, or not pass over rules.
        Conflict: somebody moved the alias meanwhile, or it serves already.
        InvalidInput: it is deleted, or no reason is given.
        NotFound: there is no such version.
    """
    require(actor, Permission.PROMOTE_MODELS)
    hold_model(db, version_id=version_id)
    version = get_version(db, version_id, actor=actor)
    if version.deleted_at is not None:
        raise InvalidInput(f"{version.name} is deleted: choose another version.")
    results = check_gates(db, version_id, actor=actor)
    evidence = _decide(db, version, results, actor=actor, override_reason=override_reason)
    evidence |= _end_running(db, version, actor=actor, reason=reason)
    return promote_version(
        db, version_id, actor=actor, reason=reason, expected_revision=expected_revision,
        evidence=evidence,
    )  # fmt: skip


def roll_back_to(
    db: Session,
    model_name: str,
    *,
    actor: Actor,
    reason: str,
    version_id: uuid.UUID | None = None,
    expected_revision: int | None = None,
    override_reason: str | None = None,
) -> AliasView:
    """Let an earlier version serve again: the one before, or any that served once.

    Only files, data and vetoes are asked about: what served once is trusted when the newer one
    does harm, unless something was said against it. A deployment that runs on the model ends with
    the move.

    Raises:
        Conflict: there is none, it never served, or somebody moved the alias meanwhile.
        GatesFailed: a veto stands, its data was taken back, or its files are damaged.
        Forbidden, InvalidInput, NotFound, Unavailable: as in `promote_by_gates`.
    """
    require(actor, Permission.PROMOTE_MODELS)
    hold_model(db, name=model_name)
    target = version_id or find_roll_back_target(db, model_name, actor=actor)
    evidence: dict[str, Any] = {}
    if target is not None:
        version = get_version(db, target, actor=actor)
        results = check_gates(db, target, actor=actor, to_roll_back=True)
        evidence = _decide(db, version, results, actor=actor, override_reason=override_reason)
        _end_running(db, version, actor=actor, reason=reason)
    return move_back(
        db, model_name, actor=actor, reason=reason, version_id=target,
        expected_revision=expected_revision, evidence=evidence,
    )  # fmt: skip


def _apply(rule: RuleView, examined: Examined, *, for_share: bool) -> GateResult:
    spec = SPECS[rule.kind]
    finding = CHECKS[rule.kind](examined, rule.params)
    numbers = {name: storable(number) for name, number in finding.numbers.items()}
    return GateResult(
        kind=rule.kind,
        state=finding.state,
        sentence=finding.sentence,
        numbers=numbers,
        is_required=rule.is_required and (spec.for_share or not for_share),
        must_be_measured=rule.must_be_measured
        and not (rule.spares_first and examined.production is None),
    )


def _decide(
    db: Session,
    version: ModelVersionView,
    results: tuple[GateResult, ...],
    *,
    actor: Actor,
    override_reason: str | None,
) -> dict[str, Any]:
    """The evidence, unless a rule blocks and is not passed over."""
    evidence: dict[str, Any] = {"gates": [result.to_json() for result in results]}
    blocking = list_blocking(results)
    if not blocking:
        return evidence
    names = tuple(result.kind.value for result in blocking)
    firm = tuple(result for result in blocking if result.kind in NEVER_OVERRIDDEN)
    if override_reason is None or firm:
        raise GatesFailed(_refusal(version, firm or blocking, bool(firm)), failed=names)
    require(actor, Permission.OVERRIDE_GATES)
    reason = clean_reason(
        override_reason,
        ask="Say why the rules are passed over: the reason is kept in the audit.",
        field="override_reason",
    )
    record_event(
        db, actor=actor, action="gates.override", target_kind="model_version",
        target_id=version.id,
        details={"model": version.model_name, "number": version.number, "rules": list(names),
                 "reason": reason},
    )  # fmt: skip
    return evidence | {"overridden": list(names), "override_reason": reason}


def _refusal(version: ModelVersionView, blocking: tuple[GateResult, ...], is_firm: bool) -> str:
    said = " ".join(
        f"{SPECS[result.kind].title} ({_word(result.state)}): {result.sentence}"
        for result in blocking
    )
    way = (
        "No reason passes over that."
        if is_firm
        else "Mend that, or let an admin pass over it with a reason."
    )
    return f"{version.name} does not keep the rules. {said} {way}"


def _word(state: GateState) -> str:
    return state.value.replace("_", " ")


def _end_running(
    db: Session, version: ModelVersionView, *, actor: Actor, reason: str
) -> dict[str, Any]:
    """End what runs on the model, for production is about to move; its own verdict is evidence."""
    if version.model_name not in SERVED:
        return {}
    ended = close_for_move(
        db, version.model_name, actor=actor, version_id=version.id, reason=reason
    )
    if ended is None or ended.state is not DeploymentState.PROMOTED:
        return {}
    return describe_evidence(ended)
