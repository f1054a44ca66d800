"""What a run came to: tables of responses and of conditions compared with base."""

from .card import ModelCardSection
from .columns import Column
from .corrected import ConsistencyRow
from .curve import CurveRow
from .findings import Finding
from .labels import Drawn, Label, Labels
from .macro import MacroRow
from .report import Report
from .robustness import HedgeRow
from .rotation import PositionRow
from .summary import SummaryRow
from .survival import SurvivalRow

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
