"""Beside other harnesses: their logs read as prompts and responses, and what runs inside them.

`inspect_task` and `lmms_model` import the harness they are for, and are imported by its users alone.
"""

from .imported import Disagreement, Imported
from .inspect_logs import read_inspect
from .lmms_logs import read_lmms_eval
from .vlmevalkit_logs import read_vlmevalkit

__all__ = ["Disagreement", "Imported", "read_inspect", "read_lmms_eval", "read_vlmevalkit"]
