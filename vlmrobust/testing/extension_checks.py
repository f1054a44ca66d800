"""Check that custom metrics and perturbations satisfy the library's requirements."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..manifest import config_of, sample_content
from ..metrics import BaseMetric, Metric, PairedMetric
from ..perturbations import (
    AbstainOption,
    NotApplicable,
    Perturbation,
    WrongCaption,
    draw_distractor,
    expand,
    paper_conditions,
)
from ..perturbations.expansion import in_place_of_one
from ..types import Prompt, Response, Responses, Sample, Style
from .fake_model import FakeModel
from .model_checks import prompt_content, require, varied_samples

__all__ = ["check_metric", "check_perturbation"]

_TOLERANCE = 1e-5
_SEED = 3

_Apply = Callable[[Sequence[int]], Tensor]


def check_metric(metric: Metric | PairedMetric, responses: Responses | None = None) -> None:
    """Check that a metric gives each response one number that depends only on that response.

    Args:
        metric: an instance of your class.
        responses: the test responses; None = answered, abstained, unparsed, truncated, failed and inapplicable ones to
            questions with 2 to 26 options. For a `PairedMetric` every sample needs a response under base.

    Raises:
        AssertionError: a requirement is violated; the message says which.

    Example:
        >>> from vlmrobust.metrics import Accuracy
        >>> check_metric(Accuracy())
    """
    require(
        isinstance(metric, BaseMetric),
        f"expected an instance of a Metric or PairedMetric subclass, got {type(metric).__name__}",
    )
    name = metric.column
    require(isinstance(name, str) and name.strip() == name != "", f"expected a column name, got {name!r}")
    require(
        metric.higher_is_better in (True, False, None),
        f"metric {name!r}: expected 'higher_is_better' to be True, False or None, got {metric.higher_is_better!r}",
    )
    tested = _varied_responses() if responses is None else responses
    rows, apply = _as_function(metric, tested)
    require(bool(rows), f"metric {name!r}: expected responses to try it on, got none")
    values = apply(rows)
    require(
        isinstance(values, Tensor) and values.shape == (len(rows),) and values.is_floating_point(),
        f"metric {name!r}: expected a float tensor of shape ({len(rows)},), got {values!r:.200}",
    )
    require(
        not values.isinf().any(),
        f"metric {name!r}: expected finite values, or NaN where it is undefined, got an infinity",
    )
    require(
        not values.isnan().all(),
        f"metric {name!r}: expected a value for one response at least, got NaN for all; pass responses that it fits",
    )
    failed = tested.select(rows).has_status("error", "not_applicable")
    require(
        bool(values[failed].isnan().all()),
        f"metric {name!r}: expected NaN for responses of status 'error' or 'not_applicable', got {values[failed]}",
    )
    _check_independence(name, values, rows, apply)
    _check_aggregate(metric, values, tested.select(rows))


def _varied_responses() -> Responses:
    samples = varied_samples()
    conditions = (*paper_conditions(), WrongCaption() + AbstainOption(text="None of this can be told"))
    model = FakeModel(
        accuracy=0.5, follow_caption=0.5, follow_think=0.5, contradict=0.3, unparsed=0.2, truncated=0.2, guess=0.2
    )
    prompts: list[Prompt] = []
    responses: list[Response] = []
    for start, sample in enumerate(samples):
        # The last condition adds an option, for which 26 options leave no letter.
        asked = list(expand([sample], conditions[: -1 if len(sample.options) == 26 else None], draws=2))
        answers = model.respond(asked)
        answers[3 + start] = Response.failed(asked[3 + start], "planted error")
        answers[-1] = Response.failed(asked[-1], "planted", "not_applicable")
        prompts += asked
        responses += answers
    return Responses.of(prompts, responses)


def _snapshot(responses: Responses) -> list[str]:
    values = [getattr(responses, field.name) for field in fields(responses) if field.init]
    return [repr(value.tolist() if isinstance(value, Tensor) else value) for value in values]


def _as_function(metric: Metric | PairedMetric, responses: Responses) -> tuple[list[int], _Apply]:
    """Return the rows to which the metric applies, and the metric as a function of rows."""
    every = list(range(len(responses)))
    if isinstance(metric, Metric):
        return every, lambda rows: _call(metric, _narrow(responses, rows))
    keys = list(zip(responses.sample_id, responses.draw.tolist(), strict=True))
    base = {keys[row]: row for row in every if responses.condition[row] == "base"}
    paired = [row for row in every if keys[row] in base and responses.condition[row] != "base"]
    return paired, lambda rows: _call(
        metric, _narrow(responses, [base[keys[row]] for row in rows]), _narrow(responses, rows)
    )


def _call(metric: Metric | PairedMetric, *sides: Responses) -> Tensor:
    before = [_snapshot(side) for side in sides]
    try:
        values: Tensor = metric(*sides)
    except Exception as error:
        raise AssertionError(
            f"metric {metric.column!r}: expected a value per response, NaN where it is undefined, "
            f"got {type(error).__name__}: {error}"
        ) from error
    require(
        [_snapshot(side) for side in sides] == before,
        f"metric {metric.column!r}: expected the responses to stay as they are, got them changed; "
        "clone a tensor before writing into it",
    )
    return values


def _narrow(responses: Responses, rows: Sequence[int]) -> Responses:
    """Return some responses with minimal padding, which varies with the batch."""
    chosen = responses.select(rows)
    width = int(chosen.option_count.max()) if len(rows) else 0
    return replace(chosen, option_logprobs=chosen.option_logprobs[:, :width])


def _check_independence(name: str, values: Tensor, rows: Sequence[int], apply: _Apply) -> None:
    def same(first: Tensor, second: Tensor) -> bool:
        return first.shape == second.shape and torch.allclose(
            first.double(), second.double(), rtol=0, atol=_TOLERANCE, equal_nan=True
        )

    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = apply([rows[place] for place in order])
    require(
        same(shuffled, values[order]),
        f"metric {name!r}: expected each response to keep its value in another order, got other values",
    )
    half = len(rows) // 3
    split = torch.cat([apply(rows[:half]), apply(rows[half:])])
    require(
        same(split, values),
        f"metric {name!r}: expected the same values whatever responses are scored together, got others in two batches; "
        "a value may depend on its own response alone (padding with -inf included)",
    )
    alone = torch.cat([apply([row]) for row in rows])
    require(
        same(alone, values),
        f"metric {name!r}: expected the same values whatever responses are scored together, got others one by one",
    )
    again = apply(rows)
    require(same(again, values), f"metric {name!r}: expected the same values when asked again, got others")
    empty = apply([])
    require(empty.shape == (0,), f"metric {name!r}: expected shape (0,) for no responses, got {tuple(empty.shape)}")


def _check_aggregate(metric: Metric | PairedMetric, values: Tensor, responses: Responses) -> None:
    defined = torch.nonzero(~values.isnan()).flatten().tolist()
    kept, chosen = values[defined], responses.select(defined)

    def aggregate(weights: Tensor | None) -> float:
        try:
            return float(metric.aggregate(kept, chosen, weights))
        except Exception as error:
            raise AssertionError(
                f"metric {metric.column!r}: expected a number from 'aggregate', got {type(error).__name__}: {error}"
            ) from error

    plain, ones = aggregate(None), aggregate(torch.ones(len(defined), dtype=torch.float64))
    require(
        math.isclose(plain, ones, abs_tol=_TOLERANCE) or math.isnan(plain) == math.isnan(ones) is True,
        f"metric {metric.column!r}: expected 'aggregate' to be the same without weights and with weights of 1, "
        f"got {plain} and {ones}",
    )
    weights = torch.arange(len(defined), dtype=torch.float64) % 3
    repeated = [row for row, weight in enumerate(weights.tolist()) for _ in range(int(weight))]
    expected = float(metric.aggregate(kept[repeated], chosen.select(repeated), None))
    weighted = aggregate(weights)
    require(
        math.isclose(weighted, expected, abs_tol=1e-4) or (math.isnan(weighted) and math.isnan(expected)),
        f"metric {metric.column!r}: expected 'aggregate' with a weight of k to count a response k times, "
        f"got {weighted} instead of {expected}",
    )


def check_perturbation(perturbation: Perturbation, samples: Sequence[Sample] | None = None) -> None:
    """Check that a perturbation returns prompts under its name, deterministically and without side effects.

    Args:
        perturbation: an instance of your class.
        samples: the test samples; None = samples with 2 to 26 options, non-Latin letters and several images. Samples
            for which it raises `NotApplicable` are skipped, but it has to apply to at least one.

    Raises:
        AssertionError: a requirement is violated; the message says which.

    Example:
        >>> from vlmrobust.perturbations import WrongCaption
        >>> check_perturbation(WrongCaption())
    """
    require(
        isinstance(perturbation, Perturbation),
        f"expected an instance of a Perturbation subclass, got {in_place_of_one(perturbation)}",
    )
    name = perturbation.condition
    require(isinstance(name, str) and name.strip() != "", f"{perturbation!r}: expected a condition name, got {name!r}")
    _check_config(perturbation)
    prompts = [_unperturbed(sample) for sample in (varied_samples() if samples is None else samples)]
    fitting = [prompt for prompt in prompts if _apply(perturbation, prompt) is not None]
    require(
        bool(fitting), f"condition {name!r}: expected it to fit one of the samples at least; pass samples that it fits"
    )
    for prompt in fitting:
        changed = _apply(perturbation, prompt)
        assert changed is not None
        _check_result(perturbation, prompt, changed)
        _check_draws(perturbation, prompt, changed)
        _check_inputs_untouched(perturbation, prompt)
        _check_composition(perturbation, prompt)
        _apply(perturbation, prompt.replace(style=Style(mode="direct")))
    _check_keyed(perturbation, fitting)


def _unperturbed(sample: Sample) -> Prompt:
    bare = Prompt.of(sample, distractor=draw_distractor(sample, _SEED))
    [base] = FakeModel(opens_images=False).respond([bare])
    return bare.replace(base=base)


def _apply(perturbation: Perturbation, prompt: Prompt) -> Prompt | None:
    try:
        return perturbation(prompt, _SEED)
    except NotApplicable:
        return None
    except Exception as error:
        mode = " under Style(mode='direct')," if prompt.style.mode == "direct" else ""
        raise AssertionError(
            f"{_where(perturbation, prompt)}: expected a prompt, or NotApplicable,{mode} "
            f"got {type(error).__name__}: {error}"
        ) from error


def _content(prompt: Prompt) -> tuple[Any, ...]:
    return prompt.condition, prompt.draw, prompt.style, prompt_content(prompt)


def _where(perturbation: Perturbation, prompt: Prompt) -> str:
    return f"condition {perturbation.condition!r}, sample {prompt.sample.id!r}"


def _check_config(perturbation: Perturbation) -> None:
    name = perturbation.condition
    try:
        config = config_of(perturbation)
        read_back = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"condition {name!r}: expected fields that JSON can hold, got {error}") from error
    require(
        read_back == config,
        f"condition {name!r}: expected its fields to come back from JSON as they were, "
        f"got {read_back} instead of {config}; a resumed run would be refused",
    )
    copy = perturbation.replace()
    require(
        copy == perturbation and config_of(copy) == config,
        f"condition {name!r}: expected a copy made from its fields to equal it, got {copy!r} from {perturbation!r}",
    )


def _check_result(perturbation: Perturbation, prompt: Prompt, changed: Prompt) -> None:
    where = _where(perturbation, prompt)
    require(
        changed.condition == perturbation.condition,
        f"{where}: expected a prompt under the condition's name, got {changed.condition!r}",
    )
    require(
        changed.sample == prompt.sample,
        f"{where}: expected the sample itself to stay as it is (change the prompt), got another",
    )
    require(changed.draw == prompt.draw, f"{where}: expected draw {prompt.draw} to be kept, got {changed.draw}")
    if changed.asserted is None:
        return
    expected = (changed.distractor, prompt.sample.answer)
    require(
        changed.asserted in expected,
        f"{where}: expected 'asserted' to be the distractor ({expected[0]}) or the answer ({expected[1]}), since all "
        f"conditions of a sample assert the same wrong option, got {changed.asserted}",
    )
    shown = ("context", "question", "history", "prefill", "options", "images")
    require(
        any(getattr(changed, field) != getattr(prompt, field) for field in shown),
        f"{where}: expected a text that asserts option {changed.asserted}, got a prompt that shows nothing new",
    )


def _check_draws(perturbation: Perturbation, prompt: Prompt, changed: Prompt) -> None:
    second = _apply(perturbation, prompt.replace(draw=1))
    require(
        second is not None and _content(second.replace(draw=prompt.draw)) == _content(changed),
        f"{_where(perturbation, prompt)}: expected the same prompt in every draw (they repeat one prompt), got another",
    )


def _check_inputs_untouched(perturbation: Perturbation, prompt: Prompt) -> None:
    def snapshot() -> tuple[Any, ...]:
        return *_content(prompt), json.dumps(sample_content(prompt.sample)), repr(prompt.sample.metadata)

    before = snapshot()
    _apply(perturbation, prompt)
    require(
        snapshot() == before,
        f"{_where(perturbation, prompt)}: expected the prompt and sample it was given to stay as they are, got them "
        "changed; return prompt.replace(…), and copy an image before drawing on it",
    )


def _check_composition(perturbation: Perturbation, prompt: Prompt) -> None:
    where = _where(perturbation, prompt)
    abstain = AbstainOption(text="None of this can be told")
    for composed in (perturbation + abstain, abstain + perturbation):
        changed = _apply(composed, prompt)
        if changed is None:
            continue
        require(
            changed.condition == composed.condition,
            f"{where}: expected the condition {composed.condition!r} of a composition, got {changed.condition!r}",
        )
        own = {option for option in changed.order if option is not None}
        kept = [text for text, option in zip(changed.options, changed.order, strict=True) if option is None]
        require(
            abstain.text in kept or not own,
            f"{where}: expected {composed.condition!r} to keep the added option (None in 'order'), "
            f"got options {changed.options} in order {changed.order}",
        )


def _check_keyed(perturbation: Perturbation, prompts: Sequence[Prompt]) -> None:
    def contents(asked: Sequence[Prompt], global_seed: int) -> dict[str, Any]:
        random.seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002 - the global state is what a perturbation must not use
        torch.manual_seed(global_seed)
        return {
            prompt.sample.id: None if (changed := _apply(perturbation, prompt)) is None else _content(changed)
            for prompt in asked
        }

    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            first = contents(prompts, 0)
            for trial in range(1, 9):
                # Even trials reverse the order, every third one leaves out a sample.
                asked = list(prompts)[:: -1 if trial % 2 == 0 else 1][int(trial % 3 == 0 and len(prompts) > 1) :]
                for sample_id, content in contents(asked, trial).items():
                    require(
                        content == first[sample_id],
                        f"condition {perturbation.condition!r}, sample {sample_id!r}: expected the same prompt "
                        "whatever was asked before, got another; draw from the 'rng' that 'perturb' is given, and "
                        "keep no state",
                    )
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
