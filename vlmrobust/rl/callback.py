"""All conditions, evaluated while a model is trained."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from transformers import Trainer, TrainerCallback

from ..evaluator import Evaluator
from ..metrics import Metric, PairedMetric
from ..models import HFModel
from ..perturbations import Perturbation
from ..report import Report
from ..types import Sample, Style, check_samples
from ..workers import ThisProcess
from .alarms import Alarms
from .undisturbed import check_not_sharded, undisturbed

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["RobustnessCallback"]


_PREFIX = "robustness"


class RobustnessCallback(TrainerCallback):
    """Evaluates all conditions before, during and after training, with the weights as they are.

    Every so many steps the samples are asked under every condition. The values are logged as
    `robustness/<condition>/<metric>`, the whole report is saved in `<output_dir>/robustness/step-<N>`, and what looks
    like thoughts that stop carrying the answers is warned of. The training goes on as if nothing had been asked: mode,
    cache, gradient checkpointing and random states are restored.

    Only the main process evaluates; the others wait at the next step, so keep an evaluation below the timeout of the
    process group. Sharded models (FSDP, ZeRO-3) are refused.

    Args:
        evaluator: the perturbations; or an `Evaluator`, whose model has to be the one that is trained.
        samples: what is asked, the same at every step.
        every: number of steps between two evaluations.
        metrics: what is measured; None = `default_metrics()`. An alarm whose metrics are not among them is not raised.
            This and the following are for perturbations alone; an `Evaluator` has its own.
        style, batch_size, seed: see `Evaluator`.
        generation: see `HFModel`.
        alarms: thresholds of the warnings.

    Raises:
        ValueError: two samples have one id, `every` is below 1, or an `Evaluator` is given with settings that it has
            itself; when training begins: the model is sharded, or the evaluator has another one.

    Example:
        >>> from vlmrobust import demo
        >>> from vlmrobust.perturbations import WrongThink
        >>> RobustnessCallback([WrongThink()], demo.samples(20), every=250).every
        250

    Source: arXiv:2602.12506 evaluates checkpoints about every 250 steps.
    """

    def __init__(
        self,
        evaluator: Evaluator | Sequence[Perturbation],
        samples: Iterable[Sample],
        every: int = 250,
        *,
        metrics: Sequence[Metric | PairedMetric] | None = None,
        style: Style | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        generation: Mapping[str, Any] | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"field 'every': expected at least 1, got {every}")
        self.samples = check_samples(samples)
        self.every = every
        self.alarms = alarms or Alarms()
        self._evaluator = evaluator if isinstance(evaluator, Evaluator) else None
        self._perturbations = () if isinstance(evaluator, Evaluator) else tuple(evaluator)
        given = {"metrics": metrics, "style": style, "batch_size": batch_size, "seed": seed, "generation": generation}
        self._settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self._evaluator is not None and self._settings:
            raise ValueError(f"expected an Evaluator alone, which has its own, got {', '.join(self._settings)} as well")
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> Self:
        """Add the callback to a trainer, and log to what the trainer logs to.

        Given in `callbacks=[…]` alone, its values go to the trainer's history and its reports only: transformers does
        not tell a callback which trainer it belongs to.
        """
        self._trainer = trainer
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return self

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate before the first step, which later ones are compared with."""
        model = kwargs["model"]
        check_not_sharded(model, args)
        if self._evaluator is None:
            settings = dict(self._settings)
            engine = HFModel(model, kwargs["processing_class"], settings.pop("generation", None))
            self._evaluator = Evaluator(engine, self._perturbations, **settings)
        own = getattr(self._evaluator.model, "model", None)
        parameters = set(map(id, getattr(own, "parameters", tuple)()))
        if parameters and parameters.isdisjoint(map(id, model.parameters())):
            raise ValueError(
                "RobustnessCallback: expected an evaluator of the model that is trained, got one of another; "
                "give the perturbations in place of the evaluator, and it is made of the trainer's model"
            )
        self._evaluate(args, state, control, model)

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate every so many steps."""
        if state.global_step % self.every == 0:
            self._evaluate(args, state, control, kwargs["model"])

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate after the last step."""
        self._evaluate(args, state, control, kwargs["model"])

    def _evaluate(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", model: Any
    ) -> None:
        evaluated = _evaluations(state)
        if not state.is_world_process_zero or state.global_step in evaluated:
            return
        assert self._evaluator is not None, "training has begun"
        with undisturbed(model):
            report = self._evaluator.run(self.samples, workers=ThisProcess())
        folder = Path(str(args.output_dir)) / _PREFIX / f"step-{state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        report.save(folder)
        values = values_of(report)
        self._log(state, control, {f"{_PREFIX}/{name}": value for name, value in values.items()})
        now = _base(values)
        messages = self.alarms.raised(evaluated[min(evaluated)], now) if evaluated else []
        if failed := sum(status == "error" for status in report.responses.status):
            messages.append(f"{failed} of {len(report)} responses failed, see the report")
        for message in messages:
            warnings.warn(f"step {state.global_step}, {len(self.samples)} samples: {message}", stacklevel=2)

    def _log(self, state: "TrainerState", control: "TrainerControl", values: dict[str, float]) -> None:
        if self._trainer is None:
            state.log_history.append({**values, "step": state.global_step})
            return
        # GRPOTrainer's own `log` would give out, and forget, its metrics of the steps so far.
        wanted = control.should_log
        Trainer.log(self._trainer, values)
        control.should_log = wanted  # a callback is asked after DefaultFlowCallback, whose wish logging would clear


def values_of(report: Report) -> dict[str, float]:
    """Return a report's numbers by `<condition>/<metric>`, without those that are undefined."""
    rows = report.summary
    names = rows["condition"] + "/" + rows["metric"]
    return {str(name): float(value) for name, value in zip(names, rows["value"], strict=True) if not math.isnan(value)}


def _base(values: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("base/"): value for name, value in values.items() if name.startswith("base/")}


def _evaluations(state: "TrainerState") -> dict[int, dict[str, float]]:
    """Return the values under base by step, from the history that is saved with checkpoints."""
    found: dict[int, dict[str, float]] = {}
    for entry in state.log_history:
        values = {name.removeprefix(f"{_PREFIX}/"): value for name, value in entry.items() if name.startswith(_PREFIX)}
        if values:
            found[int(entry["step"])] = _base(values)
    return found
