"""Provide conditions and metrics for tasks of inspect_ai: a solver that perturbs and a scorer that measures.

Inspect registers both by name: the log of a task has its conditions and settings, and `read_inspect` restores the
prompts. Needs `pip install vlmrobust[harnesses]`.
"""

from collections.abc import Sequence
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentText,
)
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from ..metrics import Accuracy, Consistency, ConsistencyCoverage, FollowRate, Metric, TruncatedRate, UnparsedRate
from ..metrics.catalogue import metrics_named
from ..models.server.messages import data_url
from ..perturbations import Base, NotApplicable, Perturbation
from ..perturbations.wordings import draw_distractor
from ..prompting import KNOWN_TOKENS, LETTERS
from ..report.metric_columns import score as measured
from ..types import ImageLike, Prompt, Responses, Style
from .imported import LoggedImage
from .inspect_logs import RECORD, InspectSample, prompt_of, response_of_log, sample_from

__all__ = ["perturbed", "robustness"]


@solver
def perturbed(condition: Perturbation | None = None, *, style: Style | None = None, seed: int = 0) -> Solver:
    """Apply a condition to a sample and let the model answer.

    The sample has its image in `input` and its options in `choices`; its `metadata["vlmrobust"]` may hold `texts`,
    `distractor` and `group`, as in a row of `data.samples_from`. A prefilled thought becomes a last assistant message,
    which the provider has to continue, as inspect's providers for vLLM and SGLang do; this cannot be verified here. If
    the condition is not applicable, the sample ends without a call.

    Args:
        condition: the perturbation; None = `Base()`.
        style: the style of the prompt and of parsing; None = `Style()`.
        seed: seed of every random draw, together with the sample's id, as in `expand`.

    Raises:
        ValueError: the sample has no choices, or the condition needs the response under base.

    Example:
        >>> from inspect_ai import Task, task
        >>> from vlmrobust.perturbations import WrongThink
        >>> @task
        ... def under_a_wrong_thought():
        ...     return Task(dataset=[], solver=perturbed(WrongThink()), scorer=robustness())
    """
    chosen = Base() if condition is None else condition

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        sample = sample_from(_answered(state))
        prompt = Prompt.of(sample, style=style, draw=state.epoch - 1, distractor=draw_distractor(sample, seed))
        try:
            prompt = chosen(prompt, seed)
        except NotApplicable as reason:
            _record(state, prompt.replace(condition=chosen.condition), not_applicable=str(reason))
            state.completed = True
            return state
        _record(state, prompt)
        state.messages = _messages(prompt)
        return await generate(state)

    return solve


@scorer(metrics={"*": [mean(), stderr()]})
def robustness(metrics: Sequence[Metric | str] | None = None, *, style: Style | None = None) -> Scorer:
    """Score a response as a report does: one value per metric, NaN if undefined, which inspect leaves out.

    Args:
        metrics: the metrics or their names; None = accuracy, shares of unparsed and truncated answers, follow rate,
            consistency and its coverage.
        style: the style used to parse answers in a task without `perturbed`; None = `Style()`.

    Returns:
        A scorer. `Score.answer` is the letter of the answer among the sample's `choices`, whatever order the prompt
        had; `Score.explanation` is the thought.
    """
    columns = metrics_named(
        metrics or (Accuracy(), UnparsedRate(), TruncatedRate(), FollowRate(), Consistency(), ConsistencyCoverage())
    )

    async def score(state: TaskState, target: Target) -> Score:
        answered = _answered(state)
        prompt = prompt_of(answered, style)
        response = response_of_log(prompt, answered)
        values = measured(Responses.of([prompt], [response]), columns)
        return Score(
            value={column.name: float(column.scores[0]) for column in values},
            answer=None if response.answer is None else LETTERS[response.answer],
            explanation=response.think or response.error,
            metadata={"condition": prompt.condition, "status": response.status},
        )

    return score


def _answered(state: TaskState) -> InspectSample:
    choices = sorted(state.choices, key=lambda choice: choice.original_position)
    return InspectSample(
        id=state.sample_id,
        epoch=state.epoch,
        input=state.input,
        choices=[choice.value for choice in choices],
        target=list(state.target),
        metadata=state.metadata,
        store=dict(state.store.items()),
        output=state.output,
    )


def _record(state: TaskState, prompt: Prompt, **more: Any) -> None:
    fields = prompt.model_dump(mode="json", exclude={"sample", "images"})
    state.store.set(RECORD, {"prompt": fields, **more})


_ROLES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


def _messages(prompt: Prompt) -> list[ChatMessage]:
    prompt = prompt.with_inert(KNOWN_TOKENS)
    images = iter(prompt.images)
    messages: list[ChatMessage] = []
    for turn in prompt.messages():
        content: list[Content] = [
            ContentText(text=part["text"]) if part["type"] == "text" else ContentImage(image=_address(next(images)))
            for part in turn["content"]
        ]
        messages.append(_ROLES[turn["role"]](content=content))
    if prompt.prefill:
        messages.append(ChatMessageAssistant(content=prompt.prefill))
    return messages


def _address(image: ImageLike) -> str:
    """Return an image for inspect: the original path or URL, or a `data:` URL."""
    return str(image.source) if isinstance(image, LoggedImage) else data_url(image)
