"""How a policy is to be trained, from which base, and by which rewards."""

from collections.abc import Sequence

import streamlit as st

from pages._ui.messages import plain
from rlhf_core.jobs.policy_checks import PolicyAdvice
from rlhf_core.jobs.policy_params import (
    AUTO,
    NO_JUDGE,
    RULE,
    STARTER,
    RewardPart,
)
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.vocabulary import Alias, JobKind, ModelKind

PLEASE, FOLLOW, IMITATE, MAKE = (
    "Please a reward model", "Follow preferences", "Imitate good answers", "Make a small policy",
)  # fmt: skip
GOALS: dict[str, tuple[JobKind, ...]] = {
    PLEASE: (JobKind.TRAIN_PPO, JobKind.TRAIN_RLOO, JobKind.TRAIN_GRPO),
    FOLLOW: (JobKind.TRAIN_DPO, JobKind.TRAIN_KTO),
    IMITATE: (JobKind.TRAIN_SFT,),
    MAKE: (JobKind.TRAIN_STARTER, JobKind.DISTIL),
}
GOAL_OF = {kind: goal for goal, kinds in GOALS.items() for kind in kinds}
METHOD_NAMES = {
    JobKind.TRAIN_PPO: "PPO",
    JobKind.TRAIN_RLOO: "RLOO",
    JobKind.TRAIN_GRPO: "GRPO",
    JobKind.TRAIN_DPO: "DPO",
    JobKind.TRAIN_KTO: "KTO",
    JobKind.TRAIN_SFT: "SFT",
    JobKind.TRAIN_STARTER: "Starter",
    JobKind.DISTIL: "Distil",
}
METHOD_CAPTIONS = {
    JobKind.TRAIN_PPO: "Samples answers, rewards them, and learns with a critic that foretells the "
    "reward. The steadiest of the three.",
    JobKind.TRAIN_RLOO: "Compares several answers to a prompt with each other; no critic, less "
    "memory.",
    JobKind.TRAIN_GRPO: "As RLOO, with the group's spread taken out.",
    JobKind.TRAIN_DPO: "Learns from pairs, one answer better than the other; no reward model, no "
    "sampling, quick.",
    JobKind.TRAIN_KTO: "Learns from thumbs up and down, or ratings of single answers.",
    JobKind.TRAIN_SFT: "Supervised: learns to write as completions that people found good, and as "
    "corrections.",
    JobKind.TRAIN_STARTER: "A small model from nothing but your interactions, made on this machine "
    "in a minute or two. It imitates them as they are, good and bad.",
    JobKind.DISTIL: "A small policy learns to answer as a bigger tuned one does.",
}
REWARD_KINDS = (
    ModelKind.REWARD_SBERT,
    ModelKind.REWARD_TRANSFORMER,
    ModelKind.REWARD_STEPS,
    ModelKind.REWARD_ENSEMBLE,
)
AGGREGATES = {None: "as it was trained", "mean": "mean of its members", "min": "lowest of them"}


def choose_method(advice: PolicyAdvice, start: JobKind | None) -> JobKind:
    """The goal, then the way to it; the recommended one first, with why."""
    if advice.learner is None:
        st.info(f"**Train no policy yet.** {plain(advice.why)}", icon=":material/lightbulb:")
    wanted = start or advice.learner or JobKind.TRAIN_PPO
    goal = st.segmented_control(
        "Purpose", list(GOALS), default=GOAL_OF[wanted], required=True, key="policy_goal"
    )
    kinds = list(GOALS[goal or PLEASE])
    kinds.sort(key=lambda kind: kind is not advice.learner)
    captions = [METHOD_CAPTIONS[kind] for kind in kinds]
    if kinds[0] is advice.learner:
        captions[0] += f" {plain(advice.why)}"

    def name(kind: JobKind) -> str:
        return METHOD_NAMES[kind] + (" (recommended)" if kind is advice.learner else "")

    chosen = st.radio(
        "Method",
        kinds,
        index=kinds.index(start) if start in kinds else 0,
        format_func=name,
        captions=captions,
        key=f"method_{GOAL_OF[kinds[0]]}",
    )
    return chosen or kinds[0]


def name_version(version: ModelVersionView) -> str:
    """How parameters name a version: `assistant@3`."""
    return f"{version.model_name}@{version.number}"


def choose_base(
    versions: Sequence[ModelVersionView], start: str, *, label: str = "Base", key: str = "base"
) -> str:
    """What training begins from: the starter, a registered policy, or what is typed."""
    policies = {name_version(one): one for one in versions if one.kind is ModelKind.POLICY}
    offered = list(dict.fromkeys([STARTER, *policies, start]))

    def name(base: str) -> str:
        if base == STARTER:
            return "Starter (offline; made first where there is none)"
        return base if base not in policies else _name_policy(policies[base])

    chosen = st.selectbox(
        label,
        offered,
        index=offered.index(start),
        format_func=name,
        accept_new_options=True,
        key=key,
        help="The starter and every policy trained here are on this machine. Others are loaded by "
        "their hub id (such as Qwen/Qwen2.5-0.5B-Instruct), or from a folder: type either.",
    )
    return (chosen or STARTER).strip()


def _name_policy(version: ModelVersionView) -> str:
    serves = ", production" if Alias.PRODUCTION in version.aliases else ""
    learner = version.details.get("learner")
    how = METHOD_NAMES.get(JobKind(learner)) if learner in set(JobKind) else None
    return version.name + (f" ({how}{serves})" if how else serves)


def list_rewards(versions: Sequence[ModelVersionView], rules: Sequence[str]) -> dict[str, str]:
    """What can reward, by how parameters name it, in words; what serves comes first."""
    models = [one for one in versions if one.kind in REWARD_KINDS]
    models.sort(key=lambda one: (one.details.get("role") == "judge",
                                 Alias.PRODUCTION not in one.aliases))  # fmt: skip
    found = {name_version(one): _name_reward(one) for one in models}
    return found | {f"{RULE}{rule}": f"Rule {rule}" for rule in rules}


def _name_reward(version: ModelVersionView) -> str:
    marks = []
    if Alias.PRODUCTION in version.aliases:
        marks.append("production")
    if version.details.get("role") == "judge":
        marks.append("judge")
    return version.name + (f" ({', '.join(marks)})" if marks else "")


def choose_rewards(
    versions: Sequence[ModelVersionView],
    offered: dict[str, str],
    start: Sequence[RewardPart],
) -> tuple[RewardPart, ...]:
    """One or several rewards with their weights."""
    by_name = {name_version(one): one for one in versions}
    begun = {part.model: part for part in start}
    names = list(dict.fromkeys([*offered, *begun]))
    chosen = st.multiselect(
        "Reward",
        names,
        default=list(begun) or names[:1],
        format_func=lambda name: offered.get(name, name),
        key="rewards",
        help="What the answers are rewarded by. Several are summed by their weights.",
    )
    return tuple(
        _ask_part(
            by_name.get(name),
            begun.get(name) or RewardPart(name),
            offered.get(name, name),
            is_only=len(chosen) == 1,
        )
        for name in chosen
    )


def _ask_part(
    version: ModelVersionView | None, begin: RewardPart, label: str, *, is_only: bool
) -> RewardPart:
    """Weight, and what else this reward lets choose; nothing where there is nothing to choose."""
    aspects = [] if version is None else list(version.details.get("aspects") or {})
    is_ensemble = version is not None and version.kind is ModelKind.REWARD_ENSEMBLE
    if is_only and not aspects and not is_ensemble:
        return RewardPart(begin.model)
    key = begin.model
    weight, aggregate, weights = begin.weight, begin.aggregate, begin.aspects
    with st.container(border=True):
        if not is_only:
            weight = st.number_input(
                f"Weight of {plain(label)}",
                value=float(begin.weight),
                step=0.1,
                key=f"weight_{key}",
                help="Not 0; a negative weight punishes.",
            )
        if is_ensemble:
            rules = list(AGGREGATES)
            aggregate = st.selectbox(
                f"Members of {plain(label)}",
                rules,
                index=rules.index(begin.aggregate),
                format_func=lambda rule: AGGREGATES[rule],
                key=f"aggregate_{key}",
                help="The lowest is the most careful: a policy finds it harder to mislead all.",
            )
        if aspects:
            weights = _ask_aspects(aspects, begin.aspects, label, key)
    return RewardPart(begin.model, weight or 1.0, weights, aggregate)


def _ask_aspects(
    aspects: list[str], begin: dict[str, float] | None, label: str, key: str
) -> dict[str, float] | None:
    """Weights of the model's heads; None leaves them to the model."""
    if not st.toggle(
        f"Weigh the aspects of {plain(label)}", value=bool(begin), key=f"aspects_{key}"
    ):
        return None
    names = ["overall", *aspects]
    columns = st.columns(min(4, len(names)))
    found = {
        name: columns[place % len(columns)].number_input(
            plain(name.replace("_", " ").capitalize()),
            min_value=0.0,
            value=float((begin or {}).get(name, 1.0)),
            step=0.1,
            key=f"aspect_{key}_{name}",
        )
        for place, name in enumerate(names)
    }
    return {name: weight for name, weight in found.items() if weight} or None


def choose_judge(
    versions: Sequence[ModelVersionView],
    offered: dict[str, str],
    rewards: Sequence[RewardPart],
    start: str,
) -> str:
    """Who judges without being learned from."""
    used = {part.model for part in rewards}
    judges = [name for name in offered if name not in used]
    names = list(dict.fromkeys([AUTO, NO_JUDGE, *judges, start]))
    own = next((one.details.get("judge") for one in versions
                if name_version(one) in used and one.details.get("judge")), None)  # fmt: skip
    words = {AUTO: f"the reward's own ({own})" if own else "the reward's own (it has none)",
             NO_JUDGE: "none"}  # fmt: skip
    judge = st.selectbox(
        "Held-out judge",
        names,
        index=names.index(start),
        format_func=lambda name: words.get(name) or offered.get(name, name),
        key="judge",
        help="Judges the answers without rewarding them. It shows when the policy stops getting "
        "better and only learns to please the reward model; the best checkpoint by it is kept.",
    )
    judge = judge or AUTO
    if judge == NO_JUDGE or (judge == AUTO and not own):
        st.caption(
            ":material/visibility_off: Without a judge nobody sees when the policy only learns to "
            "please the reward model. A reward model can be trained with one."
        )
    return judge
