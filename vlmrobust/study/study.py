"""A study and what it came to, as their users see them: what is asked, run, planned, shown and saved."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..report.tables import terminal_table
from ..types.frozen import named_errors
from .definition import StudyDefinition, read_study
from .outputs import keep_result
from .pages import markdown, page
from .pictures import Curves, drawn
from .sections import Section, overview, sections
from .tables import JudgementRow, RunRow, StudyTables

if TYPE_CHECKING:
    from .counting import Rates
    from .plan import Plan

__all__ = ["Study", "StudyResult"]


class Study(StudyDefinition):
    """Models × benchmarks × conditions × judges, in one folder that resumes.

    Attributes:
        models: who is asked, with their checkpoints.
        benchmarks: about what.
        conditions: by the names that `vlmrobust conditions` lists, several joined with `+`; the paper's eight if not
            given.
        judges: who reads the thoughts that were written; no model is asked again for it.
        metrics: what is measured beside the default metrics, by name; `module:Class` or `file.py:Class` for your own.
        draws: how often each prompt is asked; more than one needs models that sample.
        seed: keys every random draw.
        distractor: see `Evaluator`.
        batch_size: how many samples are handed to one `respond` call.
        strict: see `Evaluator`.
        sizes: architectures by name, for a dry run where a checkpoint's configuration isn't at hand.
        out: the folder; None = it is given to `run`.

    Raises:
        pydantic.ValidationError: an entry does not fit; the message names it and the field.

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
            ValueError: it is no TOML, a key is not known (the message has the nearest), or an entry does not fit.
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
                    raise ValueError(f"expected {field} out of {', '.join(known)}; got {name!r}")
            if names:
                changes[field] = tuple(entry for name, entry in known.items() if name in names)
        return self.replace(**changes)

    def run(self, out: str | Path | None = None, *, tell: Callable[[str], None] | None = None) -> "StudyResult":
        """Ask what is not on disk yet, judge, and put tables and pages of all of it into the folder.

        Every model, checkpoint and benchmark has a run directory of its own below the folder. One model at a time is in
        memory, for all its benchmarks. A model, benchmark or judge that fails is a row with its error, and the others
        go on; the next call tries it again. After a kill the same call resumes.

        Args:
            out: the folder; None = the study's own.
            tell: is told what begins and what failed.

        Raises:
            ValueError: there is no folder; this process is one of several that torchrun has started.
        """
        from .running import Runner

        folder = self.out if out is None else Path(out)
        if folder is None:
            raise ValueError("field 'out': expected a folder, got none")
        result = StudyResult(self, folder, *Runner(self, folder, tell or (lambda text: None)).run())
        result.save()
        return result

    def plan(self, rates: "Rates | None" = None, *, at_most: int = 100) -> "Plan":
        """Count what `run` would take: prompts, tokens, floating-point operations, bytes; no weights are loaded.

        Prompts are made and counted with the checkpoint's own tokenizer and image sizes. What isn't at hand is replaced
        by a stand-in, which is named beside the numbers. A factory is called, since its model knows the tokenizer.

        Args:
            rates: what the machine does, for the time that it takes; None = no time.
            at_most: how many samples of a benchmark are counted, evenly spread; the count is scaled to all of them.
        """
        from .planning import plan_of

        return plan_of(self, rates, at_most)


class StudyResult(StudyTables):
    """The tables of a study, and its pages.

    Attributes:
        study: what was asked.
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
        """What the pages show but for their pictures."""
        return sections(self)

    @cached_property
    def pictures(self) -> list[Curves]:
        """The curves over checkpoints, drawn."""
        return drawn(self)

    def to_markdown(self, page: str = "study.html") -> str:
        """Return the page as Markdown; what others wrote is escaped, and pictures are in the page of that name."""
        return markdown(self, self.sections, self.pictures, page)

    def to_html(self) -> str:
        """Return the page as HTML, which needs no network; what others wrote is escaped."""
        return page(self, self.sections, self.pictures)

    def save(self) -> Path:
        """Write the tables as CSV, and the pages `study.md` and `study.html`, into the folder; return the latter.

        Where those that are there have more than this study names, such as another benchmark, they stay, and these are
        `study.part.md`, `study.part.html` and `tables.part`.
        """
        return keep_result(self, self.to_markdown, self.to_html)

    def __str__(self) -> str:
        return terminal_table(overview(self))

    __repr__ = __str__
