"""All tables of the product, one module a room. Importing this package fills `Base.metadata`."""

from rlhf_core.store.tables.accounts import Account, AuditEvent, IdempotencyKey, StoreFact, Token
from rlhf_core.store.tables.alerts import Alert, AlertRule
from rlhf_core.store.tables.datasets import Dataset, DatasetMember, DatasetVersion
from rlhf_core.store.tables.feedback import (
    Attachment,
    Comparison,
    ComparisonRevision,
    Feedback,
    FeedbackAspect,
    FeedbackRevision,
    FeedbackSpan,
    Rater,
    UnsentText,
)
from rlhf_core.store.tables.interactions import Event, Interaction, ReasoningStep
from rlhf_core.store.tables.jobs import Job, JobLogLine, JobMetric, JobSample, Schedule, Worker
from rlhf_core.store.tables.models import (
    Deployment,
    Evaluation,
    InteractionReward,
    Model,
    ModelAlias,
    ModelAliasChange,
    ModelVersion,
    ServedLogEntry,
)
from rlhf_core.store.tables.privacy import Consent, Erasure
from rlhf_core.store.tables.queues import (
    Adjudication,
    RatingAssignment,
    RatingQueue,
    RatingQueueItem,
    RatingQueueMember,
)
from rlhf_core.store.tables.rollups import (
    FeedbackRollup,
    InteractionRollup,
    RollupDirtyDay,
    StepRollup,
)

__all__ = [
    "Account",
    "Adjudication",
    "Alert",
    "AlertRule",
    "Attachment",
    "AuditEvent",
    "Comparison",
    "ComparisonRevision",
    "Consent",
    "Dataset",
    "DatasetMember",
    "DatasetVersion",
    "Deployment",
    "Erasure",
    "Evaluation",
    "Event",
    "Feedback",
    "FeedbackAspect",
    "FeedbackRevision",
    "FeedbackRollup",
    "FeedbackSpan",
    "IdempotencyKey",
    "Interaction",
    "InteractionReward",
    "InteractionRollup",
    "Job",
    "JobLogLine",
    "JobMetric",
    "JobSample",
    "Model",
    "ModelAlias",
    "ModelAliasChange",
    "ModelVersion",
    "Rater",
    "RatingAssignment",
    "RatingQueue",
    "RatingQueueItem",
    "RatingQueueMember",
    "ReasoningStep",
    "RollupDirtyDay",
    "Schedule",
    "ServedLogEntry",
    "StepRollup",
    "StoreFact",
    "Token",
    "UnsentText",
    "Worker",
]
