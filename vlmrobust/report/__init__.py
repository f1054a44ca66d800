"""What a run came to: tables of responses and of conditions compared with base."""

from .card import ModelCardSection
from .columns import Column
from .findings import Finding
from .macro import MacroRow
from .report import Report
from .robustness import HedgeRow
from .summary import SummaryRow
from .survival import SurvivalRow

__all__ = ["Column", "Finding", "HedgeRow", "MacroRow", "ModelCardSection", "Report", "SummaryRow", "SurvivalRow"]
