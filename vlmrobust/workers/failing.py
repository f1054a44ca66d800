"""Ends a run of which every response fails for one reason: that is a fault of the run, and not of a row."""

import re
from dataclasses import dataclass, field

from ..models.base import RefusedError
from ..types import Prompt, Response

__all__ = ["Failing"]

# What differs between two errors of one kind: quoted values, numbers, and the keys that servers give to requests.
_DETAILS = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\b(?=\w*\d)[\w-]+")
# A prompt that is too long is one row's fault, however many there are.
_TOO_LONG = re.compile(
    r"model's context|context[ _](?:length|window|size)|context_length_exceeded|max_model_len"
    r"|(?:prompt|input|request)\b.{0,40}\btoo long|exceeds? the (?:available )?context",
    re.IGNORECASE,
)


@dataclass
class Failing:
    """Counts responses that fail one after the other for one reason.

    A reason that names its own sample, such as an image that is missing, counts once a sample; that a prompt is longer
    than the context never does.

    Attributes:
        limit: how many end the run; None = any number may fail.

    Example:
        >>> from vlmrobust import demo, Prompt
        >>> prompt, failing = Prompt.of(demo.samples(1)[0]), Failing(2)
        >>> for _ in range(2):
        ...     failing.count(prompt, Response.failed(prompt, "no such model"))
        >>> failing.is_over
        True
    """

    limit: int | None
    _reason: str = ""
    _samples: set[str] = field(default_factory=set)
    _rows: int = 0
    _counted: int = 0
    _last: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the run is to be ended."""
        return self.limit is not None and self._counted >= self.limit

    def count(self, prompt: Prompt, response: Response) -> None:
        """Take note of a model's response."""
        error = response.error or ""
        if response.status != "error":
            self._reason, self._samples, self._rows, self._counted = "", set(), 0, 0
            return
        if _TOO_LONG.search(error):
            return
        sample = prompt.sample.id
        own = sample in error
        reason = _DETAILS.sub("…", error.replace(sample, "…"))[:300]
        if reason != self._reason:
            self._reason, self._samples, self._rows, self._counted = reason, set(), 0, 0
        self._samples.add(sample)
        self._rows += 1
        self._counted = len(self._samples) if own else self._rows
        self._last = error

    def check(self) -> None:
        """End the run if it is over.

        Raises:
            RefusedError: so many have failed for one reason.
        """
        if self.is_over:
            raise RefusedError(
                f"{self._rows} responses in a row, of {len(self._samples)} samples, failed for one reason, the last "
                f"with: {self._last}; once it is mended the same call goes on: what was answered is kept, and what "
                "failed is asked again (Evaluator(max_failures=None) records such rows and asks on)"
            )
