"""Launch training: a reward model or a policy; what it needs, costs, and one button."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.launch_copy import find_copied
from pages._ui.launch_policy import PART_KEY, POLICY_PART, REWARD_PART, show_policy_launch
from pages._ui.launch_reward import show_reward_launch
from pages._ui.messages import reporting
from rlhf_core.accounts.permissions import Permission
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.jobs.train_params import TrainRewardParams

actor = require_page(Permission.RUN_JOBS)
ABOUT = {
    REWARD_PART: "A reward model learns from feedback which completions people find good. It can "
    "then rerank candidates by how likely they are to please, and train a policy.",
    POLICY_PART: "A policy is the model that answers. It learns from a reward model, from "
    "preferences or from good answers, and stays near the base that it began from.",
}
st.title("Launch training")
copied = find_copied()
part = st.segmented_control(
    "What to train",
    [REWARD_PART, POLICY_PART],
    default=POLICY_PART if isinstance(copied, TrainPolicyParams) else REWARD_PART,
    required=True,
    key=PART_KEY,
    label_visibility="collapsed",
)
st.caption(ABOUT[part or REWARD_PART])
with reporting():
    if part == POLICY_PART:
        show_policy_launch(actor, copied if isinstance(copied, TrainPolicyParams) else None)
    else:
        show_reward_launch(actor, copied if isinstance(copied, TrainRewardParams) else None)
