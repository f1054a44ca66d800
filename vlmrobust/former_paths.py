"""Resolve modules by their paths in earlier versions, so that old pickles and imports keep working."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["FORMER", "FormerPaths"]

FORMER: Mapping[str, str] = {
    former: now
    for now, all_former in {
        "catalogue": "named_judges named_styles",
        "cli.app": "cli.configuration cli.finishing",
        "cli.compare": "cli.gates",
        "cli.construction cli.compare": "cli.measuring",
        "cli.judge": "cli.judging",
        "cli.options": "cli.completion",
        "cli.preview": "cli.begun",
        "cli.report": "cli.images",
        "data.benchmarks.questions": "data.benchmarks.numbers data.benchmarks.tables",
        "data.benchmarks.registry": "data.benchmarks.table",
        "data.benchmarks.spatial data.benchmarks.general": "data.benchmarks.training",
        "data.fields": "data.cells",
        "data.files": "data.sharing",
        "data.hugging_face data.files data.rows": "data.hub",
        "data.rows data.files": "data.download data.sources",
        "demo.scenes": "demo.questions demo.shapes",
        "functional.agreement": "functional.draws functional.robustness",
        "functional.bootstrap": "functional.limits",
        "functional.closed_form": "functional.averages functional.statistics",
        "functional.intervals": "functional.paired_tests",
        "functional.intervals functional.resampling": "functional.sign_flips",
        "functional.log_probabilities": "functional.entropy functional.letters functional.scoring",
        "functional.ranking": "functional.selective functional.ties",
        "harnesses.imported": "harnesses.lettered",
        "harnesses.lmms_eval": "harnesses.lmms_logs harnesses.lmms_model",
        "judges.letter_judge": "judges.asking",
        "judges.measured": "judges.checking",
        "judges.panel": "judges.kept",
        "judges.sentences": "judges.phrases",
        "metrics.accuracy": "metrics.paired",
        "metrics.catalogue": "metrics.settings named_metrics",
        "metrics.letters": "metrics.calibration",
        "metrics.thoughts": "metrics.acknowledgement metrics.text",
        "models.base": "models.deferred models.work",
        "models.batch_planning": "models.packing models.planning",
        "models.caches": "models.branches",
        "models.continuous_batching": "models.rolling models.stepping",
        "models.encoding": "models.rendered",
        "models.generation": "models.generation_options models.sampling",
        "models.growing_cache": "models.growing",
        "models.letter_tokens": "models.vocabulary",
        "models.loading models.identity models.probe": "models.running models.unwrapping",
        "models.look_ahead": "models.ahead",
        "models.option_texts": "models.options",
        "models.plain_engine": "models.plain",
        "models.response_building": "models.reading",
        "models.self_check": "models.batch_independence models.precision",
        "models.server.attempts": "models.server.deadline",
        "models.server.capabilities": "models.server.check models.server.checking",
        "models.server.chat": "models.server.usage",
        "models.server.client": "models.server.pool models.server.shared",
        "models.server.messages": "models.server.images",
        "models.server.readout": "models.server.option_texts",
        "models.server.readout models.server.tokens": (
            "models.server.letter_readout models.server.letter_tokens models.server.letters"
        ),
        "models.server.replies": "models.server.turns",
        "models.server.tokens": "models.server.steps",
        "models.vllm.answering": "models.vllm.letters models.vllm.sampling",
        "models.vllm.model": "models.vllm.text",
        "models.vllm.starting": "models.vllm.adapter models.vllm.failures",
        "naming": "devices machine",
        "perturbations.catalogue": "named_conditions",
        "perturbations.expansion": "perturbations.conditions",
        "perturbations.image": "perturbations.pixels perturbations.severity",
        "perturbations.question": "perturbations.second_turn",
        "perturbations.statements.clauses": "perturbations.statements.closed",
        "perturbations.statements.statement": "perturbations.statements.asked perturbations.statements.wh",
        "perturbations.think": "perturbations.cot",
        "perturbations.wordings": "perturbations.distractor perturbations.texts",
        "plots.look": "plots.source",
        "plots.panels": "plots.curve plots.tables",
        "prompting.tags": "prompting.opened",
        "prompting.words": "prompting.letters",
        "report.aggregates": "report.corrected",
        "report.breakdowns": "report.macro",
        "report.browse": "report.images",
        "report.comparison": "report.flips",
        "report.files report.serialisation": "report.contents",
        "report.finding_texts": "report.sentences",
        "report.findings": "report.assertions",
        "report.formats": "report.csv report.latex report.markdown report.terminal",
        "report.html": "report.rendering",
        "report.merging": "report.accumulation report.concatenation report.joining",
        "report.metric_columns": "report.columns report.typed",
        "report.overview report.formats": "report.tables",
        "report.overview report.html": "report.headline",
        "report.pairing": "report.asserted",
        "report.repeats": "report.circular report.draws report.rotation",
        "report.run_report": "report.keeping report.runs",
        "report.serialisation": "report.parquet",
        "report.serialisation report.files": "report.lines",
        "report.survival": "report.curve",
        "rl.callback": "rl.alarms",
        "rl.completions": "rl.prefills rl.tallies",
        "rl.completions rl.rows": "rl.columns",
        "rl.formats": "rl.arrow rl.forms rl.templates",
        "rl.guards rl.lexicon": "rl.substance",
        "rl.rows": "rl.augment rl.mixture",
        "rl.scoring": "rl.configured rl.decoded rl.packed",
        "rl.trained_model": "rl.as_trained rl.budget rl.resumed rl.undisturbed",
        "secrecy": "log_records",
        "seeding": "keyed",
        "study.construction": "study.holding study.loading",
        "study.cost": "study.counting",
        "study.definition": "study.reading",
        "study.page_cells": "study.cells",
        "study.pages": "study.headline study.html study.keeping study.markdown study.outputs",
        "study.planning": "study.asked",
        "study.running": "study.judging",
        "study.sections": "study.pictures",
        "study.study": "study.result",
        "study.tables": "study.agreement study.rows",
        "testing.extension_checks": "testing.metric_checks testing.perturbation_checks",
        "testing.model_checks": "testing.requirement testing.samples",
        "text": "local_paths",
        "types.frozen": "types.validated",
        "types.image": "types.pixels",
        "types.prompt": "types.turn",
        "types.responses": "types.texts",
        "types.sample": "types.acting types.style",
        "workers.answering": "workers.batchwise workers.queueing",
        "workers.plan": "workers.asking",
        "workers.progress workers.answering": (
            "workers.contract workers.failing workers.failures workers.response_checks"
        ),
        "workers.ranks": "workers.base workers.processes",
        "written_texts.drafts": "written_texts.record written_texts.text_model",
    }.items()
    for former in all_former.split()
}
"""The current modules of each former module's names, separated by spaces, relative to the package."""


class FormerPaths(MetaPathFinder, Loader):
    """Finds a former module as an empty one whose names are looked up in the current modules.

    Args:
        package: the package that paths are relative to.
        former: the current modules of each former module's names, separated by spaces.

    Example:
        >>> finder = FormerPaths("vlmrobust", {"kinds.sample": "types.sample types"})
        >>> finder.find_spec("vlmrobust.kinds.sample").loader.targets("vlmrobust.kinds.sample")
        ['vlmrobust.types.sample', 'vlmrobust.types']
        >>> finder.find_spec("vlmrobust.kinds.nothing")
    """

    def __init__(self, package: str, former: Mapping[str, str] = FORMER) -> None:
        self.package = package
        self.former = former

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a former module; None for other names."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self, is_package=True) if package == self.package and name in self.former else None

    def targets(self, fullname: str) -> list[str]:
        """Return the current modules of a former module's names."""
        return [f"{self.package}.{name}" for name in self.former[fullname.partition(".")[2]].split()]

    def exec_module(self, module: ModuleType) -> None:
        """Give the module a `__getattr__` that looks up names in the current modules."""
        targets = self.targets(module.__name__)

        def look_up(name: str) -> Any:
            for target in targets:
                if not name.startswith("__") and hasattr(now := import_module(target), name):
                    return getattr(now, name)
            now_in = " and ".join(targets)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}; it is now {now_in}")

        module.__dict__["__getattr__"] = look_up
