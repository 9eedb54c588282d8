"""Reads that many reruns share. What a person just changed is never read from here."""

import streamlit as st

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.builder import FilterValues, list_filter_values
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.readiness import Readiness, check_readiness
from rlhf_core.dataset.service import DatasetVersionView, list_versions
from rlhf_core.feedback.assignment import count_interactions
from rlhf_core.jobs.policy_checks import PolicyAdvice, check_policy, recommend_policy
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.registry.service import list_versions as list_model_versions
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store


@st.cache_data(ttl=15, show_spinner=False)
def read_num_interactions(_actor: Actor) -> int:
    """How many interactions there are, at most 15 s old: counting a million takes a while."""
    with get_store().reading() as db:
        return count_interactions(db, actor=_actor)


@st.cache_data(ttl=15, max_entries=100, show_spinner=False)
def read_readiness(_actor: Actor, params: DatasetParams) -> Readiness:
    """What rows made so would be, at most 15 s old: it reads all feedback."""
    with get_store().reading() as db:
        return check_readiness(db, actor=_actor, params=params)


@st.cache_data(ttl=30, show_spinner=False)
def read_filter_values(_actor: Actor) -> FilterValues:
    """What there is to filter by, at most 30 s old."""
    with get_store().reading() as db:
        return list_filter_values(db)


@st.cache_data(ttl=15, show_spinner=False)
def read_advice(_actor: Actor) -> PolicyAdvice:
    """Which way of training a policy suits what there is, at most 15 s old."""
    with get_store().reading() as db:
        return recommend_policy(db, actor=_actor)


@st.cache_data(ttl=10, max_entries=100, show_spinner=False)
def read_obstacles(_actor: Actor, params: TrainPolicyParams) -> list[str]:
    """What stands against a run, at most 10 s old: it reads all rows. The start looks again."""
    with get_store().reading() as db:
        return check_policy(db, actor=_actor, params=params)


def read_model_versions(actor: Actor) -> list[ModelVersionView]:
    """The versions of all models, newest first by model."""
    with get_store().reading() as db:
        return list_model_versions(db, actor=actor)


def read_dataset_versions(actor: Actor) -> list[DatasetVersionView]:
    """The frozen versions, by name, newest first."""
    with get_store().reading() as db:
        return list_versions(db, actor=actor)
