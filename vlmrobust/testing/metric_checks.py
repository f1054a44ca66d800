"""Whether a metric keeps what a report relies on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from ..metrics import BaseMetric, Metric, PairedMetric
from ..perturbations import AbstainOption, WrongCaption, expand, paper_conditions
from ..types import Prompt, Response, Responses
from .fake_model import FakeModel
from .requirement import require
from .samples import varied_samples

__all__ = ["check_metric"]

_TOLERANCE = 1e-5

Apply = Callable[[Sequence[int]], Tensor]


def check_metric(metric: Metric | PairedMetric, responses: Responses | None = None) -> None:
    """Check that a metric gives each response one number that depends on that response alone.

    Args:
        metric: an instance of your class.
        responses: what to try it on; None = answered, abstained, unparsed, truncated, failed and inapplicable responses
            to questions of 2 to 26 options. For a `PairedMetric` every sample needs a response under base.

    Raises:
        AssertionError: with a sentence that says what is wrong.

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
    said = _varied_responses() if responses is None else responses
    rows, apply = _applied(metric, said)
    require(bool(rows), f"metric {name!r}: expected responses to try it on, got none")
    values = _called(name, lambda: apply(rows))
    _check_values(name, values, len(rows))
    _check_failed(name, values, said, rows)
    _check_each_alone(name, values, rows, apply)
    _check_aggregate(metric, values, said.select(rows))


def _varied_responses() -> Responses:
    samples = varied_samples()
    conditions = (*paper_conditions(), WrongCaption() + AbstainOption(text="None of this can be told"))
    model = FakeModel(
        accuracy=0.5, follow_caption=0.5, follow_think=0.5, contradict=0.3, unparsed=0.2, truncated=0.2, guess=0.2
    )
    prompts: list[Prompt] = []
    responses: list[Response] = []
    for start, sample in enumerate(samples):
        # The last condition adds an option, which 26 leave no letter for.
        asked = list(expand([sample], conditions[: -1 if len(sample.options) == 26 else None], draws=2))
        said = model.respond(asked)
        said[3 + start] = Response.failed(asked[3 + start], "planted error")
        said[-1] = Response.failed(asked[-1], "planted", "not_applicable")
        prompts += asked
        responses += said
    return Responses.of(prompts, responses)


def _snapshot(responses: Responses) -> list[object]:
    def plain(value: object) -> object:
        return repr(value.tolist()) if isinstance(value, Tensor) else repr(value)

    return [plain(getattr(responses, field.name)) for field in fields(responses) if field.init]


def _applied(metric: Metric | PairedMetric, responses: Responses) -> tuple[list[int], Apply]:
    """Return the rows that the metric is defined over, and the metric as a function of some of them."""
    every = list(range(len(responses)))
    if isinstance(metric, Metric):
        return every, lambda rows: _untouched(metric, _narrow(responses, rows))
    keys = list(zip(responses.sample_id, responses.draw.tolist(), strict=True))
    base = {keys[row]: row for row in every if responses.condition[row] == "base"}
    paired = [row for row in every if keys[row] in base and responses.condition[row] != "base"]
    return paired, lambda rows: _untouched(
        metric, _narrow(responses, [base[keys[row]] for row in rows]), _narrow(responses, rows)
    )


def _untouched(metric: Metric | PairedMetric, *sides: Responses) -> Tensor:
    before = [_snapshot(side) for side in sides]
    values: Tensor = metric(*sides)
    require(
        [_snapshot(side) for side in sides] == before,
        f"metric {metric.column!r}: expected the responses to stay as they are, got them changed; "
        "clone a tensor before writing into it",
    )
    return values


def _narrow(responses: Responses, rows: Sequence[int]) -> Responses:
    """Return some responses, padded only as far as they need: another batch pads to another width."""
    chosen = responses.select(rows)
    width = int(chosen.option_count.max()) if len(rows) else 0
    parts = {field.name: getattr(chosen, field.name) for field in fields(chosen) if field.init}
    return Responses(**(parts | {"option_logprobs": chosen.option_logprobs[:, :width]}))


def _called(name: str, call: Callable[[], Tensor]) -> Tensor:
    try:
        return call()
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(
            f"metric {name!r}: expected a value per response, NaN where it is undefined, "
            f"got {type(error).__name__}: {error}"
        ) from error


def _check_values(name: str, values: Tensor, count: int) -> None:
    require(
        isinstance(values, Tensor) and values.shape == (count,) and values.is_floating_point(),
        f"metric {name!r}: expected a float tensor of shape ({count},), got {values!r:.200}",
    )
    require(
        not values.isinf().any(),
        f"metric {name!r}: expected finite values, or NaN where it is undefined, got an infinity",
    )
    require(
        not values.isnan().all(),
        f"metric {name!r}: expected a value for one response at least, got NaN for all; pass responses that it fits",
    )


def _check_failed(name: str, values: Tensor, responses: Responses, rows: Sequence[int]) -> None:
    failed = responses.select(rows).has_status("error", "not_applicable")
    require(
        bool(values[failed].isnan().all()),
        f"metric {name!r}: expected NaN for responses of status 'error' or 'not_applicable', got {values[failed]}",
    )


def _check_each_alone(name: str, values: Tensor, rows: Sequence[int], apply: Apply) -> None:
    def same(first: Tensor, second: Tensor) -> bool:
        return first.shape == second.shape and torch.allclose(
            first.double(), second.double(), rtol=0, atol=_TOLERANCE, equal_nan=True
        )

    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = _called(name, lambda: apply([rows[place] for place in order]))
    require(
        same(shuffled, values[order]),
        f"metric {name!r}: expected each response to keep its value in another order, got other values",
    )
    half = len(rows) // 3
    split = torch.cat([_called(name, lambda: apply(rows[:half])), _called(name, lambda: apply(rows[half:]))])
    require(
        same(split, values),
        f"metric {name!r}: expected the same values whatever responses are scored together, got others in two batches; "
        "a value may depend on its own response alone (padding with -inf included)",
    )
    alone = torch.cat([_called(name, lambda row=row: apply([row])) for row in rows])  # type: ignore[misc]
    require(
        same(alone, values),
        f"metric {name!r}: expected the same values whatever responses are scored together, got others one by one",
    )
    again = _called(name, lambda: apply(rows))
    require(same(again, values), f"metric {name!r}: expected the same values when asked again, got others")
    empty = _called(name, lambda: apply([]))
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
