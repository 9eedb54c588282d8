"""How far raters agree, and how reliable each of them is. Knows no database."""

from rlhf_core.agreement.coefficients import (
    Level,
    gwet_ac1,
    krippendorff_alpha,
    raw_agreement,
)
from rlhf_core.agreement.dawid_skene import RaterModel, dawid_skene
from rlhf_core.agreement.intervals import Interval, bootstrap_interval
from rlhf_core.agreement.shares import wilson_interval
from rlhf_core.agreement.summary import AgreementSummary, summarize_agreement
from rlhf_core.agreement.units import UnitCounts, count_arrays, count_patterns, count_units

__all__ = [
    "AgreementSummary",
    "Interval",
    "Level",
    "RaterModel",
    "UnitCounts",
    "bootstrap_interval",
    "count_arrays",
    "count_patterns",
    "count_units",
    "dawid_skene",
    "gwet_ac1",
    "krippendorff_alpha",
    "raw_agreement",
    "summarize_agreement",
    "wilson_interval",
]
