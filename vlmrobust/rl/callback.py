"""Evaluate all conditions while a model is trained."""

import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, get_args

import torch
from transformers import Trainer, TrainerCallback

from ..evaluator import Evaluator
from ..metrics import Metric, PairedMetric
from ..metrics.catalogue import metrics_named
from ..models import HFModel
from ..perturbations import Perturbation
from ..report import Report
from ..types import Sample, Style, check_samples
from ..workers import ThisProcess
from .alarms import Alarms, moved
from .trained_model import (
    Precision,
    as_trained,
    autocast_of,
    check_not_sharded,
    check_weights,
    note_weights,
    undisturbed,
)

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["Budget", "RobustnessCallback", "values_of"]

logger = logging.getLogger(__name__)

_PREFIX = "robustness"
_SKIPPED = f"{_PREFIX}/skipped"


class RobustnessCallback(TrainerCallback):
    """Evaluates all conditions before, during and after training, with the weights as they are.

    Every so many steps the samples are asked under every condition. The values are logged as
    `robustness/<condition>/<metric>`, the whole report is saved in `<output_dir>/robustness/step-<N>`, and what looks
    like thoughts that stop carrying the answers is warned of. The training goes on as if nothing had been asked: mode,
    cache, gradient checkpointing and random states are restored.

    The model is asked as the trainer asks it: up to as many new tokens, with the same ends, arguments of the chat
    template and autocast. Two things are not the trainer's: texts are decoded greedily, and logits are read in float32.

    What it costs is logged as `robustness/seconds` and, of all evaluations as a share of the training's time so far, as
    `robustness/share_of_training`. Those before the first step and after the last are always made. One in between that
    would, with the last one, take more than the budget is left out, and `robustness/skipped` counts these.

    A resumed run is evaluated at once, and compared with what was logged at its step. Weights that are not those that
    its checkpoint was saved with are refused.

    Only the main process evaluates; the others wait at the next step, so keep an evaluation below the timeout of the
    process group. Sharded models (FSDP, ZeRO-3) are refused.

    Args:
        evaluator: the perturbations; or an `Evaluator`, whose model has to be the one that is trained, and which asks
            it as it was told to.
        samples: what is asked, the same at every step.
        every: number of steps between two evaluations.
        metrics: what is measured, by names too, see `Evaluator`; None = `default_metrics()`. An alarm whose metrics are
            not among them is not raised.
            This and the following are for perturbations alone; an `Evaluator` has its own.
        style: see `Evaluator`.
        batch_size: see `Evaluator`.
        seed: see `Evaluator`.
        generation: options in place of the trainer's, each by its name; see `HFModel`.
        template: arguments for the chat template in place of the trainer's, each by its name.
        precision: what is computed in by autocast, float32 being none of it; None = as the trainer does. Also with an
            `Evaluator`.
        budget: what evaluations may cost, as a share of the time of training; None = anything.
        alarms: thresholds of the warnings.

    Raises:
        ValueError: two samples have one id, `every` is below 1, `budget` below 0, the name of a metric is not known, or
            an `Evaluator` is given with settings that it has itself; when training begins: the model is sharded, the
            evaluator has another one, the weights are coarser than `precision`, or a resumed run has other weights than
            its checkpoint.

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
        self._cost = Budget(budget)
        self._precision = precision
        self._evaluator = evaluator if isinstance(evaluator, Evaluator) else None
        self._perturbations = () if isinstance(evaluator, Evaluator) else tuple(evaluator)
        self._asked = {"generation": dict(generation or {}), "template": dict(template or {})}
        # A name that is not known is said now, not when training begins.
        measured = None if metrics is None else metrics_named(metrics)
        given = {"metrics": measured, "style": style, "batch_size": batch_size, "seed": seed}
        self._settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        own = [*self._settings, *(name for name, value in self._asked.items() if value)]
        if self._evaluator is not None and own:
            raise ValueError(f"expected an Evaluator alone, which has its own, got {', '.join(own)} as well")
        self._autocast: torch.dtype | None = None
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> Self:
        """Add the callback to a trainer, and log to what the trainer logs to.

        Given in `callbacks=[…]` alone, its values go to the trainer's history and its reports only: transformers does
        not tell a callback which trainer it belongs to.

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
        """Evaluate before the first step, which later ones are compared with; or at once, where a run is resumed."""
        model = kwargs["model"]
        check_not_sharded(model, args)
        resumed = state.global_step > 0
        if resumed and state.is_world_process_zero and not check_weights(state, model):
            logger.warning(
                "RobustnessCallback, resumed at step %d: the checkpoint has no note of its weights; only what was "
                "logged at this step can tell whether they were restored",
                state.global_step,
            )
        self._autocast = self._autocast_for(model, args)
        self._cost = Budget(self.budget)
        if self._evaluator is None:
            with self._cost.spending():
                self._evaluator = self._made(model, kwargs["processing_class"], args)
        own = getattr(self._evaluator.model, "model", None)
        parameters = set(map(id, getattr(own, "parameters", tuple)()))
        if parameters and parameters.isdisjoint(map(id, model.parameters())):
            raise ValueError(
                "RobustnessCallback: expected an evaluator of the model that is trained, got one of another; "
                "give the perturbations in place of the evaluator, and it is made of the trainer's model"
            )
        self._evaluate(args, state, control, model, resumed=resumed)

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate every so many steps, as far as the budget goes."""
        if state.global_step % self.every == 0 and state.is_world_process_zero:
            if self._cost.allows_one_more():
                self._evaluate(args, state, control, kwargs["model"])
            elif state.global_step < state.max_steps:  # else it is evaluated when training has ended
                self._skip(state, control)
        self._note(state, control, kwargs["model"])

    def on_epoch_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Have a checkpoint that is saved now say what its weights are."""
        self._note(state, control, kwargs["model"])

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """Evaluate after the last step."""
        self._evaluate(args, state, control, kwargs["model"])

    def _autocast_for(self, model: Any, args: "TrainingArguments") -> torch.dtype | None:
        if self._precision is None:
            return autocast_of(args)
        wanted: torch.dtype = getattr(torch, self._precision)
        own = next(model.parameters()).dtype
        if torch.finfo(own).eps > torch.finfo(wanted).eps:
            raise ValueError(
                f"RobustnessCallback, field 'precision': expected no more than the weights have, {own}, got "
                f"{self._precision!r}"
            )
        return None if wanted == torch.float32 else wanted

    def _made(self, model: Any, processor: Any, args: "TrainingArguments") -> Evaluator:
        """Return an evaluator that asks the model as the trainer does, but for what is told otherwise."""
        found = as_trained(args, model, processor)
        generation = found.generation | self._asked["generation"]
        with undisturbed(model, self._autocast):  # it tries the model
            engine = HFModel(model, processor, generation, template=found.template | self._asked["template"])
        return Evaluator(engine, self._perturbations, **self._settings)

    def _evaluate(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        model: Any,
        *,
        resumed: bool = False,
    ) -> None:
        evaluated = _evaluations(state)
        if not state.is_world_process_zero or (state.global_step in evaluated and not resumed):
            return
        assert self._evaluator is not None, "training has begun"
        training = self._cost.training
        with self._cost.spending():
            with undisturbed(model, self._autocast):
                report = self._evaluator.run(self.samples, workers=ThisProcess())
            folder = Path(str(args.output_dir)) / _PREFIX / f"step-{state.global_step}{'-resumed' if resumed else ''}"
            folder.mkdir(parents=True, exist_ok=True)
            report.save(folder)
        values = values_of(report)
        cost = {"seconds": self._cost.last}
        if state.global_step and not resumed:
            cost["share_of_training"] = self._cost.spent / training
        self._log(state, control, {f"{_PREFIX}/{name}": value for name, value in {**values, **cost}.items()})
        messages = self._compared(evaluated, state.global_step, values) if resumed else []
        messages += self.alarms.raised(_base(evaluated[min(evaluated)]), _base(values)) if evaluated else []
        if failed := sum(status == "error" for status in report.responses.status):
            messages.append(f"{failed} of {len(report)} responses failed, see the report")
        for message in messages:
            warnings.warn(f"step {state.global_step}, {len(self.samples)} samples: {message}", stacklevel=2)

    def _compared(
        self, evaluated: Mapping[int, Mapping[str, float]], step: int, values: Mapping[str, float]
    ) -> list[str]:
        if step not in evaluated:
            logger.info("step %d: nothing was logged at it that the resumed run could be compared with", step)
            return []
        differences = moved(evaluated[step], values, len(self.samples))
        if not differences:
            logger.info("step %d: the resumed run is where it was", step)
            return []
        return [
            f"the resumed run is not where it was: {'; '.join(differences)}; was the checkpoint's model restored, and "
            "is it asked in the same way?"
        ]

    def _skip(self, state: "TrainerState", control: "TrainerControl") -> None:
        cost = self._cost
        cost.skipped += 1
        logger.log(
            logging.WARNING if cost.skipped == 1 else logging.INFO,
            "step %d: no evaluation. With this one and the last one, %.3g s each, evaluations would have taken %.3g s "
            "of %.3g s of training, beyond the budget of %.3g (`budget=`, `every=`)",
            *(state.global_step, cost.last, cost.spent + 2 * cost.last, cost.training, cost.share),
        )
        self._log(state, control, {_SKIPPED: float(cost.skipped)})

    def _note(self, state: "TrainerState", control: "TrainerControl", model: Any) -> None:
        if control.should_save and state.is_world_process_zero:
            note_weights(state, model)

    def _log(self, state: "TrainerState", control: "TrainerControl", values: dict[str, float]) -> None:
        if self._trainer is None:
            state.log_history.append({**values, "step": state.global_step})
            return
        # GRPOTrainer's own `log` would give out, and forget, its metrics of the steps so far.
        wanted = control.should_log
        Trainer.log(self._trainer, values)
        control.should_log = wanted  # a callback is asked after DefaultFlowCallback, whose wish logging would clear


class Budget:
    """Counts seconds of training and of the evaluations that interrupt it, and says which evaluations are left out.

    Args:
        share: how many seconds of evaluations a second of training may cost; None = any.

    Attributes:
        spent: seconds of all evaluations so far.
        last: seconds of the last one.
        skipped: how many were left out.

    Example:
        >>> budget = Budget(0.1)
        >>> with budget.spending():
        ...     pass
        >>> budget.spent < 1.0, budget.skipped
        (True, 0)
    """

    def __init__(self, share: float | None) -> None:
        self.share = share
        self.spent = 0.0
        self.last = 0.0
        self.skipped = 0
        self._begun = perf_counter()

    @property
    def training(self) -> float:
        """Seconds since the beginning, without those of evaluations."""
        return perf_counter() - self._begun - self.spent

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count the time inside as an evaluation."""
        begun = perf_counter()
        yield
        self.last = perf_counter() - begun
        self.spent += self.last

    def allows_one_more(self) -> bool:
        """Return whether another evaluation as long as the last stays within the share, with room for the final one."""
        return self.share is None or self.spent + 2 * self.last <= self.share * self.training


def values_of(report: Report) -> dict[str, float]:
    """Return a report's numbers by `<condition>/<metric>`, without those that are undefined."""
    rows = report.summary
    names = rows["condition"] + "/" + rows["metric"]
    return {str(name): float(value) for name, value in zip(names, rows["value"], strict=True) if not math.isnan(value)}


def _base(values: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("base/"): value for name, value in values.items() if name.startswith("base/")}


def _evaluations(state: "TrainerState") -> dict[int, dict[str, float]]:
    """Return the values by step, from the history that is saved with checkpoints."""
    found: dict[int, dict[str, float]] = {}
    for entry in state.log_history:
        names = [name for name in entry if name.startswith(f"{_PREFIX}/") and name != _SKIPPED]
        if names:
            found[int(entry["step"])] = {
                name.removeprefix(f"{_PREFIX}/"): entry[name] for name in names if name.count("/") > 1
            }
    return found
