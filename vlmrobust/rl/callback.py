"""Evaluate a model under all conditions during training, and warn of collapsing thoughts."""

import logging
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import torch
from pydantic import Field
from transformers import Trainer, TrainerCallback

from ..evaluator import Evaluator
from ..metrics import Metric, PairedMetric
from ..metrics.catalogue import metrics_named
from ..models import HFModel
from ..perturbations import Perturbation
from ..report import Report
from ..types import Sample, Style, check_samples
from ..types.frozen import Frozen
from ..workers import ThisProcess
from .trained_model import (
    Budget,
    Precision,
    autocast_of,
    check_not_sharded,
    check_weights,
    moved,
    record_weights,
    trainer_settings,
    undisturbed,
)

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["Alarms", "RobustnessCallback", "metric_values"]

logger = logging.getLogger(__name__)

_PREFIX = "robustness"
_SKIPPED = f"{_PREFIX}/skipped"


class Alarms(Frozen):
    """Thresholds for warnings; the `base` condition is compared with its first evaluation.

    All defaults are ours, and rough: they flag runs worth inspecting. A warning is not a significance test; the
    step's report has the intervals.

    Attributes:
        consistency_drop, accuracy_rise: warn when consistency has dropped by at least the first while accuracy has
            risen by more than the second, both in [0, 1].
        entropy_share, entropy_drop: warn when letter or token entropy is below this share of its first value and has
            dropped by at least `entropy_drop` nats.
        thought_share: warn when thoughts have fewer than this share of the first evaluation's words.

    Example:
        >>> before = {"accuracy": 0.6, "consistency": 0.9, "letter_entropy": 0.8, "thought_length": 40.0}
        >>> now = {"accuracy": 0.7, "consistency": 0.7, "letter_entropy": 0.7, "thought_length": 12.0}
        >>> for message in Alarms().raised(before, now):
        ...     print(message)
        consistency fell from 0.900 to 0.700 while accuracy rose from 0.600 to 0.700
        thoughts shortened from 40.0 to 12.0 words

    Source: arXiv:2602.12506 reports all three; the thresholds are ours.
    """

    consistency_drop: float = Field(default=0.05, ge=0, le=1)
    accuracy_rise: float = Field(default=0.0, ge=0, le=1)
    entropy_share: float = Field(default=0.5, ge=0, le=1)
    entropy_drop: float = Field(default=0.05, ge=0)
    thought_share: float = Field(default=0.5, ge=0, le=1)

    def raised(self, before: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
        """Return a message for each alarm.

        Args:
            before: metrics of the first evaluation by column; a missing or NaN value raises no alarm.
            now: metrics of the current evaluation.
        """

        def pair(name: str) -> tuple[float, float]:
            return before.get(name, math.nan), now.get(name, math.nan)

        messages = []
        consistency, accuracy = pair("consistency"), pair("accuracy")
        dropped = consistency[1] <= consistency[0] - self.consistency_drop
        if dropped and accuracy[1] > accuracy[0] + self.accuracy_rise:
            messages.append(
                f"consistency fell from {consistency[0]:.3f} to {consistency[1]:.3f} "
                f"while accuracy rose from {accuracy[0]:.3f} to {accuracy[1]:.3f}"
            )
        for name in ("letter_entropy", "token_entropy"):
            first, last = pair(name)
            if last < self.entropy_share * first and last <= first - self.entropy_drop:
                messages.append(f"{name.replace('_', ' ')} collapsed from {first:.3f} to {last:.3f} nats")
        first, last = pair("thought_length")
        if last < self.thought_share * first:
            messages.append(f"thoughts shortened from {first:.1f} to {last:.1f} words")
        return messages


class RobustnessCallback(TrainerCallback):
    """Evaluates the current weights under all conditions before, during and after training.

    Every `every` steps the model answers the samples under every condition. Values are logged as
    `robustness/<condition>/<metric>`, the whole report is saved in `<output_dir>/robustness/step-<N>`, and a warning is
    issued when thoughts seem to stop determining the answers. Training is not affected: mode, cache, gradient
    checkpointing and random states are restored.

    Generation follows the trainer's settings: token limit, stopping criteria, chat template arguments and autocast.
    Two things differ: decoding is greedy, and logits are read in float32.

    The cost is logged as `robustness/seconds` and, for all evaluations as a share of the training time so far, as
    `robustness/share_of_training`. Evaluations before the first step and after the last are never skipped. One in
    between is skipped if, together with the last one, it would exceed the budget; `robustness/skipped` counts these.

    A resumed run is evaluated at once and compared with the values logged at its step. It is refused if its weights are
    not those of its checkpoint.

    Only the main process evaluates; the others wait at the next step, so keep an evaluation shorter than the timeout of
    the process group. Sharded models (FSDP, ZeRO-3) are refused.

    Args:
        evaluator: the perturbations; or an `Evaluator` of the model in training, used with its own settings.
        samples: the samples to evaluate, the same at every step.
        every: number of steps between two evaluations.
        metrics: metrics or their names, see `Evaluator`; None = `default_metrics()`. Alarms whose metrics are not among
            them are never raised. This argument and the following ones are for perturbations only; an `Evaluator` has
            its own.
        style: see `Evaluator`.
        batch_size: see `Evaluator`.
        seed: see `Evaluator`.
        generation: generation options that override the trainer's, see `HFModel`.
        template: chat template arguments that override the trainer's.
        precision: autocast data type, where float32 disables autocast; None = the trainer's. Also applies to an
            `Evaluator`.
        budget: maximum cost of evaluations as a share of training time; None = unlimited.
        alarms: thresholds for warnings.

    Raises:
        ValueError: two samples have the same id, `every` is below 1, `budget` is below 0, a metric's name is unknown,
            or an `Evaluator` is given together with settings of its own; when training begins: the model is sharded,
            the evaluator has another model, the weights are coarser than `precision`, or a resumed run's weights differ
            from its checkpoint's.

    Example:
        >>> from vlmrobust import demo
        >>> from vlmrobust.perturbations import WrongThink
        >>> RobustnessCallback([WrongThink()], demo.samples(20), metrics=["accuracy", "consistency"], budget=0.05).every
        250

    Source: arXiv:2602.12506 evaluates checkpoints about every 250 steps.
    """

    def __init__(
        self,
        evaluator: Evaluator | Sequence[Perturbation],
        samples: Iterable[Sample],
        every: int = 250,
        *,
        metrics: Sequence[Metric | PairedMetric | str] | None = None,
        style: Style | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        generation: Mapping[str, Any] | None = None,
        template: Mapping[str, Any] | None = None,
        precision: Precision | None = None,
        budget: float | None = 0.1,
        alarms: Alarms | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"field 'every': expected at least 1, got {every}")
        if budget is not None and not budget >= 0:
            raise ValueError(f"field 'budget': expected a share of at least 0, or None, got {budget}")
        if precision is not None and precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"field 'precision': expected one of {known}, or None, got {precision!r}")
        self.samples = check_samples(samples)
        self.every = every
        self.alarms = alarms or Alarms()
        self.budget = budget
        self._budget = Budget(budget)
        self._precision = precision
        self._evaluator = evaluator if isinstance(evaluator, Evaluator) else None
        self._perturbations = () if isinstance(evaluator, Evaluator) else tuple(evaluator)
        self._overrides = {"generation": dict(generation or {}), "template": dict(template or {})}
        # Unknown names are reported now rather than when training begins.
        resolved = None if metrics is None else metrics_named(metrics)
        settings = {"metrics": resolved, "style": style, "batch_size": batch_size, "seed": seed}
        self._settings: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
        extra = [*self._settings, *(name for name, value in self._overrides.items() if value)]
        if self._evaluator is not None and extra:
            raise ValueError(
                f"expected an Evaluator without settings, as it has its own, got {', '.join(extra)} as well"
            )
        self._autocast: torch.dtype | None = None
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> Self:
        """Add the callback to a trainer and log wherever the trainer logs.

        With `callbacks=[…]` alone, values go only to the trainer's history and the reports: transformers does not tell
        a callback which trainer it belongs to.

        Raises:
            ValueError: the model is sharded.
        """
        check_not_sharded(trainer.model, trainer.args)
        self._trainer = trainer
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return self

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate before the first step, as the baseline of later evaluations, or at once if the run is resumed."""
        model = kwargs["model"]
        check_not_sharded(model, args)
        resumed = state.global_step > 0
        if resumed and state.is_world_process_zero and not check_weights(state, model):
            logger.warning(
                "RobustnessCallback, resumed at step %d: the checkpoint has no record of its weights; only the values "
                "logged at this step can show whether they were restored",
                state.global_step,
            )
        self._autocast = self._autocast_for(model, args)
        self._budget = Budget(self.budget)
        if self._evaluator is None:
            with self._budget.timed():
                self._evaluator = self._make_evaluator(model, kwargs["processing_class"], args)
        evaluated = getattr(self._evaluator.model, "model", None)
        parameters = set(map(id, getattr(evaluated, "parameters", tuple)()))
        if parameters and parameters.isdisjoint(map(id, model.parameters())):
            raise ValueError(
                "RobustnessCallback: expected an evaluator of the model in training, got one of another model; pass "
                "the perturbations instead of the evaluator to evaluate the trainer's model"
            )
        self._evaluate(args, state, control, model, resumed=resumed)

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate every `every` steps, within the budget."""
        if state.global_step % self.every == 0 and state.is_world_process_zero:
            if self._budget.allows_another():
                self._evaluate(args, state, control, kwargs["model"])
            elif state.global_step < state.max_steps:  # the last step is evaluated when training ends
                self._skip(state, control)
        self._record_weights(state, control, kwargs["model"])

    def on_epoch_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Record the weights if a checkpoint is about to be saved."""
        self._record_weights(state, control, kwargs["model"])

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate after the last step."""
        self._evaluate(args, state, control, kwargs["model"])

    def _autocast_for(self, model: Any, args: "TrainingArguments") -> torch.dtype | None:
        if self._precision is None:
            return autocast_of(args)
        dtype: torch.dtype = getattr(torch, self._precision)
        weights = next(model.parameters()).dtype
        if torch.finfo(weights).eps > torch.finfo(dtype).eps:
            raise ValueError(
                f"RobustnessCallback, field 'precision': expected at most the precision of the weights, {weights}, got "
                f"{self._precision!r}"
            )
        return None if dtype == torch.float32 else dtype

    def _make_evaluator(self, model: Any, processor: Any, args: "TrainingArguments") -> Evaluator:
        """Return an evaluator that generates with the trainer's settings and the overrides."""
        inherited = trainer_settings(args, model, processor)
        generation = inherited.generation | self._overrides["generation"]
        template = inherited.template | self._overrides["template"]
        with undisturbed(model, self._autocast):  # the constructor runs the model
            wrapped = HFModel(model, processor, generation, template=template)
        return Evaluator(wrapped, self._perturbations, **self._settings)

    def _evaluate(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        model: Any,
        *,
        resumed: bool = False,
    ) -> None:
        logged = _logged_values(state)
        if not state.is_world_process_zero or (state.global_step in logged and not resumed):
            return
        assert self._evaluator is not None, "training has not begun"
        training = self._budget.training
        with self._budget.timed():
            with undisturbed(model, self._autocast):
                report = self._evaluator.run(self.samples, workers=ThisProcess())
            folder = Path(str(args.output_dir)) / _PREFIX / f"step-{state.global_step}{'-resumed' if resumed else ''}"
            folder.mkdir(parents=True, exist_ok=True)
            report.save(folder)
        values = metric_values(report)
        cost = {"seconds": self._budget.last}
        if state.global_step and not resumed:
            cost["share_of_training"] = self._budget.spent / training
        self._log(state, control, {f"{_PREFIX}/{name}": value for name, value in {**values, **cost}.items()})
        messages = self._compare_with_log(logged, state.global_step, values) if resumed else []
        if logged:
            messages += self.alarms.raised(_base_values(logged[min(logged)]), _base_values(values))
        if failed := sum(status == "error" for status in report.responses.status):
            messages.append(f"{failed} of {len(report)} responses failed, see the report")
        for message in messages:
            warnings.warn(f"step {state.global_step}, {len(self.samples)} samples: {message}", stacklevel=2)

    def _compare_with_log(
        self, logged: Mapping[int, Mapping[str, float]], step: int, values: Mapping[str, float]
    ) -> list[str]:
        if step not in logged:
            logger.info("step %d: no values were logged here to compare the resumed run with", step)
            return []
        differences = moved(logged[step], values, len(self.samples))
        if not differences:
            logger.info("step %d: the resumed run matches the values logged before", step)
            return []
        return [
            f"the resumed run differs from the values logged before: {'; '.join(differences)}; was the checkpoint's "
            "model restored, and is it evaluated with the same settings?"
        ]

    def _skip(self, state: "TrainerState", control: "TrainerControl") -> None:
        cost = self._budget
        cost.skipped += 1
        logger.log(
            logging.WARNING if cost.skipped == 1 else logging.INFO,
            "step %d: evaluation skipped. With this one and the final one, %.3g s each, evaluations would have taken "
            "%.3g s of %.3g s of training, more than the budget of %.3g (`budget=`, `every=`)",
            *(state.global_step, cost.last, cost.spent + 2 * cost.last, cost.training, cost.share),
        )
        self._log(state, control, {_SKIPPED: float(cost.skipped)})

    def _record_weights(self, state: "TrainerState", control: "TrainerControl", model: Any) -> None:
        if control.should_save and state.is_world_process_zero:
            record_weights(state, model)

    def _log(self, state: "TrainerState", control: "TrainerControl", values: dict[str, float]) -> None:
        if self._trainer is None:
            state.log_history.append({**values, "step": state.global_step})
            return
        # GRPOTrainer.log would also emit and reset its metrics of the steps so far.
        should_log = control.should_log
        Trainer.log(self._trainer, values)
        control.should_log = should_log  # set by DefaultFlowCallback before this callback runs; logging clears it


def metric_values(report: Report) -> dict[str, float]:
    """Return a report's defined values by `<condition>/<metric>`."""
    rows = report.summary
    names = rows["condition"] + "/" + rows["metric"]
    return {str(name): float(value) for name, value in zip(names, rows["value"], strict=True) if not math.isnan(value)}


def _base_values(values: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("base/"): value for name, value in values.items() if name.startswith("base/")}


def _logged_values(state: "TrainerState") -> dict[int, dict[str, float]]:
    """Return the logged values by step, from the history that is saved with checkpoints."""
    values: dict[int, dict[str, float]] = {}
    for entry in state.log_history:
        names = [name for name in entry if name.startswith(f"{_PREFIX}/") and name != _SKIPPED]
        if names:
            values[int(entry["step"])] = {
                name.removeprefix(f"{_PREFIX}/"): entry[name] for name in names if name.count("/") > 1
            }
    return values
