"""A batch of samples under all conditions: what is not on disk yet is asked, and failures are rows of their own."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from ..models.base import Model, RefusedError
from ..perturbations import NotApplicable, Perturbation
from ..perturbations.expansion import BaseResponses, Prompts
from ..store import RunDirectory
from ..types import Prompt, Response, Sample
from ..types.response import contract_problem
from .plan import Batch, Plan
from .progress import Progress

__all__ = ["Answerer", "Pair", "recorded"]

Pair = tuple[Prompt, Response]
Answered = dict[tuple[str, str, int], Pair]


class Answerer:
    """Answers batches, and records every answer in the run directory at once.

    Args:
        plan: what is asked.
        model: who is asked; None = nobody: what is not recorded is an error, and failed responses are final.
        directory: None = nothing is kept.
        progress: counts.
    """

    def __init__(
        self, plan: Plan, model: Model | None, directory: RunDirectory | None, progress: Progress | None = None
    ) -> None:
        self._plan, self._model, self._directory = plan, model, directory
        self._progress = progress or Progress(0, shown=False)

    def answer(self, batch: Batch) -> Iterator[Pair]:
        """Answer a batch, base first where a condition needs it; then yield its prompts and responses in order."""
        prompts = self._plan.prompts(batch.samples)
        if self._directory is not None:
            self._directory.begin(batch.samples)
        phases = [[c for c in self._plan.conditions if prompts.needs_base(c) is later] for later in (False, True)]
        answered: Answered = {}
        for conditions in filter(None, phases):
            self._progress.name(batch, conditions)
            asked = self._answer_some(prompts, conditions, answered)
            self._progress.add(len(batch.samples) * len(conditions) * self._plan.draws, asked)
        base = _base_of(answered)
        for sample in batch.samples:
            distractor = prompts.distractor_of(sample, base)
            for condition in self._plan.conditions:
                for draw in range(self._plan.draws):
                    prompt, response = answered[sample.id, condition.condition, draw]
                    # The runner-up was not known yet when base was asked.
                    known = prompt.distractor == distractor
                    yield prompt if known else prompt.replace(distractor=distractor), response

    def _answer_some(self, prompts: Prompts, conditions: Sequence[Perturbation], answered: Answered) -> int:
        """Put the answers under some conditions, from disk or new, into `answered`; return how many are new."""
        to_ask: list[Prompt] = []
        new: list[Pair] = []
        base = _base_of(answered)
        for sample in prompts.samples:
            for condition in conditions:
                for draw in range(self._plan.draws):
                    prompt, failure = self._make(prompts, sample, condition, draw, base)
                    # What stands for a prompt that could not be made is not the prompt that was answered before.
                    known = self._known(prompt) if failure is None or failure.status != "error" else None
                    if known is None and self._model is None:
                        known = failure
                    if known is not None:
                        answered[known.key] = prompt, known
                    elif failure is not None:
                        new.append((prompt, failure))
                    else:
                        to_ask.append(prompt)
        new += zip(to_ask, self._respond(to_ask), strict=True)
        if self._directory is not None:
            self._directory.record([prompt for prompt, _ in new], [response for _, response in new])
        answered.update({response.key: (prompt, response) for prompt, response in new})
        return len(new)

    def _known(self, prompt: Prompt) -> Response | None:
        if self._directory is None:
            return None
        if self._model is not None:
            return self._directory.finished(prompt)
        response = self._directory.recorded(prompt)
        if response is None:
            raise LookupError(
                f"run directory {self._directory.path}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, "
                f"draw {prompt.draw}: expected a response, found none"
            )
        return response

    def _make(
        self, prompts: Prompts, sample: Sample, condition: Perturbation, draw: int, base: BaseResponses
    ) -> tuple[Prompt, Response | None]:
        """Return a prompt, and the row that stands for its answer if it could not be made."""
        try:
            return prompts.make(sample, condition, draw, base), None
        except NotApplicable as reason:
            stand_in = prompts.stand_in(sample, condition, draw, base)
            return stand_in, Response.failed(stand_in, str(reason), "not_applicable")
        except Exception as error:
            if self._plan.on_error == "raise":
                error.add_note(f"in condition {condition.condition!r}, sample {sample.id!r}")
                raise
            stand_in = prompts.stand_in(sample, condition, draw, base)
            return stand_in, Response.failed(stand_in, error)

    def _respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask the model; what raises is asked again in smaller parts until the culprits are alone."""
        if not prompts:
            return []
        assert self._model is not None, "what is not recorded was an error"
        try:
            responses = self._model.respond(prompts)
        except Exception as error:
            if self._plan.on_error == "raise" or isinstance(error, RefusedError):
                error.add_note(
                    f"in {type(self._model).__name__}.respond, first of {len(prompts)} prompts: "
                    f"sample {prompts[0].sample.id!r}, condition {prompts[0].condition!r}"
                )
                raise
            if len(prompts) == 1:
                return [Response.failed(prompts[0], error)]
            by_sample = [list(group) for _, group in groupby(prompts, key=lambda prompt: prompt.sample.id)]
            parts = by_sample if len(by_sample) > 1 else [[prompt] for prompt in prompts]
            return [response for part in parts for response in self._respond(part)]
        _check_contract(self._model, prompts, responses)
        return [self._possible(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]

    def _possible(self, prompt: Prompt, response: Response) -> Response:
        """Return a response, or the row of an error where it holds what cannot be."""
        numbers = (*(response.option_logprobs or ()), *response.added_logprobs)
        problem = contract_problem(response)  # a copy that was not validated may hold anything
        if any(math.isnan(number) for number in numbers):
            problem = (
                f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': "
                f"expected log-probabilities, got NaN in {numbers}"
            )
        if problem is None:
            return response
        error = ValueError(f"{type(self._model).__name__}.respond: {problem}")
        if self._plan.on_error == "raise":
            raise error
        return Response.failed(prompt, error)


def recorded(plan: Plan, samples: Sequence[Sample], directory: RunDirectory) -> Iterator[Pair]:
    """Yield what a finished run has on disk, in the order of samples, conditions and draws.

    Raises:
        LookupError: a response is missing.
    """
    reader = Answerer(plan, None, directory)
    for batch in plan.batches(samples):
        yield from reader.answer(batch)


def _base_of(answered: Answered) -> BaseResponses:
    return {(sample, draw): response for (sample, name, draw), (_, response) in answered.items() if name == "base"}


def _check_contract(model: Model, prompts: Sequence[Prompt], responses: Sequence[Response]) -> None:
    name = f"{type(model).__name__}.respond"
    if not isinstance(responses, list | tuple):
        raise TypeError(f"{name}: expected a list of responses, got {type(responses).__name__}")
    if len(responses) != len(prompts):
        raise ValueError(f"{name}: expected one response per prompt ({len(prompts)}), got {len(responses)}")
    for position, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        if not isinstance(response, Response):
            raise TypeError(f"{name}: expected a Response at position {position}, got {type(response).__name__}")
        expected = (prompt.sample.id, prompt.condition, prompt.draw)
        if response.key != expected:
            raise ValueError(f"{name}: expected the response to {expected} at position {position}, got {response.key}")
        count, logprobs = len(prompt.sample.options), response.option_logprobs
        if logprobs is not None and len(logprobs) != count:
            raise ValueError(
                f"{name}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': "
                f"expected {count} values, one per option of the sample, got {len(logprobs)}"
            )
        if response.answer is not None and not 0 <= response.answer < count:
            raise ValueError(
                f"{name}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'answer': "
                f"expected an index of the sample's options (0 to {count - 1}), got {response.answer}"
            )
