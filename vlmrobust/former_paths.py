"""Resolve modules by their paths in earlier versions, so that old pickles and imports keep working."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["FORMER", "FormerPaths"]

FORMER: Mapping[str, str] = {
    "named_metrics": "metrics.catalogue",
    "rl.alarms": "rl.callback",
    "rl.arrow": "rl.formats",
    "rl.as_trained": "rl.trained_model",
    "rl.augment": "rl.rows",
    "rl.budget": "rl.trained_model",
    "rl.columns": "rl.completions rl.rows",
    "rl.configured": "rl.scoring",
    "rl.decoded": "rl.scoring",
    "rl.forms": "rl.formats",
    "rl.mixture": "rl.rows",
    "rl.packed": "rl.scoring",
    "rl.prefills": "rl.completions",
    "rl.resumed": "rl.trained_model",
    "rl.substance": "rl.guards rl.lexicon",
    "rl.tallies": "rl.completions",
    "rl.templates": "rl.formats",
    "rl.undisturbed": "rl.trained_model",
    "study.asked": "study.planning",
    "study.headline": "study.pages",
    "study.holding": "study.construction",
    "study.html": "study.pages",
    "study.markdown": "study.pages",
    "study.agreement": "study.tables",
    "study.judging": "study.running",
    "study.pictures": "study.sections",
    "study.outputs": "study.pages",
    "study.reading": "study.definition",
    "study.result": "study.study",
    "workers.asking": "workers.plan",
    "workers.base": "workers.ranks",
    "workers.batchwise": "workers.answering",
    "workers.contract": "workers.progress workers.answering",
    "workers.failing": "workers.progress workers.answering",
    "workers.queueing": "workers.answering",
    "functional.averages": "functional.closed_form",
    "functional.draws": "functional.agreement",
    "functional.entropy": "functional.log_probabilities",
    "functional.letters": "functional.log_probabilities",
    "functional.limits": "functional.bootstrap",
    "functional.robustness": "functional.agreement",
    "functional.scoring": "functional.log_probabilities",
    "functional.selective": "functional.ranking",
    "functional.sign_flips": "functional.paired_tests functional.resampling",
    "functional.ties": "functional.ranking",
    "testing.metric_checks": "testing.extension_checks",
    "testing.perturbation_checks": "testing.extension_checks",
    "testing.requirement": "testing.model_checks",
    "testing.samples": "testing.model_checks",
    "types.texts": "types.responses",
    "types.pixels": "types.image",
    "prompting.letters": "prompting.words",
    "prompting.opened": "prompting.chat",
    "perturbations.distractor": "perturbations.wordings",
    "perturbations.cot": "perturbations.think",
    "perturbations.severity": "perturbations.image",
    "perturbations.pixels": "perturbations.image",
    "perturbations.conditions": "perturbations.expansion",
    "perturbations.statements.asked": "perturbations.statements.statement",
    "judges.kept": "judges.panel",
    "judges.phrases": "judges.sentences",
    "judges.checking": "judges.measured",
    "metrics.paired": "metrics.accuracy",
    "metrics.text": "metrics.thoughts",
    "metrics.acknowledgement": "metrics.thoughts",
    "metrics.calibration": "metrics.letters",
    "plots.source": "plots.look",
    "harnesses.lettered": "harnesses.imported",
    "harnesses.lmms_logs": "harnesses.lmms_eval",
    "harnesses.lmms_model": "harnesses.lmms_eval",
    "models.server.deadline": "models.server.attempts",
    "models.server.usage": "models.server.chat",
    "models.server.checking": "models.server.check",
    "models.server.pool": "models.server.client",
    "models.server.shared": "models.server.client",
    "models.server.images": "models.server.messages",
    "models.server.letter_tokens": "models.server.readout models.server.tokens",
    "models.server.turns": "models.server.replies",
    "models.server.continuation": "models.server.messages",
    "models.server.letter_readout": "models.server.readout models.server.tokens",
    "models.server.option_texts": "models.server.readout",
    "models.server.steps": "models.server.tokens",
    "models.vllm.sampling": "models.vllm.answering",
    "models.vllm.letters": "models.vllm.answering",
    "models.vllm.adapter": "models.vllm.starting",
    "models.vllm.failures": "models.vllm.starting",
    "models.vllm.text": "models.vllm.model",
    "models.generation_options": "models.generation",
    "models.deferred": "models.base",
    "models.stepping": "models.plain_engine",
    "named_conditions": "perturbations.catalogue",
    "named_styles": "catalogue",
    "named_judges": "catalogue",
    "report.asserted": "report.pairing",
    "report.images": "report.browse",
    "report.typed": "report.metric_columns",
    "report.joining": "report.merging",
    "report.macro": "report.breakdowns",
    "report.flips": "report.comparison",
    "report.circular": "report.repeats",
    "report.corrected": "report.aggregates",
    "report.curve": "report.survival",
    "report.terminal": "report.formats",
    "report.markdown": "report.formats",
    "report.csv": "report.formats",
    "report.latex": "report.formats",
    "cli.configuration": "cli.app",
    "cli.gates": "cli.compare",
    "cli.images": "cli.report",
    "cli.measuring": "cli.construction cli.compare",
    "cli.judging": "cli.judge",
    "cli.begun": "cli.preview",
    "data.sharing": "data.files",
    "data.benchmarks.numbers": "data.benchmarks.questions",
    "data.benchmarks.tables": "data.benchmarks.questions",
    "study.rows": "study.tables",
    "study.cost": "study.counting",
    "types.turn": "types.prompt",
    "types.acting": "types.sample",
    "local_paths": "text",
    "models.work": "models.base",
    "plots.tables": "plots.panels",
    "report.lines": "report.serialisation report.files",
    "keyed": "seeding",
    "machine": "naming",
    "report.sentences": "report.finding_texts",
    "report.keeping": "report.run_report",
    "judges.asking": "judges.letter_judge",
    "types.validated": "types.frozen",
    "study.keeping": "study.pages",
    "study.cells": "study.page_cells",
    "models.server.letters": "models.server.readout models.server.tokens",
    "models.options": "models.option_texts",
    "models.running": "models.loading models.identity models.probe",
    "models.rolling": "models.continuous_batching",
    "models.ahead": "models.look_ahead",
    "models.growing": "models.growing_cache",
    "models.plain": "models.plain_engine",
    "data.download": "data.rows data.files",
    "report.tables": "report.overview",
    "report.columns": "report.metric_columns",
    "workers.failures": "workers.progress workers.answering",
    "workers.processes": "workers.ranks",
    "data.benchmarks.table": "data.benchmarks.registry",
    "study.loading": "study.construction",
    "functional.intervals": "functional.paired_tests",
    "functional.statistics": "functional.closed_form",
    "models.vocabulary": "models.letter_tokens",
    "models.reading": "models.response_building",
    "models.precision": "models.self_check",
    "models.planning": "models.batch_planning",
    "log_records": "secrecy",
    "metrics.settings": "metrics.catalogue",
    "types.style": "types.sample",
    "demo.shapes": "demo.scenes",
    "demo.questions": "demo.scenes",
    "perturbations.statements.closed": "perturbations.statements.clauses",
    "perturbations.statements.wh": "perturbations.statements.statement",
    "perturbations.second_turn": "perturbations.question",
    "prompting.tags": "prompting.special_tokens prompting.chat",
    "workers.response_checks": "workers.progress workers.answering",
    "data.cells": "data.fields",
    "data.hub": "data.files data.rows",
    "data.sources": "data.rows data.files",
    "report.concatenation": "report.merging",
    "report.accumulation": "report.merging",
    "cli.finishing": "cli.app",
    "cli.completion": "cli.options",
    "data.benchmarks.training": "data.benchmarks.spatial data.benchmarks.general",
    "written_texts.record": "written_texts.drafts",
    "written_texts.text_model": "written_texts.drafts",
    "devices": "naming",
    "report.draws": "report.repeats",
    "report.rotation": "report.repeats",
    "models.sampling": "models.generation",
    "models.batch_independence": "models.self_check",
    "models.rendered": "models.encoding",
    "models.branches": "models.caches",
    "models.packing": "models.batch_planning",
    "models.unwrapping": "models.loading models.identity models.probe",
    "report.rendering": "report.html",
    "report.contents": "report.files report.serialisation",
    "report.parquet": "report.serialisation",
    "report.runs": "report.run_report",
    "report.headline": "report.overview report.html",
    "report.assertions": "report.findings",
    "plots.curve": "plots.panels",
    "perturbations.texts": "perturbations.wordings",
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
