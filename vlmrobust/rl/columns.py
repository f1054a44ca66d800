"""The columns of training rows: how a prompt is written into them, and how completions are read with them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..prompting import IMAGE_MARK, KNOWN_TOKENS, parse_completion
from ..types import Prompt, Response, Responses, Sample, Style, open_image
from ..types.image import needs_no_care

if TYPE_CHECKING:
    from datasets import Features

__all__ = ["COLUMNS", "features", "packed_columns", "read", "row_of"]

COLUMNS = ("prompt", "images", "solution", "question", "options", "condition", "prefill")

_REASONING = ("reasoning_content", "thinking", "reasoning")
_UNSEEN = b"rewards do not look at images"
# Where the options are not known, letters alone can be read: no text that a model writes has this private character.
_NEVER_WRITTEN = "\ue000"


def features(*more: str) -> "Features":
    """Return the columns' types for `datasets`, images being decoded as `open_image` does.

    Args:
        *more: further columns of text.
    """
    from datasets import Features, Image, Value

    text = Value("string")
    return Features(
        {
            "prompt": [{"role": text, "content": [{"type": text, "text": text}]}],
            "images": [Image(mode="RGB")],
            **dict.fromkeys(("solution", "question", "condition", "prefill", *more), text),
            "options": [text],
        }
    )


def row_of(prompt: Prompt, style: Style, *, decode: bool = True) -> dict[str, Any]:
    """Return a prompt as a row of TRL's conversational format.

    A prefilled thought is a last message of the assistant's, which `continue_prefill` leaves open.

    Args:
        prompt: what is asked.
        style: how the answers to all rows are read.
        decode: decode the images; otherwise files stay files, and only what is no file is made.

    Raises:
        ValueError: an option was added or taken away, or the prompt has another style, so that the row could not be
            read as the prompt would be.
        OSError: an image cannot be decoded.
    """
    sample = prompt.sample
    if sorted(prompt.order, key=lambda index: -1 if index is None else index) != list(range(len(sample.options))):
        raise ValueError(
            f"sample {sample.id!r}, condition {prompt.condition!r}, field 'order': expected every option of the sample "
            f"and no other, as training rows have no place for more, got {prompt.order}"
        )
    if prompt.style != style:
        raise ValueError(
            f"sample {sample.id!r}, condition {prompt.condition!r}, field 'style': expected the style of all rows, as "
            f"training rows have no place for another, got {prompt.style}"
        )
    prompt = prompt.with_inert(KNOWN_TOKENS)  # the tokenizer is the trainer's
    messages = prompt.messages()
    if prompt.prefill:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": prompt.prefill}]})
    return {
        "prompt": messages,
        "images": [open_image(image) if decode else _stored(image) for image in prompt.images],
        "solution": style.letters[prompt.order.index(sample.answer)],
        "question": prompt.question,
        "options": list(prompt.options),
        "condition": prompt.condition,
        "prefill": prompt.prefill,
    }


def _stored(image: Any) -> Any:
    """Return an image as `datasets` keeps it: a file's bytes or path, decoded whenever a row is read.

    What `datasets` would show otherwise than `open_image`, such as a transparent drawing, is decoded here.
    """
    if not isinstance(image, str | Path | bytes) or not needs_no_care(image):
        return open_image(image)
    return image if isinstance(image, bytes) else str(Path(image).resolve())


def read(
    completions: Sequence[Any],
    columns: Mapping[str, Any],
    *,
    needs: Sequence[str],
    style: Style,
    opener: str,
    reader: str,
) -> tuple[list[int], Responses]:
    """Read completions with the code that reads a model's answers everywhere else.

    Args:
        completions: N texts, or N lists of chat messages, the last of the assistant's being read.
        columns: lists of N values by column; others than those of `COLUMNS` and `finish_reason` are ignored.
        needs: the columns without which a row cannot be read.
        style: how answers are read.
        opener: what the chat template itself begins the assistant's turn with; used where `prefill` is empty.
        reader: who asks, for messages.

    Returns:
        The rows that have all that is needed, and the responses in them.

    Raises:
        ValueError: a column is missing or has another length, or a value in it cannot be read.
        TypeError: a completion is neither text nor messages.
    """
    count = len(completions)
    known = {name: columns[name] for name in (*COLUMNS, "finish_reason") if columns.get(name) is not None}
    for name in needs:
        if name not in known:
            there = ", ".join(sorted(name for name, values in columns.items() if isinstance(values, list | tuple)))
            raise ValueError(f"{reader}: expected a column {name!r}, got the columns {there or '(none)'}")
    for name in (*needs, "solution", "question", "options", "prefill", "finish_reason"):
        values = known.get(name, ())
        if name in known and (isinstance(values, str) or len(values) != count):
            got = repr(values) if isinstance(values, str) else f"{len(values)} values"
            raise ValueError(
                f"{reader}: expected column {name!r} to have one value per completion ({count}), got {got}"
            )
    rows = [row for row in range(count) if all(known[name][row] is not None for name in needs)]
    asked: dict[tuple[Any, ...], Prompt] = {}
    prompts, responses = [], []
    for row in rows:
        values = {name: known[name][row] for name in known if name not in ("prompt", "images", "condition")}
        options = values.get("options")
        if isinstance(options, str):  # its characters would be the options
            raise ValueError(
                f"{reader}, row {row}, column 'options': expected a list of texts, got a string: {options!r:.80}"
            )
        key = (
            values.get("question"),
            None if options is None else tuple(options),
            values.get("solution"),
            values.get("prefill") or opener,
        )
        if key not in asked:  # a group of completions shares its prompt
            asked[key] = _prompt(*key, style=style, where=f"{reader}, row {row}")
        prompt = asked[key]
        text, reasoning = _written(completions[row], prompt, f"{reader}, row {row}")
        prompts.append(prompt)
        responses.append(Response.parse(prompt, text, reasoning=reasoning, finish_reason=values.get("finish_reason")))
    return rows, Responses.of(prompts, responses)


def _prompt(
    question: str | None, options: tuple[str, ...] | None, solution: Any, prefill: str, *, style: Style, where: str
) -> Prompt:
    shown = tuple(f"{_NEVER_WRITTEN}{letter}" for letter in style.letters) if options is None else options
    asked = question or "(not given)"
    marks = sum(text.count(IMAGE_MARK) for text in (asked, *shown))
    sample = Sample(
        id=where,
        images=(_UNSEEN,) * max(1, marks),
        question=asked,
        options=shown,
        answer=0 if solution is None else _index(solution, shown, style, where),
    )
    return Prompt(
        sample=sample,
        style=style,
        images=sample.images,
        question=asked,
        options=shown,
        order=tuple(range(len(shown))),
        prefill=prefill,
    )


def _index(solution: Any, options: Sequence[str], style: Style, where: str) -> int:
    """Return the option that a solution names: by its letter, or in any way in which an answer may name it."""
    if isinstance(solution, str):
        letter = style.letters.find(solution.strip().upper()) if len(solution.strip()) == 1 else -1
        if 0 <= letter < len(options):
            return letter
        opened, closed = style.answer_opener, style.answer_closer
        parsed = parse_completion(
            solution if opened in solution else f"{opened}{solution}{closed}",
            options=options,
            letters=style.letters,
            think_tags=style.think_tags,
            answer_tags=style.answer_tags,
            answer_by=style.answer_by,
        )
        if parsed.answer is not None:
            return parsed.answer
    letters = f"one of {style.letters[: len(options)]}"
    raise ValueError(f"{where}, column 'solution': expected the letter of an option ({letters}), got {solution!r:.80}")


def _written(completion: Any, prompt: Prompt, where: str) -> tuple[str, str | None]:
    """Return a completion's text, and the thought where it comes apart from it."""
    if isinstance(completion, str):
        return completion, None
    messages = [completion] if isinstance(completion, Mapping) else completion
    if not isinstance(messages, Sequence) or not all(isinstance(message, Mapping) for message in messages):
        got = type(completion).__name__
        raise TypeError(f"{where}, completion: expected text or a list of chat messages, got {got}: {completion!r:.80}")
    message: Mapping[str, Any] = next(
        (message for message in reversed(messages) if message.get("role") == "assistant"), {}
    )
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text") or "" for part in content)
    reasoning = next((message[name] for name in _REASONING if message.get(name)), None)
    return content, None if reasoning is None else _own(reasoning, prompt)


def _own(reasoning: str, prompt: Prompt) -> str | None:
    """Return a separate thought without the prefill, which a response template may have read along with it."""
    think_open, think_close = prompt.style.think_tags
    if think_close in prompt.prefill:
        return None
    begun = prompt.prefill.strip().removeprefix(think_open).strip()
    return reasoning.lstrip().removeprefix(begun) if begun else reasoning


def packed_columns(ground_truth: Any, extra: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Return one row's columns where a trainer hands over a single ground truth.

    Args:
        ground_truth: the correct letter; or the columns themselves, as a mapping or as JSON text.
        extra: further columns, if any.

    Example:
        >>> packed_columns('{"solution": "B", "question": "Which?", "options": ["red", "blue"]}')["options"]
        [['red', 'blue']]
        >>> packed_columns("B")
        {'solution': ['B']}
    """
    given: Any = ground_truth
    if isinstance(given, str) and given.lstrip().startswith("{"):
        given = json.loads(given)
    own = dict(given) if isinstance(given, Mapping) else {"solution": given}
    merged = {**(extra or {}), **own}
    return {name: [merged[name]] for name in COLUMNS if merged.get(name) is not None}
