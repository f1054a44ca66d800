"""Read the logs of other evaluation harnesses as prompts and responses, and integrate with them.

`inspect_task`, which imports inspect_ai, and `lmms_eval.LmmsModel` must be imported explicitly.
"""

from .imported import Disagreement, Imported
from .inspect_logs import read_inspect
from .lmms_eval import read_lmms_eval
from .vlmevalkit_logs import read_vlmevalkit

__all__ = ["Disagreement", "Imported", "read_inspect", "read_lmms_eval", "read_vlmevalkit"]
