"""Check that a model satisfies the evaluator's requirements, and provide samples for checks."""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from ..manifest import prompt_digest, sample_content
from ..models.base import Model, is_concurrent
from ..perturbations import Base, CorrectThink, StopThink, WrongCaption, WrongThink, expand
from ..prompting import assistant_prefix, render_turns
from ..types import Prompt, Response, Sample

__all__ = ["check_model", "prompt_content", "require", "varied_samples"]

_TOLERANCE = 1e-4


def check_model(model: Model, samples: Sequence[Sample] | None = None) -> None:
    """Check that a model answers prompts in order and independently of the batch, and isolates failures.

    It gets each sample under five conditions: all at once, in reverse order, and one by one; then with an additional
    sample whose image is missing. If it has `ask`, all prompts are also sent through it concurrently. If it has a
    Hugging Face `processor`, its decoded prompts are checked.

    Args:
        model: anything with `respond(prompts) -> list[Response]`, and optionally `ask(prompt) -> Future[Response]`.
        samples: the test samples; None = three small ones with 2 to 4 options.

    Raises:
        AssertionError: a requirement is violated; the message says which.

    Example:
        >>> from vlmrobust.testing import FakeModel
        >>> check_model(FakeModel())
    """
    require(
        isinstance(model, Model),
        f"expected a model with respond(prompts) -> list[Response], got {type(model).__name__}",
    )
    _check_identity(model)
    asked = list(samples) if samples is not None else varied_samples()[:3]
    conditions = [Base(), StopThink(), WrongThink(), CorrectThink(), WrongCaption()]
    prompts = list(expand(asked, conditions, seed=0))
    before = [prompt_content(prompt) for prompt in prompts]
    responses = _respond(model, prompts)
    for prompt, response in zip(prompts, responses, strict=True):
        _check_response(prompt, response)
    require(
        [prompt_content(prompt) for prompt in prompts] == before,
        "expected respond to leave its prompts as they are, got them changed; copy an image before drawing on it",
    )
    _check_same(responses, _respond(model, prompts[::-1])[::-1], "whatever the order of the prompts")
    one_by_one = [response for prompt in prompts for response in _respond(model, [prompt])]
    _check_same(responses, one_by_one, "whatever the batch")
    _check_missing_image(_respond, model, prompts, responses)
    if is_concurrent(model):
        _check_same(responses, _ask(model, prompts), "from ask as from respond")
        _check_missing_image(_ask, model, prompts, responses)
    processor = getattr(model, "processor", None)
    if hasattr(processor, "tokenizer"):
        _check_rendering(processor, prompts)


def prompt_content(prompt: Prompt) -> str:
    """Return a digest of everything that a model is shown."""
    return prompt_digest(prompt, sample_content(prompt.sample)["images"])


def _check_identity(model: Model) -> None:
    identity = getattr(model, "identity", None)
    if not callable(identity):
        return
    try:
        first, second = (json.dumps(identity(), sort_keys=True) for _ in range(2))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"expected identity() to return JSON values, got {error}") from error
    require(
        first == second,
        f"expected identity() to be the same every time, or no run could be resumed, got {first} and {second}",
    )


def _respond(model: Model, prompts: Sequence[Prompt]) -> list[Response]:
    responses = model.respond(prompts)
    require(isinstance(responses, list), f"expected respond to return a list, got {type(responses).__name__}")
    require(len(responses) == len(prompts), f"expected one response per prompt ({len(prompts)}), got {len(responses)}")
    for position, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        require(
            isinstance(response, Response), f"expected a Response at position {position}, got {type(response).__name__}"
        )
        require(
            response.key == prompt.key,
            f"expected the responses in the prompts' order, {prompt.key} at position {position}, got {response.key}",
        )
    return responses


def _ask(model: Model, prompts: Sequence[Prompt]) -> list[Response]:
    """Return the responses of `ask`, with all prompts sent before the first response is awaited."""
    assert is_concurrent(model)
    limit: object = model.concurrency
    require(
        isinstance(limit, int) and limit >= 1,
        f"expected 'concurrency' to be a number of prompts, 1 or more, got {limit!r}",
    )
    futures = [model.ask(prompt) for prompt in prompts]
    responses = []
    for prompt, future in zip(prompts, futures, strict=True):
        require(
            isinstance(future, Future),
            f"expected ask to return a concurrent.futures.Future, got {type(future).__name__}",
        )
        response = future.result()
        require(isinstance(response, Response), f"expected ask to give a Response, got {type(response).__name__}")
        require(
            response.key == prompt.key,
            f"expected ask to give the response to its prompt, {prompt.key}, got {response.key}",
        )
        responses.append(response)
    return responses


def _check_response(prompt: Prompt, response: Response) -> None:
    where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}"
    require(response.status != "error", f"{where}: expected an answer, got the error {response.error!r}")
    count = len(prompt.sample.options)
    require(
        (response.status == "answered") == (response.answer is not None),
        f"{where}: expected an 'answer' where, and only where, the status is 'answered', "
        f"got answer {response.answer} with status {response.status!r}",
    )
    require(
        response.answer is None or 0 <= response.answer < count,
        f"{where}: expected 'answer' to be an index of the sample's options (0 to {count - 1}), got {response.answer}",
    )
    require(
        not prompt.prefill or not response.text.startswith(prompt.prefill),
        f"{where}: expected 'text' to be the completion alone, got the prefill repeated: {response.text!r:.120}",
    )
    logprobs = response.option_logprobs
    require(
        (logprobs is None) == (response.readout is None),
        f"{where}: expected 'readout' to say where letters were read, and None where none were, got "
        f"{response.readout!r} with option_logprobs {logprobs}",
    )
    if logprobs is None:
        return
    require(
        len(logprobs) == count,
        f"{where}: expected {count} option_logprobs, one per option of the sample, got {len(logprobs)}",
    )
    every = (*logprobs, *response.added_logprobs)
    require(
        not any(math.isnan(value) or value > _TOLERANCE for value in every),
        f"{where}: expected log-probabilities (nats, at most 0), got {every}",
    )
    mass = math.fsum(map(math.exp, every))
    require(
        mass <= 1 + _TOLERANCE,
        f"{where}: expected probabilities of all letters that add up to 1 at most (over the whole vocabulary, each "
        f"letter's tokens counted once), got {mass}",
    )


def _check_same(responses: Sequence[Response], others: Sequence[Response], whatever: str) -> None:
    for response, other in zip(responses, others, strict=True):
        where = f"sample {response.sample_id!r}, condition {response.condition!r}"
        for field in ("answer", "status", "text"):
            first, second = getattr(response, field), getattr(other, field)
            require(first == second, f"{where}: expected the same {field!r} {whatever}, got {first!r} and {second!r}")
        first, second = response.option_logprobs, other.option_logprobs
        require((first is None) == (second is None), f"{where}: expected letters {whatever}, got {first} and {second}")
        for left, right in zip(first or (), second or (), strict=True):
            require(
                left == right or abs(left - right) <= _TOLERANCE,
                f"{where}: expected the same option_logprobs {whatever}, within {_TOLERANCE}, got {first} and {second}",
            )


def _check_missing_image(
    answer: Callable[[Model, Sequence[Prompt]], list[Response]],
    model: Model,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
) -> None:
    method = "respond" if answer is _respond else "ask"
    with tempfile.TemporaryDirectory() as folder:
        missing = Prompt.of(
            Sample(
                id="missing image",
                images=[Path(folder) / "missing.png"],
                question="What is shown?",
                options=["a cube", "a ball"],
                answer=0,
            )
        )
        try:
            first, failed, *rest = answer(model, [prompts[0], missing, *prompts[1:]])
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(
                "expected a sample without a readable image to get Response.failed(prompt, error) while the others are "
                f"answered, got {type(error).__name__} from {method}: {error}"
            ) from error
    require(
        failed.status == "error" and bool(failed.error),
        f"expected status 'error', and what went wrong in 'error', for a missing image, got {failed.status!r}: "
        f"{failed.text!r:.120}",
    )
    _check_same(responses, [first, *rest], "whatever fails beside it")


def _check_rendering(processor: Any, prompts: Sequence[Prompt]) -> None:
    """Check that the prefill is appended to the rendered prompt, and that the thought is opened only once."""
    template = processor if getattr(processor, "chat_template", None) else processor.tokenizer
    for prompt in prompts:
        where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}"
        tokenizer = processor.tokenizer
        tokens = tokenizer(prompt.render(template), add_special_tokens=False)["input_ids"]
        decoded = tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        opener = prompt.style.think_tags[0]
        rendered, _ = render_turns(template, prompt.messages())
        turn = assistant_prefix(rendered, prompt.prefill, opener)[1]
        require(
            decoded.endswith(turn),
            f"{where}: expected the decoded prompt to end with exactly the prefill {turn!r}, got {decoded[-200:]!r}",
        )
        # The instruction mentions the tags too, so look only after the user's text.
        assistant = decoded[decoded.rfind(prompt.style.instruction_text()[-20:]) + 20 :]
        expected = int(opener in turn)
        require(
            assistant.count(opener) == expected,
            f"{where}: expected {expected} {opener!r} in the assistant's turn, got {assistant.count(opener)}: "
            f"{assistant!r:.300}",
        )


def require(holds: bool, sentence: str) -> None:
    """Raise an `AssertionError` with `sentence` unless `holds`; unlike `assert`, it also works under `python -O`.

    Example:
        >>> require(1 + 1 == 2, "expected arithmetic")
    """
    if not holds:
        raise AssertionError(sentence)


def varied_samples() -> list[Sample]:
    """Return samples with 2, 3, 4 and 26 options, non-Latin letters, quotation marks, several images and a group.

    Example:
        >>> sorted(len(sample.options) for sample in varied_samples())
        [2, 3, 4, 4, 26]
    """
    from PIL import Image

    image = partial(Image.new, "RGB", (56, 56))
    return [
        Sample(
            id="colour", images=[image("red")], question="Which colour is the cube?", options=["red", "blue"], answer=0
        ),
        Sample(
            id="unicode",
            images=[image("green")],
            question="Wo liegt „das größte“ Stück — 左 oder 右? 🙂",
            options=["links, 左", "rechts, 右", "oben 🙂", "außen"],
            answer=2,
            group="pieces",
            metadata={"category": "position"},
        ),
        Sample(
            id="nested options",
            images=[image("blue"), image("white")],
            question='Which of the two says "A or B"?',
            options=["the first", "the first and the second", "neither"],
            answer=1,
            group="pieces",
        ),
        Sample(
            id="all letters",
            images=[image("black")],
            question="How many dots are there?",
            options=[str(count) for count in range(26)],
            answer=25,
        ),
        Sample(
            id="given texts",
            images=[image("yellow")],
            question="What is on the table?",
            options=["a cup", "a book", "a lamp", "nothing"],
            answer=3,
            distractor=1,
            texts={
                "wrong_caption": "A photo of a book on a table.",
                "correct_caption": "A photo of an empty table.",
                "wrong_think": "There is a book on the table.",
                "correct_think": "The table is empty.",
            },
        ),
    ]
