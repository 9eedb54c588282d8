"""Every closed set of the domain. A value stored in the database is the member's value."""

from enum import StrEnum

DEMO_SOURCE = "demo"
"""The source of the demo world's interactions."""
CHAT_SOURCE = "chat"
"""The source of what a promoted policy answered."""


class RaterKind(StrEnum):
    """Who left a feedback row."""

    SME = "sme"
    END_USER = "end_user"
    MODEL = "model"


class Verdict(StrEnum):
    """What a piece of feedback on a completion comes to: its rating, or without one its thumb."""

    GOOD = "good"
    NEUTRAL = "neutral"
    BAD = "bad"


class AlikeBy(StrEnum):
    """Which texts of bad answers are alike in a group of failures: of `BOTH`, either."""

    COMPLETION = "completion"
    PROMPT = "prompt"
    BOTH = "both"


class Choice(StrEnum):
    """Outcome of a comparison of two completions."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class RevisionKind(StrEnum):
    """Why a feedback row changed."""

    EDIT = "edit"
    WITHDRAW = "withdraw"
    RESTORE = "restore"


class QueueSubject(StrEnum):
    """What the raters of a queue judge."""

    COMPLETIONS = "completions"
    STEPS = "steps"
    COMPARISONS = "comparisons"


class QueueOrder(StrEnum):
    """How a rating queue picks the next item."""

    OLDEST_FIRST = "oldest_first"
    INFORMATIVE = "informative"


class RatingState(StrEnum):
    """How far an interaction is rated: what a queue can be made from."""

    UNRATED = "unrated"
    NEEDS_SECOND = "needs_second"
    RATED = "rated"
    DISAGREED = "disagreed"


class QueueItemKind(StrEnum):
    """Why an item is in a queue: to be rated, to test the rater, to test consistency."""

    NORMAL = "normal"
    GOLD = "gold"
    REPEAT = "repeat"


class AssignmentState(StrEnum):
    """State of one rater's slot on one queue item."""

    LEASED = "leased"
    DONE = "done"
    SKIPPED = "skipped"
    EXPIRED = "expired"


class AdjudicationDecision(StrEnum):
    """What an adjudicator decided on a disputed item."""

    RESOLVED = "resolved"
    EXCLUDED = "excluded"


class DatasetPurpose(StrEnum):
    """What a dataset trains. Each purpose has row columns of its own (see `examples`)."""

    SCORES = "scores"
    PREFERENCES = "preferences"
    UNPAIRED = "unpaired"
    PROMPTS = "prompts"
    STEPS = "steps"
    SFT = "sft"


class MergeRule(StrEnum):
    """How several raters of one completion become one score."""

    MEAN = "mean"
    MAJORITY = "majority"
    WEIGHTED = "weighted"


class TieRule(StrEnum):
    """What becomes of a comparison that ended in a tie, or of two answers rated alike."""

    DROP = "drop"
    KEEP = "keep"


class DisputeRule(StrEnum):
    """What becomes of an item whose raters disagree and that nobody adjudicated."""

    KEEP = "keep"
    DROP = "drop"


class PairOrigin(StrEnum):
    """Where a preference pair came from."""

    COMPARISON = "comparison"
    RATINGS = "ratings"
    CORRECTION = "correction"


class DatasetFormat(StrEnum):
    """Formats in which a frozen dataset is exported."""

    OPENAI_CHAT = "openai-chat"
    TRL = "trl"
    PARQUET = "parquet"
    CSV = "csv"


class Split(StrEnum):
    """Part of a frozen dataset. All rows of one prompt lie in one part."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class JobKind(StrEnum):
    """What a background job does."""

    TRAIN_SBERT = "train_sbert"
    TRAIN_TRANSFORMER = "train_transformer"
    TRAIN_STEPS = "train_steps"
    TRAIN_STARTER = "train_starter"
    TRAIN_SFT = "train_sft"
    TRAIN_DPO = "train_dpo"
    TRAIN_KTO = "train_kto"
    TRAIN_RLOO = "train_rloo"
    TRAIN_GRPO = "train_grpo"
    TRAIN_PPO = "train_ppo"
    DISTIL = "distil"
    JOIN = "join"
    EVALUATE = "evaluate"
    EVALUATE_POLICY = "evaluate_policy"
    RETRAIN = "retrain"
    SCORE = "score"
    CLUSTER_FAILURES = "cluster_failures"
    COMPARE_VERSIONS = "compare_versions"
    IMPORT = "import"


class JobState(StrEnum):
    """Life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state never runs again by itself."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)


class Resource(StrEnum):
    """Which queue a job waits in."""

    CPU = "cpu"
    GPU = "gpu"


class ScheduleTrigger(StrEnum):
    """What makes a schedule start its job."""

    CRON = "cron"
    RATINGS = "ratings"
    DRIFT = "drift"


class ModelKind(StrEnum):
    """Family of a registered model."""

    REWARD_SBERT = "reward_sbert"
    REWARD_TRANSFORMER = "reward_transformer"
    REWARD_STEPS = "reward_steps"
    REWARD_ENSEMBLE = "reward_ensemble"
    POLICY = "policy"
    POLICY_REMOTE = "policy_remote"


class Alias(StrEnum):
    """Named pointer to a version of a model."""

    PRODUCTION = "production"
    CANARY = "canary"


class DeploymentKind(StrEnum):
    """What a share of the traffic is for."""

    CANARY = "canary"
    AB_TEST = "ab_test"
    INTERLEAVING = "interleaving"


class Arm(StrEnum):
    """Who answered a request: what serves, or a side of a running deployment."""

    PRODUCTION = "production"
    CONTROL = "control"
    TREATMENT = "treatment"


class GateKind(StrEnum):
    """What a rule asks of a version before it is promoted."""

    NUM_ROWS = "num_rows"
    QUALITY = "quality"
    NOT_WORSE = "not_worse"
    CALIBRATION = "calibration"
    LENGTH_DRIFT = "length_drift"
    KL = "kl"
    SYCOPHANCY = "sycophancy"
    BLIND_WINS = "blind_wins"
    VETO = "veto"
    INTEGRITY = "integrity"
    CONSENT = "consent"
    ERASED_ROWS = "erased_rows"
    CANARY = "canary"


class GateState(StrEnum):
    """What a rule found of a version."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_MEASURED = "not_measured"


class DeploymentState(StrEnum):
    """Life of a canary or an A/B test."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


class AlertKind(StrEnum):
    """What a rule of alerts watches."""

    APPROVAL_BELOW = "approval_below"
    NEW_ACTION_TYPE = "new_action_type"
    NEGATIVES_SPIKE = "negatives_spike"
    NO_FEEDBACK = "no_feedback"
    AGREEMENT_BELOW = "agreement_below"
    DRIFT = "drift"
    RUN_FAILED = "run_failed"
    CANARY_DUE = "canary_due"


class AlertState(StrEnum):
    """Life of an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class ConsentState(StrEnum):
    """What a person said about the use of their data."""

    GRANTED = "granted"
    WITHDRAWN = "withdrawn"


class Role(StrEnum):
    """What an account may do; `accounts.permissions` holds the table."""

    RATER = "rater"
    ANALYST = "analyst"
    TRAINER = "trainer"
    ADMIN = "admin"


class TokenKind(StrEnum):
    """What a secret opens."""

    API = "api"
    SESSION = "session"
    SIGN_IN_LINK = "sign_in_link"


class ImportFormat(StrEnum):
    """File formats that can be imported."""

    NATIVE = "native"
    TABLE = "table"
    OPENAI_CHAT = "openai-chat"
    HH_RLHF = "hh-rlhf"
    PRM800K = "prm800k"


class ExportFormat(StrEnum):
    """File formats that can be exported. Only `native` holds everything."""

    NATIVE = "native"
    OPENAI_CHAT = "openai-chat"
    HH_RLHF = "hh-rlhf"
    CSV = "csv"
