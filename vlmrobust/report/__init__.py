"""Report the results of a run: tables of responses, and of conditions compared with base."""

from .aggregates import ConsistencyRow
from .breakdowns import MacroRow
from .card import ModelCardSection
from .findings import Finding
from .labels import Drawn, Label, Labels
from .metric_columns import Column
from .repeats import PositionRow
from .report import Report
from .robustness import HedgeRow
from .summary import SummaryRow
from .survival import CurveRow, SurvivalRow

__all__ = [
    "Column",
    "ConsistencyRow",
    "CurveRow",
    "Drawn",
    "Finding",
    "HedgeRow",
    "Label",
    "Labels",
    "MacroRow",
    "ModelCardSection",
    "PositionRow",
    "Report",
    "SummaryRow",
    "SurvivalRow",
]
