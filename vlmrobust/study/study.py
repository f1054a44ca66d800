"""Plan, run, show and save a study: `Study` adds these methods to `StudyDefinition`; `StudyResult` is the outcome."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..naming import unknown_name
from ..report.formats import terminal_table
from ..types.frozen import named_errors
from .definition import StudyDefinition, read_study
from .pages import keep_result, markdown, page
from .sections import Curves, Section, drawn, overview, sections
from .tables import JudgementRow, RunRow, StudyTables

if TYPE_CHECKING:
    from .cost import Rates
    from .plan import Plan

__all__ = ["Study", "StudyResult"]


class Study(StudyDefinition):
    """Models × benchmarks × conditions × judges, in one folder that resumes.

    Attributes:
        models: the models, with their checkpoints.
        benchmarks: the benchmarks.
        conditions: names that `vlmrobust conditions` lists, several joined with `+`; default: the paper's eight.
        judges: the judges of the thoughts; no model is run again for them.
        metrics: metrics in addition to the default ones, by name; your own as `module:Class` or `file.py:Class`.
        draws: number of responses per prompt; more than one needs models that sample.
        seed: seed of every random draw.
        distractor: see `Evaluator`.
        batch_size: number of samples per `respond` call.
        strict: see `Evaluator`.
        sizes: architectures by name, for a dry run without a checkpoint's configuration.
        out: the folder; None = it is given to `run`.

    Raises:
        pydantic.ValidationError: an entry is invalid; the message names it and the field.

    Example:
        >>> study = Study(
        ...     models=[{"name": "demo", "factory": "vlmrobust.demo:model"}],
        ...     benchmarks=[{"name": "cv-bench", "limit": 100}],
        ... )
        >>> study.conditions[:3]
        ('base', 'stop_think', 'wrong_think')
        >>> study.run("studies/first")  # doctest: +SKIP
    """

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a study from a TOML file; relative paths in it start at the file.

        Raises:
            ValueError: it is not TOML, a key is unknown (the message suggests the nearest), or an entry is invalid.
            OSError: it cannot be read.
        """
        values = read_study(Path(path), cls)
        study: Self = named_errors("study", str(path), lambda: cls(**values))
        return study

    def only(self, models: Collection[str] = (), benchmarks: Collection[str] = ()) -> Self:
        """Return the part of the study with some models or benchmarks; empty = all.

        Raises:
            ValueError: one is not in it.
        """
        changes: dict[str, Any] = {}
        for field, names in (("models", models), ("benchmarks", benchmarks)):
            known = {entry.name: entry for entry in getattr(self, field)}
            for name in names:
                if name not in known:
                    raise ValueError(f"expected {field} of the study, {unknown_name(name, known)}")
            if names:
                changes[field] = tuple(entry for name, entry in known.items() if name in names)
        return self.replace(**changes)

    def run(self, out: str | Path | None = None, *, tell: Callable[[str], None] | None = None) -> "StudyResult":
        """Run all models and judges, skipping finished parts, and write tables and pages into the folder.

        Every model, checkpoint and benchmark has its own run directory below the folder. One model at a time is in
        memory, for all its benchmarks. A model, benchmark or judge that fails becomes a row with its error, and the
        others continue; the next call retries it. After a kill the same call resumes.

        Args:
            out: the folder; None = the study's own.
            tell: called with messages about progress and failures.

        Raises:
            ValueError: no folder is given, or torchrun has started several processes.
        """
        from .running import Runner

        folder = self.out if out is None else Path(out)
        if folder is None:
            raise ValueError("field 'out': expected a folder, got none")
        result = StudyResult(self, folder, *Runner(self, folder, tell or (lambda text: None)).run())
        result.save()
        return result

    def plan(self, rates: "Rates | None" = None, *, at_most: int = 100) -> "Plan":
        """Count the cost of `run` without loading weights: prompts, tokens, floating-point operations, bytes.

        Prompts are created and counted with the checkpoint's own tokenizer and image sizes. Unavailable parts are
        replaced by a stand-in, which the plan names. A factory is called, since its model has the tokenizer.

        Args:
            rates: the speed of the machine, to estimate the duration; None = no duration.
            at_most: maximum number of samples counted per benchmark, evenly spread; counts are scaled to all samples.
        """
        from .planning import plan_of

        return plan_of(self, rates, at_most)


class StudyResult(StudyTables):
    """The tables of a study, and its pages.

    Attributes:
        study: the study.
        out: its folder.
    """

    study: Study

    def __init__(self, study: Study, out: Path, runs: Sequence[RunRow], judgements: Sequence[JudgementRow]) -> None:
        super().__init__(study, out, runs, judgements)

    @property
    def failed(self) -> bool:
        """Whether a run or a judge failed, or rows are errors."""
        return any(row.status == "failed" or row.errors for row in self.run_rows) or any(
            row.status == "failed" for row in self.judgement_rows
        )

    @cached_property
    def sections(self) -> list[Section]:
        """The sections of the pages, without their pictures."""
        return sections(self)

    @cached_property
    def pictures(self) -> list[Curves]:
        """The curves over checkpoints."""
        return drawn(self)

    def to_markdown(self, page: str = "study.html") -> str:
        """Return the page as Markdown, with untrusted text escaped; the HTML page named `page` has the pictures."""
        return markdown(self, self.sections, self.pictures, page)

    def to_html(self) -> str:
        """Return the page as self-contained HTML, with untrusted text escaped."""
        return page(self, self.sections, self.pictures)

    def save(self) -> Path:
        """Write tables as CSV and the pages `study.md` and `study.html` into the folder; return the path of the latter.

        If the existing ones have more than this study, such as another benchmark, they stay, and the new ones become
        `study.part.md`, `study.part.html` and `tables.part`.
        """
        return keep_result(self, self.to_markdown, self.to_html)

    def __str__(self) -> str:
        return terminal_table(overview(self))

    __repr__ = __str__
