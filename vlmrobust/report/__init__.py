"""What a run came to: tables of responses and of conditions compared with base."""

from .columns import Column
from .report import Report
from .summary import SummaryRow

__all__ = ["Column", "Report", "SummaryRow"]
