"""What may be set of each way to train a policy; the usual things first, the rest folded."""

from dataclasses import MISSING, fields, replace
from typing import Any

import streamlit as st

from pages._ui.launch_options import LEARNING_RATE, LORA, PRECISION, SEED, Option, ask_each
from rlhf_core.jobs.policy_params import TrainPolicyParams, params_class
from rlhf_core.vocabulary import JobKind

SAMPLING = (JobKind.TRAIN_PPO, JobKind.TRAIN_RLOO, JobKind.TRAIN_GRPO)
SHARE: dict[str, Any] = {"low": 0.0, "high": 1.0, "step": 0.05}
USUAL: tuple[Option, ...] = (
    Option(
        "updates",
        "Updates",
        "Each update samples answers, rewards them and learns from them.",
        low=1,
        high=1_000_000,
    ),
    Option(
        "epochs",
        "Epochs",
        "How often every row is seen. More takes longer and may learn the rows by heart.",
        low=1,
        high=1_000,
    ),
    Option("batch_size", "Rows a step", "More is steadier and takes longer.", low=1, high=65_536),
    Option(
        "micro_batch_size",
        "Rows at once",
        "How many run through the model together. It decides the memory, not the result: halve it "
        "where memory runs out.",
        low=1,
        high=65_536,
    ),
    Option(
        "num_generations",
        "Answers a prompt",
        "They are compared with each other: the better ones become likelier.",
        low=2,
        high=1_024,
    ),
    Option(
        "response_tokens",
        "Longest answer (tokens)",
        "A token is about three quarters of a word. Time and memory grow with it.",
        low=1,
        high=100_000,
        step=16,
    ),
    replace(
        LEARNING_RATE,
        help=f"{LEARNING_RATE.help} Left as it is, a base of under 50 million weights gets more.",
    ),
    Option(
        "kl_coef",
        "Price of departing (KL)",
        "What each nat of KL to the reference costs. Raise it where the answers degenerate.",
        low=0.0,
        high=100.0,
        step=0.01,
        format="%.3f",
    ),
    Option(
        "beta",
        "Beta",
        "How much a departure from the base counts: a lower one departs further.",
        low=0.0,
        high=100.0,
        step=0.01,
        format="%.3f",
    ),
    LORA,
    PRECISION,
    SEED,
)
MORE: tuple[Option, ...] = (
    Option(
        "prompt_tokens",
        "Longest prompt (tokens)",
        "Longer prompts are left out, and the run says how many.",
        low=1,
        high=1_000_000,
        step=64,
    ),
    Option(
        "temperature",
        "Temperature",
        "Of sampling: higher makes answers more various.",
        low=0.01,
        high=10.0,
        step=0.1,
    ),
    Option(
        "max_tokens",
        "Tokens learned from in all",
        "Bounds the time, for any number of interactions.",
        low=1_000,
        high=10_000_000_000,
        step=100_000,
    ),
    Option("vocab_size", "Vocabulary", "Tokens that it knows.", low=300, high=65_536, step=256),
    Option("hidden_size", "Width", "Numbers a token.", low=16, high=4_096, step=64),
    Option("layers", "Layers", "More can learn more, and take longer.", low=1, high=64),
    Option("heads", "Heads of attention", "They share the width evenly.", low=1, high=64),
    Option(
        "prompt_weight",
        "Weight of the prompts",
        "How much the words of prompts count beside those of completions.",
        **SHARE,
    ),
    Option(
        "margin_weight",
        "Weight of the margin",
        "By how much a clearer preference is to lead more.",
        low=0.0,
        high=10.0,
        step=0.05,
    ),
    Option(
        "good_weight",
        "Weight of good answers",
        "None gives good and bad ones the same weight in all.",
        low=0.001,
        high=1_000.0,
    ),
    Option("bad_weight", "Weight of bad answers", "Of each one.", low=0.001, high=1_000.0),
    Option(
        "divergence",
        "What the student copies",
        "0: all that the teacher might say; 1: only what it is likely to say.",
        **SHARE,
    ),
    Option(
        "normalize_advantages",
        "Scale the advantages",
        "To deviation 1 over an update: steadier where rewards vary much.",
    ),
    Option(
        "scale_rewards",
        "Advantages are divided by",
        "The deviation of rewards in a group of answers to one prompt, in all, or nothing.",
        choices=("group", "batch", "none"),
        names=("the group's spread", "the update's spread", "nothing"),
    ),
    Option(
        "keep_best",
        "Keep the best by the judge",
        "Of all checkpoints the one that the held-out judge likes most; off: the last one.",
    ),
    Option(
        "held_out_percent",
        "Prompts held out (%)",
        "The loss on them shows when rows are learned by heart.",
        low=0.0,
        high=50.0,
        step=5.0,
    ),
    Option(
        "ppo_epochs", "Passes an update", "How often an update's answers are seen.", low=1, high=100
    ),
    Option(
        "num_mini_batches",
        "Parts of a pass",
        "Each part is one step of the optimiser.",
        low=1,
        high=4_096,
    ),
    Option(
        "kl_target",
        "KL aimed at (nats an answer)",
        "With one, the price of departing adapts; none leaves it fixed.",
        low=0.001,
        high=10_000.0,
    ),
    Option(
        "kl_horizon",
        "Answers until the price adapts",
        "With a KL aimed at: more is slower.",
        low=1,
        high=1_000_000_000,
        step=1_000,
    ),
    Option("cliprange", "Clip of the policy", "Bounds a step.", low=0.01, high=10.0, step=0.05),
    Option(
        "cliprange_value", "Clip of the value", "Bounds the critic.", low=0.01, high=1e6, step=0.05
    ),
    Option("gamma", "Discount (gamma)", "Of later rewards; 1 counts all alike.", **SHARE),
    Option("lam", "Lambda", "Of generalised advantage estimation.", **SHARE),
    Option("vf_coef", "Weight of the value loss", "In the shared trunk.", high=100.0, step=0.05),
    Option(
        "entropy_coef",
        "Bonus for entropy",
        "Keeps the answers various.",
        high=10.0,
        step=0.001,
        format="%.4f",
    ),
    Option(
        "critic",
        "Critic",
        "Foretells the reward. A separate one takes more memory and disturbs the policy less.",
        choices=("shared", "separate"),
        names=("head on the policy", "separate model"),
    ),
    Option(
        "critic_layers", "Layers of a separate critic", "The lowest of the base.", low=1, high=1_000
    ),
    Option(
        "value_lr",
        "Learning rate of the critic",
        "Mostly higher than the policy's.",
        low=1e-7,
        high=1.0,
        step=1e-5,
        format="%.6f",
    ),
    Option("reward_clip", "Bound of a reward", "Larger ones count as this.", low=0.001, high=1e6),
    Option(
        "missing_eos_penalty",
        "Price of not ending",
        "Taken off where an answer reaches the longest length.",
        high=1e6,
    ),
    Option("center_rewards", "Centre the rewards", "Takes the first batch's mean off all."),
    Option(
        "schedule",
        "Learning rate over time",
        "After the warm-up.",
        choices=("constant", "linear"),
        names=("constant", "falls to 0"),
    ),
    Option(
        "warmup", "Warm-up (share of the steps)", "The rate rises at first.", high=0.9, step=0.05
    ),
    Option(
        "matrix_lr",
        "Learning rate of the matrices",
        "Of the hidden layers; the other rate is that of all else.",
        low=1e-6,
        high=1.0,
        step=0.001,
        format="%.4f",
    ),
    Option("weight_decay", "Weight decay", "Pulls weights towards 0.", step=0.01),
    Option("max_grad_norm", "Longest gradient", "Longer ones are cut.", low=0.001, high=1e6),
    Option(
        "gradient_checkpointing",
        "Save memory by computing twice",
        "Gradient checkpointing: less memory, about a third more time.",
    ),
    Option(
        "sharding",
        "Weights over several processes",
        "Dealt (FSDP2): for models that are too large for one device.",
        choices=("none", "fsdp2"),
        names=("each has all", "dealt"),
    ),
    Option(
        "generator",
        "Sampled by",
        "vLLM is quicker on a GPU, where it is installed.",
        choices=("own", "vllm"),
        names=("own", "vLLM"),
    ),
    Option(
        "merge_adapter",
        "Add the adapter to the weights",
        "Off: the result is the LoRA adapter alone, small and in need of its base.",
    ),
    Option("max_kl", "Stop above a KL of", "A guard: the run ends.", low=0.1, high=1e6),
    Option("max_ratio", "Stop above a ratio of", "A guard: the run ends.", low=1.01, high=1e6),
    Option("min_entropy_share", "Stop below this share of the first entropy", "A guard.", **SHARE),
    Option("min_length_share", "Stop below this share of the first length", "A guard.", **SHARE),
    Option("min_eos_share", "Stop below this share of answers that end", "A guard.", **SHARE),
    Option("patience", "Updates until a guard stops", "So many on end.", low=1, high=1_000_000),
    Option("sample_every", "Show answers every (steps)", "0 shows none.", high=1_000_000),
    Option(
        "checkpoint_every",
        "Checkpoint every (steps)",
        "A run goes on from the last one.",
        low=1,
        high=1_000_000,
    ),
)


def ask_policy_options(learner: JobKind, start: TrainPolicyParams | None) -> dict[str, Any]:
    """What is set otherwise than the learner would by itself."""
    defaults = policy_defaults(learner)
    begin = start.options if start is not None and start.learner is learner else {}
    with st.expander("Parameters", key="options"):
        chosen = ask_each(_of(USUAL, learner, defaults), defaults, begin, learner)
    with st.expander("More parameters", key="more_options"):
        chosen |= ask_each(_of(MORE, learner, defaults), defaults, begin, learner)
    hidden = {name: value for name, value in begin.items() if name not in offered_names(learner)}
    hidden.pop("teacher", None)  # asked for beside the base
    return {**hidden, **chosen}


def policy_defaults(learner: JobKind) -> dict[str, Any]:
    """What the learner does unless told otherwise, by the names of its parameters."""
    known = fields(params_class(learner))
    return {each.name: each.default for each in known if each.default is not MISSING}


def offered_names(learner: JobKind) -> set[str]:
    """The parameters that the page asks for."""
    defaults = policy_defaults(learner)
    return {option.name for option in (*USUAL, *MORE) if option.name in defaults}


def _of(options: tuple[Option, ...], learner: JobKind, defaults: dict[str, Any]) -> list[Option]:
    """Those that the learner knows, in words that fit it."""
    known = [option for option in options if option.name in defaults]
    if learner not in SAMPLING:
        return known
    return [
        replace(option, label="Answers an update") if option.name == "batch_size" else option
        for option in known
    ]
