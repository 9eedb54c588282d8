"""What the figures of models are called, in words. No Streamlit here."""

import re
from dataclasses import dataclass
from typing import Any

from rlhf_core.vocabulary import JobKind, ModelKind

LOWER = " (lower is better)"
METRIC_NAMES = {  # also the order in which they are shown
    "auc": "AUC (0.5 is a coin toss, 1 is perfect)",
    "length_only_auc": "AUC by the length of the text alone",
    "gain_over_length_auc": "AUC gained over length alone",
    "pair_accuracy": "Pairs put in the right order",
    "length_only_pair_accuracy": "Pairs put in the right order by length alone",
    "first_error_f1": "First wrong step found (F1)",
    "first_error_accuracy": "First wrong step found exactly",
    "erroneous_accuracy": "First wrong step found, where there is one",
    "faultless_accuracy": "No mistake found, where there is none",
    "accuracy": "Accuracy (share of right answers)",
    "majority_accuracy": "Accuracy of always giving the more frequent answer",
    "spearman": "Rank correlation with ratings (Spearman)",
    "brier": "Brier score" + LOWER,
    "base_rate_brier": "Brier score of always saying the share of good ones",
    "ece": "Calibration error" + LOWER,
    "uncalibrated_ece": "Calibration error before calibration" + LOWER,
    "share_good": "Share of completions rated good",
    "num_members": "Models in the ensemble",
    "regularisation": "Regularisation, chosen by the prompts left out",
    "temperature": "Temperature of the calibration",
    "loss": "Loss" + LOWER,
    "epoch_train_loss": "Loss of an epoch on the rows trained on" + LOWER,
    "held_out_loss": "Loss of an epoch on prompts held out" + LOWER,
    "learning_rate": "Learning rate",
    "gradient_norm": "Norm of the gradient",
    "win_rate": "Wins against the base (0.5 is a tie)",
    "win_rate_length_controlled": "Wins against the base, were answers equally long",
    "win_rate_production": "Wins against production",
    "tie_share": "Ties with the base",
    "reward": "Reward of the answers",
    "reward_gain": "Reward gained over the base",
    "held_out_reward": "Reward by the held-out judge",
    "first_reward": "Reward before the first update",
    "first_held_out_reward": "Reward by the held-out judge before the first update",
    "kl": "KL to the reference (nats an answer)",
    "sqrt_kl": "Square root of the KL to the reference",
    "entropy": "Entropy (nats a token)",
    "length": "Length of an answer (tokens)",
    "words": "Length of an answer (words)",
    "eos_share": "Answers that end by themselves",
    "refusal_share": "Answers that refuse",
    "distinct_1": "Different words among all",
    "distinct_2": "Different pairs of words among all",
    "distinct_3": "Different triples of words among all",
    "opening_share": "Answers with the commonest opening",
    "eval_loss": "Loss on rows held out" + LOWER,
    "perplexity": "Perplexity on prompts held out" + LOWER,
    "margin": "Margin between the better and the worse answer",
    "policy_loss": "Policy loss",
    "value_loss": "Value loss" + LOWER,
    "explained_variance": "Explained variance of the critic (1 is perfect)",
    "ratio": "Ratio of new to old probability (1 is unchanged)",
    "clipfrac": "Clipped share of the tokens",
    "kl_coef": "Price of the KL",
    "lr": "Learning rate",
    "tokens_per_s": "Tokens of answers a second",
    "generation_share": "Share of the time that sampling takes",
    "memory_mb": "Memory (MiB)",
    "latency_s": "Seconds that an answer takes",
}
METRIC_ORDER = {name: place for place, name in enumerate(METRIC_NAMES)}
MAIN_METRICS = ("auc", "pair_accuracy", "first_error_f1", "accuracy", "spearman", "brier", "ece")
"""What a model is judged by; other figures are what these are compared with."""
POLICY_METRICS = (
    "win_rate",
    "win_rate_length_controlled",
    "win_rate_production",
    "reward",
    "first_reward",
    "held_out_reward",
    "first_held_out_reward",
    "eval_loss",
    "perplexity",
    "accuracy",
    "kl",
    "length",
    "eos_share",
)
"""What a policy is judged by."""
SHORT_NAMES = {  # headings of columns
    "auc": "AUC",
    "pair_accuracy": "Pair order",
    "first_error_f1": "First error F1",
    "accuracy": "Accuracy",
    "spearman": "Spearman",
    "brier": "Brier",
    "ece": "ECE",
    "reward": "Reward",
    "held_out_reward": "Judge",
    "kl": "KL",
    "length": "Length",
    "eos_share": "Ends",
    "distinct_2": "Distinct-2",
    "win_rate": "Wins",
}
BASELINE_NAMES = {  # heading and explanation; also the order of the columns
    "length_only": (
        "Length alone",
        "What the length of prompt and completion tells by itself.",
    ),
    "majority": ("Majority", "Always giving the more frequent answer."),
    "base_rate": ("Base rate", "Always saying the share of good ones."),
    "uncalibrated": ("Uncalibrated", "The same model before its calibration."),
    "always_last": ("Always last", "Always calling the last step the first wrong one."),
    "always_first": ("Always first", "Always calling the first step the wrong one."),
    "logistic": ("Logistic", "A logistic regression on the words and place of each step."),
    "rater_agreement": ("Raters agree", "How often raters agree with each other: the ceiling."),
}
SEGMENT_NAMES = {
    "action_type": "Action",
    "source": "Source",
    "language": "Language",
    "model_name": "Model",
    "length": "Length",
    "number of steps": "Steps",
}
MODEL_KIND_NAMES = {
    ModelKind.REWARD_SBERT: "Sentence embeddings",
    ModelKind.REWARD_TRANSFORMER: "Transformer",
    ModelKind.REWARD_STEPS: "Steps",
    ModelKind.REWARD_ENSEMBLE: "Ensemble",
    ModelKind.POLICY: "Policy",
    ModelKind.POLICY_REMOTE: "Policy on another server",
}
JOB_KIND_NAMES = {
    JobKind.TRAIN_SBERT: "Reward model (sentence embeddings)",
    JobKind.TRAIN_TRANSFORMER: "Reward model (transformer)",
    JobKind.TRAIN_STEPS: "Reward model (steps)",
    JobKind.TRAIN_STARTER: "Policy (starter)",
    JobKind.TRAIN_SFT: "Policy (SFT)",
    JobKind.TRAIN_DPO: "Policy (DPO)",
    JobKind.TRAIN_KTO: "Policy (KTO)",
    JobKind.TRAIN_RLOO: "Policy (RLOO)",
    JobKind.TRAIN_GRPO: "Policy (GRPO)",
    JobKind.TRAIN_PPO: "Policy (PPO)",
    JobKind.DISTIL: "Policy (distilled)",
    JobKind.JOIN: "Part of a run on several machines",
    JobKind.EVALUATE: "Evaluation of a model",
    JobKind.EVALUATE_POLICY: "Evaluation of policies",
    JobKind.RETRAIN: "Retraining",
    JobKind.SCORE: "Scoring of stored interactions",
    JobKind.CLUSTER_FAILURES: "Search for groups of failures",
    JobKind.COMPARE_VERSIONS: "Comparison of versions",
    JobKind.IMPORT: "Import of a file",
}
POLICY_KINDS = (
    JobKind.TRAIN_PPO,
    JobKind.TRAIN_RLOO,
    JobKind.TRAIN_GRPO,
    JobKind.TRAIN_DPO,
    JobKind.TRAIN_KTO,
    JobKind.TRAIN_SFT,
    JobKind.DISTIL,
    JobKind.TRAIN_STARTER,
)
"""The kinds of runs that train a policy."""
NONE_THERE = "–"  # noqa: RUF001 - an empty cell; Streamlit's own word for it is "None"

_MEMBER = re.compile(r"((?:judge )?seed \d+|judge) (.+)")


@dataclass(frozen=True)
class CurveName:
    """Which metric a series of numbers is of, and which model of an ensemble it is about."""

    metric: str
    member: str


def name_metric(name: str) -> str:
    """A metric's name in words."""
    return METRIC_NAMES.get(name, _in_words(name))


def name_short(name: str) -> str:
    """A metric's name as the heading of a column."""
    return SHORT_NAMES.get(name, _in_words(name))


def name_baseline(name: str) -> str:
    """What a model is compared with, as the heading of a column."""
    return BASELINE_NAMES.get(name, (_in_words(name), ""))[0]


def explain_baseline(name: str) -> str | None:
    """What a model is compared with, in a sentence."""
    return BASELINE_NAMES.get(name, ("", ""))[1] or None


def name_segment(name: str) -> str:
    """By what rows are sliced, in words."""
    return SEGMENT_NAMES.get(name, _in_words(name))


def split_curve_name(name: str) -> CurveName:
    """`judge seed 2 loss` is the metric `loss` of the member `judge seed 2`."""
    found = _MEMBER.fullmatch(name)
    return CurveName(name, "") if found is None else CurveName(found[2], found[1])


def sort_metrics(names: Any) -> list[str]:
    """Metrics in the order in which they are shown; unknown ones last, by name."""
    return sorted(names, key=lambda name: (METRIC_ORDER.get(name, len(METRIC_ORDER)), name))


def show_interval(bounds: Any) -> str:
    """`0.701 to 0.792`; empty where there is none."""
    if not bounds or len(bounds) != 2 or None in bounds:
        return ""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _in_words(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()
