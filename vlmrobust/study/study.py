"""A study: which models are asked which benchmarks under which conditions, and who judges their thoughts."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from ..metrics.catalogue import metrics_named
from ..named_conditions import parts_of
from ..perturbations import paper_conditions
from ..perturbations.distractor import Distractor
from ..types.validated import Frozen, named_errors
from .entries import BenchmarkEntry, JudgeEntry, ModelEntry, Size

if TYPE_CHECKING:
    from .cost import Rates
    from .plan import Plan
    from .result import StudyResult

__all__ = ["Study"]

_PAPER_CONDITIONS = tuple(condition.condition for condition in paper_conditions())


class Study(Frozen):
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

    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    benchmarks: Annotated[tuple[BenchmarkEntry, ...], Field(min_length=1)]
    conditions: tuple[str, ...] = _PAPER_CONDITIONS
    judges: tuple[JudgeEntry, ...] = (JudgeEntry(name="rules"),)
    metrics: tuple[str, ...] = ()
    draws: Annotated[int, Field(ge=1)] = 1
    seed: int = 0
    distractor: Distractor = "random"
    batch_size: Annotated[int, Field(ge=1)] = 8
    strict: bool = False
    sizes: Mapping[str, Size] = Field(default_factory=dict)
    out: Path | None = None

    @field_validator("judges", mode="before")
    @classmethod
    def _judges_by_name(cls, judges: Any) -> Any:
        return [{"name": judge} if isinstance(judge, str) else judge for judge in judges]

    @field_validator("conditions")
    @classmethod
    def _conditions_are_known(cls, conditions: tuple[str, ...]) -> tuple[str, ...]:
        parts_of(conditions)
        return conditions if "base" in conditions else ("base", *conditions)

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        metrics_named(metrics)
        return metrics

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for field in ("models", "benchmarks", "judges"):
            names = [entry.name for entry in getattr(self, field)]
            if len({name.lower() for name in names}) < len(names):
                raise ValueError(f"field {field!r}: expected names that differ, got {names}")
        sizes = {entry.name: entry.size for entry in self.models} | {entry.name: entry.size for entry in self.judges}
        for name, size in sizes.items():
            if size is not None and size not in self.sizes:
                known = ", ".join(self.sizes) or "none"
                raise ValueError(f"{name!r}, field 'size': expected one of 'sizes' ({known}), got {size!r}")
        greedy = [model.name for model in self.models if not (model.factory or _samples(model))]
        if self.draws > 1 and greedy:
            raise ValueError(
                f"field 'draws': expected models that sample, got {', '.join(greedy)} without; greedy draws of a "
                "prompt are all the same (generation: do_sample = true, or a server's temperature)"
            )
        return self

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a study from a TOML file; relative paths in it start at the file.

        Raises:
            ValueError: it is no TOML, a key is not known (the message has the nearest), or an entry does not fit.
            OSError: it cannot be read.
        """
        from .reading import read_study

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
        return Runner(self, folder, tell or (lambda text: None)).run()

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


def _samples(model: ModelEntry) -> bool:
    if model.is_served:
        return model.generation.get("temperature", 0) not in (0, 0.0)
    return bool(model.generation.get("do_sample"))
