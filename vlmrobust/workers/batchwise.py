"""One batch after another: a model gets a list of prompts, and the next when it has answered."""

from collections.abc import Generator, Iterable, Sequence
from itertools import groupby

from ..models.base import Model, RefusedError
from ..types import Prompt, Response
from .asking import Asking, Pair, Phase
from .contract import checked, possible
from .failing import Failing
from .plan import Batch
from .progress import Counted, Progress

__all__ = ["Batchwise"]


class Batchwise:
    """Asks one list of prompts for each phase of a batch, which is on disk when it is answered.

    Args:
        asking: what is asked, and where answers are kept.
        model: who is asked.
        progress: counts.
        failing: counts what fails.
    """

    def __init__(self, asking: Asking, model: Model, progress: Progress, failing: Failing) -> None:
        self._asking, self._model, self._progress, self._failing = asking, model, progress, failing

    def answer(self, batches: Iterable[Batch]) -> Generator[Pair, None, None]:
        """Yield the prompts and responses of batches in order."""
        for batch in batches:
            self._asking.begin(batch.samples)
            yield from self._answered(batch)
            self._asking.end(batch.samples)

    def _answered(self, batch: Batch) -> list[Pair]:
        phases = self._asking.phases(batch.samples)
        try:
            phase = next(phases)
            while True:
                phase = phases.send(self._answer_phase(batch, phase))
        except StopIteration as ended:
            rows: list[Pair] = ended.value
            return rows

    def _answer_phase(self, batch: Batch, phase: Phase) -> list[Response]:
        self._progress.name(batch, phase.conditions)
        responses = self._respond(phase.to_ask)
        new = [*phase.failed, *zip(phase.to_ask, responses, strict=True)]
        self._asking.keep(new)
        self._progress.add(Counted.of(len(phase.known), new))
        self._failing.check()
        return responses

    def _respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask the model; what raises is asked again in smaller parts until the culprits are alone."""
        if not prompts:
            return []
        method = f"{type(self._model).__name__}.respond"
        try:
            responses = self._model.respond(prompts)
        except Exception as error:
            if self._asking.plan.on_error == "raise" or isinstance(error, RefusedError):
                error.add_note(
                    f"in {method}, first of {len(prompts)} prompts: "
                    f"sample {prompts[0].sample.id!r}, condition {prompts[0].condition!r}"
                )
                raise
            if len(prompts) == 1:
                return self._counted(prompts, [Response.failed(prompts[0], error)])
            by_sample = [list(group) for _, group in groupby(prompts, key=lambda prompt: prompt.sample.id)]
            parts = by_sample if len(by_sample) > 1 else [[prompt] for prompt in prompts]
            return [response for part in parts for response in self._part(part)]
        if not isinstance(responses, list | tuple):
            raise TypeError(f"{method}: expected a list of responses, got {type(responses).__name__}")
        if len(responses) != len(prompts):
            raise ValueError(f"{method}: expected one response per prompt ({len(prompts)}), got {len(responses)}")
        for position, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            checked(response, prompt, method, f" at position {position}")
        on_error = self._asking.plan.on_error
        pairs = zip(prompts, responses, strict=True)
        return self._counted(prompts, [possible(response, prompt, method, on_error) for prompt, response in pairs])

    def _part(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask some of what raised, unless the run is over; what was answered is put on disk before it ends."""
        if self._failing.is_over:
            return [Response.failed(prompt, "not asked: all before it failed for one reason") for prompt in prompts]
        return self._respond(prompts)

    def _counted(self, prompts: Sequence[Prompt], responses: list[Response]) -> list[Response]:
        for prompt, response in zip(prompts, responses, strict=True):
            if not self._failing.is_over:
                self._failing.count(prompt, response)
        return responses
