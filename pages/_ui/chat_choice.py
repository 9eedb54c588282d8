"""Who answers in the chat: what serves, a version by name, or two side by side."""

import random
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages._ui.data import read_model_versions
from rlhf_core.accounts.permissions import SYSTEM, Actor, Permission
from rlhf_core.registry.service import POLICY_MODEL, find_production, get_version
from rlhf_core.release.assignment import read_running
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ModelKind

POLICIES = (ModelKind.POLICY, ModelKind.POLICY_REMOTE)
ONE, TWO = "One answer", "Two, blind"


@dataclass(frozen=True)
class Answerers:
    """Who may be asked `alone`, and who may be `compared` (two at least); what serves comes first.

    `is_free`: the person chooses which two.
    """

    alone: list[str]
    compared: list[str]
    is_free: bool


def find_answerers(actor: Actor) -> Answerers:
    """Who may be asked by this person.

    Who may not see the models compares the two that users get in a canary, and no others.
    """
    is_free = actor.may(Permission.READ_MODELS)
    with get_store().reading() as db:
        promoted = find_production(db, POLICY_MODEL)
        compared = [] if is_free else _list_tried(db)
    serving = [] if promoted is None else [promoted.name]
    alone = [POLICY_MODEL for _ in serving]
    if is_free:
        named = [one.name for one in read_model_versions(actor) if one.kind in POLICIES]
        alone += named
        compared = serving + [name for name in named if name not in serving]
    return Answerers(alone, compared, is_free)


def ask_models(found: Answerers) -> list[str]:
    """One model or, from the left, two in an order that chance decides; none where none is there.

    Of two the order is drawn anew each time: it is stored with what is asked.
    """
    mode = ONE
    if len(found.compared) > 1:
        mode = st.segmented_control(
            "Answers", [ONE, TWO], default=ONE, required=True, key="chat_mode", bind="query-params"
        )
    if mode == TWO:
        two = found.compared[:2]
        if found.is_free:
            one = st.selectbox("Compare", found.compared, key="chat_one", width=200)
            others = [name for name in found.compared if name != one]
            two = [one, st.selectbox("With", others, key="chat_other", width=200)]
        return random.SystemRandom().sample(two, 2)
    options = found.alone
    if len(options) > 1:
        return [
            st.selectbox(
                "Answered by",
                options,
                format_func=lambda name: "what serves" if name == POLICY_MODEL else name,
                key="chat_model",
                width=220,
            )
        ]
    return options[:1]


def _list_tried(db: Any) -> list[str]:
    """The two versions of the running deployment; none where it is one with two prompts."""
    running = read_running(db, POLICY_MODEL)
    if running is None or running.baseline_version_id in (None, running.version_id):
        return []
    ids = (running.baseline_version_id, running.version_id)
    return [get_version(db, one, actor=SYSTEM).name for one in ids if one is not None]
