"""What a run came to: tables of responses and of conditions compared with base."""

from .card import ModelCardSection
from .columns import Column
from .corrected import ConsistencyRow
from .findings import Finding
from .labels import Drawn, Label, Labels
from .macro import MacroRow
from .report import Report
from .robustness import HedgeRow
from .summary import SummaryRow
from .survival import SurvivalRow

__all__ = [
    "Column",
    "ConsistencyRow",
    "Drawn",
    "Finding",
    "HedgeRow",
    "Label",
    "Labels",
    "MacroRow",
    "ModelCardSection",
    "Report",
    "SummaryRow",
    "SurvivalRow",
]
