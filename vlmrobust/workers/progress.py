"""Track a run: count its responses, show its progress, and end it if every response fails for the same reason."""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Never, Self

from ..models.base import RefusedError
from ..perturbations import Perturbation
from ..text import printable
from ..types import Prompt, Response
from .plan import SampleBatch

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["FailureStreak", "Progress", "ResponseCounts", "duration"]

logger = logging.getLogger(__name__)

# Details that vary between errors of the same kind: quoted values, numbers, and servers' request ids.
_DETAILS = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\b(?=\w*\d)[\w-]+")
# An overlong prompt is a problem of its own row, however many there are.
_TOO_LONG = re.compile(
    r"model's context|context[ _](?:length|window|size)|context_length_exceeded|max_model_len"
    r"|(?:prompt|input|request)\b.{0,40}\btoo long|exceeds? the (?:available )?context",
    re.IGNORECASE,
)


class ResponseCounts(NamedTuple):
    """Counts of responses.

    Attributes:
        responses: all responses.
        new: new responses, which were not on disk.
        tokens: tokens generated for new responses.
        errors: new responses that are errors.
    """

    responses: int = 0
    new: int = 0
    tokens: int = 0
    errors: int = 0

    @classmethod
    def of(cls, known: int, new: Iterable[tuple[Prompt, Response]] = ()) -> Self:
        """Count new responses and `known` ones from disk."""
        responses = [response for _, response in new]
        return cls(
            known + len(responses),
            len(responses),
            sum(response.n_tokens or 0 for response in responses),
            sum(response.status == "error" for response in responses),
        )


class Progress:
    """Counts responses and shows their number, rate and errors.

    It shows a bar in a terminal or notebook. Elsewhere, as in the log of a batch job, it writes a line every `every`
    seconds, whether or not there are new responses: to the logger `vlmrobust.workers.progress` if that logs `INFO`,
    else to standard error.

    Args:
        total: expected number of responses.
        shown: whether to show anything.
        every: seconds between two lines; None = no lines.
        clock: returns the time in seconds.

    Attributes:
        counts: the counts so far.
    """

    def __init__(
        self,
        total: int,
        *,
        shown: bool = True,
        every: float | None = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = ResponseCounts()
        self._total, self._clock, self._start = total, clock, clock()
        self._bar = _bar(total) if shown else None
        self._every = every if self._bar is not None and self._bar.disable else None
        self._ended = threading.Event()
        self._lines: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._start = self._clock()
        if self._every is not None:
            self._lines = threading.Thread(target=self._write_lines, args=(self._every,), daemon=True)
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._lines is not None:
            self._lines.join()
        if self._bar is not None:
            self._bar.close()

    def _write_lines(self, every: float) -> None:
        is_written = False
        while not self._ended.wait(min(every, threading.TIMEOUT_MAX)):
            _write_line(self.line())
            is_written = True
        if is_written:  # a run that ends before the first line needs none
            _write_line(self.line())

    def name(self, batch: SampleBatch, conditions: Sequence[Perturbation]) -> None:
        """Show which samples and conditions are being processed."""
        if self._bar is not None:
            first, last = batch.start + 1, batch.start + len(batch.samples)
            self._bar.set_description(f"samples {first}–{last}: {_listed(conditions)}")

    def add(self, more: ResponseCounts) -> None:
        """Add counts and update the display."""
        self.counts = ResponseCounts(*(count + new for count, new in zip(self.counts, more, strict=True)))
        if self._bar is None:
            return
        if not self._bar.disable:
            # Recorded responses count as done, but not for the rate.
            self._bar.initial += more.responses - more.new
            self._bar.set_postfix_str(", ".join(self._bar_details()), refresh=False)
        self._bar.update(more.responses)

    def line(self) -> str:
        """Return the progress as a line of text.

        Example:
            >>> seconds = iter([0.0, 10.0])
            >>> progress = Progress(100, shown=False, clock=lambda: next(seconds))
            >>> progress.add(ResponseCounts(responses=30, new=20, tokens=800, errors=1))
            >>> expected = "30 of 100 responses (30%), 2.0 responses/s, 80 tokens/s, 35 s left, 1 error"
            >>> progress.line().startswith(expected)
            True
        """
        done, seconds = self.counts, max(1e-9, self._clock() - self._start)
        rate, left = done.new / seconds, max(0, self._total - done.responses)
        parts = [
            f"{done.responses} of {self._total} responses ({done.responses / max(1, self._total):.0%})",
            f"{_rate(rate)} responses/s",
            f"{_rate(done.tokens / seconds)} tokens/s",
            f"{duration(left / rate)} left" if rate else "0 s left" if not left else "time left not known yet",
            _errors(done.errors),
            *_memory(),
        ]
        return ", ".join(parts)

    def _bar_details(self) -> list[str]:
        """Return the details that the bar, with its count, rate and time, does not show."""
        seconds = max(1e-9, self._clock() - self._start)
        return [f"{_rate(self.counts.tokens / seconds)} tokens/s", _errors(self.counts.errors), *_memory()]


def duration(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> duration(42), duration(250), duration(3 * 3600 + 300), duration(200_000)
        ('42 s', '4 min', '3 h 05 min', '2 d 7 h')
    """
    minutes, hours = round(seconds / 60), int(seconds // 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24} h"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 or not value else f"{value:.2g}"


def _errors(count: int) -> str:
    return f"{count} error{'s' * (count != 1)}"


def _write_line(line: str) -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", line)
    else:
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} vlmrobust: {line}", file=sys.stderr, flush=True)


def _memory() -> list[str]:
    """Return this process's memory use, and the GPU's if it uses one."""
    usage = []
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - no file
            resident = next(line for line in status if line.startswith("VmRSS:"))
        usage.append(f"{int(resident.split()[1]) / 2**20:.1f} GiB memory")
    except (OSError, StopIteration, ValueError, IndexError):
        pass  # not Linux
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        usage.append(f"{torch.cuda.memory_reserved() / 2**30:.1f} GiB on the GPU")
    return usage


def _listed(conditions: Sequence[Perturbation]) -> str:
    names = [printable(condition.condition) for condition in conditions]
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} … {names[-1]} ({len(names)} conditions)"


def _bar(total: int) -> "tqdm[Never]":
    from tqdm.auto import tqdm

    # `disable=None`: no bar if standard error is not a terminal.
    return tqdm(total=total, unit=" responses", disable=None)


@dataclass
class FailureStreak:
    """Counts consecutive responses that fail for the same reason.

    A reason that names its own sample, such as a missing image, counts once per sample; prompts longer than the context
    never count.

    Attributes:
        limit: number of failures that ends the run; None = unlimited.

    Example:
        >>> from vlmrobust import demo, Prompt
        >>> prompt, streak = Prompt.of(demo.samples(1)[0]), FailureStreak(2)
        >>> for _ in range(2):
        ...     streak.count(prompt, Response.failed(prompt, "no such model"))
        >>> streak.is_exceeded
        True
    """

    limit: int | None
    _reason: str = ""
    _samples: set[str] = field(default_factory=set)
    _rows: int = 0
    _count: int = 0
    _last: str = ""

    @property
    def is_exceeded(self) -> bool:
        """Whether the limit has been reached."""
        return self.limit is not None and self._count >= self.limit

    def count(self, prompt: Prompt, response: Response) -> None:
        """Count a model's response."""
        error = response.error or ""
        if response.status != "error":
            if self._rows:
                self._reason, self._samples, self._rows, self._count = "", set(), 0, 0
            return
        if _TOO_LONG.search(error):
            return
        sample = prompt.sample.id
        names_sample = sample in error
        reason = _DETAILS.sub("…", error.replace(sample, "…"))[:300]
        if reason != self._reason:
            self._reason, self._samples, self._rows, self._count = reason, set(), 0, 0
        self._samples.add(sample)
        self._rows += 1
        self._count = len(self._samples) if names_sample else self._rows
        self._last = error

    def check(self) -> None:
        """End the run if the limit has been reached.

        Raises:
            RefusedError: too many consecutive responses failed for the same reason.
        """
        if self.is_exceeded:
            raise RefusedError(
                f"{self._rows} responses in a row, of {len(self._samples)} samples, failed for the same reason, the "
                f"last with: {self._last}; fix the cause and repeat the call to resume: recorded answers are kept and "
                "failed prompts are retried (Evaluator(max_failures=None) records such rows and goes on)"
            )
