"""What may get part of the traffic. Each refusal is a sentence that says what to do."""

import math
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import Conflict, InvalidInput, NotFound
from rlhf_core.registry.service import POLICY_MODEL, REWARD_MODEL
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import Job, ModelVersion
from rlhf_core.vocabulary import DeploymentKind, JobState, ModelKind

SERVED = (REWARD_MODEL, POLICY_MODEL)
"""The models that answer requests; no other has traffic to share."""
MAX_PERCENT = 99.0
"""The rest is needed to compare with: without it nobody sees that only the treatment fails."""
POLICIES = frozenset({ModelKind.POLICY, ModelKind.POLICY_REMOTE})
MAX_PROMPT_CHARS = 20_000


def get_version_of_run(db: Session, job_id: uuid.UUID, *, actor: Actor) -> ModelVersionView:
    """The version that a training run made.

    Raises:
        Conflict: the run failed, was canceled, is not done, or trains nothing.
        NotFound: there is no such run.
    """
    require(actor, Permission.READ_MODELS)
    found = load_versions(db, ModelVersion.job_id == job_id)
    if found:
        return found[0]
    state = db.scalar(sa.select(Job.state).where(Job.id == job_id))
    match state:
        case None:
            raise NotFound(f"There is no run {job_id}.")
        case JobState.QUEUED | JobState.RUNNING:
            raise Conflict(f"The run {job_id} is {state.value} and has no version yet: wait.")
        case JobState.SUCCEEDED:
            raise Conflict(f"The run {job_id} made no model: name one that trained a model.")
        case JobState.FAILED | JobState.CANCELED:
            raise Conflict(
                f"The run {job_id} {'failed' if state is JobState.FAILED else 'was canceled'}: it "
                "made no version. Start it again, or choose a version of another run."
            )


def check_share(kind: DeploymentKind, percent: float) -> None:
    """Refuse what is no share of the traffic, or leaves nobody to compare with."""
    if not math.isfinite(percent) or not 0 < percent <= 100:
        raise InvalidInput(
            f"{percent:g} % is no share of the traffic: give more than 0 and less than 100.",
            field="traffic_percent",
        )
    if percent == 100 and kind is not DeploymentKind.INTERLEAVING:
        raise InvalidInput(
            "With 100 % nobody is left to compare with: promote the version instead.",
            field="traffic_percent",
        )
    if percent > MAX_PERCENT and kind is DeploymentKind.INTERLEAVING:
        raise InvalidInput(
            f"An interleaving test has at most {MAX_PERCENT:g} % of the traffic, not {percent:g}: "
            "the rest shows whether the version fails more often.",
            field="traffic_percent",
        )


def check_sides(
    model_name: str,
    version: ModelVersionView,
    production: ModelVersionView,
    *,
    kind: DeploymentKind,
    control_prompt: str | None,
    treatment_prompt: str | None,
) -> None:
    """Refuse a treatment that cannot take the place of what serves, or that is no other."""
    if version.model_name != model_name:
        raise InvalidInput(
            f"{version.name} is no version of {model_name!r}: choose one of that model.",
            field="version_id",
        )
    if version.deleted_at is not None:
        raise InvalidInput(f"{version.name} is deleted: choose another one.", field="version_id")
    if (version.kind in POLICIES) != (model_name == POLICY_MODEL):
        raise InvalidInput(
            f"{version.name} is of kind {version.kind.value}, which cannot answer for "
            f"{model_name!r}: choose another version.",
            field="version_id",
        )
    if kind is DeploymentKind.INTERLEAVING and model_name != REWARD_MODEL:
        raise InvalidInput(
            f"Only the order of a reranker can be interleaved, not answers of {model_name!r}: "
            "start a canary.",
            field="kind",
        )
    is_same = version.id == production.id
    if control_prompt is None and treatment_prompt is None:
        if is_same:
            raise InvalidInput(
                f"{version.name} serves already: choose another version.", field="version_id"
            )
        return
    _check_prompts(model_name, kind, control_prompt, treatment_prompt)
    if not is_same:
        raise InvalidInput(
            f"A test of system prompts is of one version, the one that serves "
            f"({production.name}): with {version.name} nobody could say what made the difference.",
            field="version_id",
        )


def _check_prompts(
    model_name: str, kind: DeploymentKind, control: str | None, treatment: str | None
) -> None:
    if kind is not DeploymentKind.AB_TEST or model_name != POLICY_MODEL:
        raise InvalidInput(
            f"System prompts are tested in an A/B test of {POLICY_MODEL!r}: leave them out here.",
            field="treatment_prompt",
        )
    if control == treatment:
        raise InvalidInput(
            "Both system prompts are the same: change one.", field="treatment_prompt"
        )
    for field, prompt in (("control_prompt", control), ("treatment_prompt", treatment)):
        if prompt is not None and (not prompt.strip() or "\0" in prompt):
            raise InvalidInput("A system prompt has text, or is left out.", field=field)
        if prompt is not None and len(prompt) > MAX_PROMPT_CHARS:
            raise InvalidInput(
                f"A system prompt has at most {MAX_PROMPT_CHARS:,} characters, not "
                f"{len(prompt):,}.",
                field=field,
            )
