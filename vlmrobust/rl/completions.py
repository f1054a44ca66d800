"""Parse completions and their rows' columns with the parser that evaluations use.

A trainer that opens a new turn, or drops a final assistant message, still passes the column `prefill` to the reward.
Parsing the completion with it would attribute a thought to the policy that it never saw, so completions that do not
continue their prefill are detected, counted, and parsed without it.
"""

import logging
from collections.abc import Mapping, Sequence, Sized
from typing import Any, NamedTuple

from ..prompting import IMAGE_MARK, parse_completion
from ..types import Prompt, Response, Responses, Sample, Style

__all__ = [
    "COLUMNS",
    "ReadCompletions",
    "continues_prefill",
    "count_for_log",
    "is_list",
    "message_text",
    "read_completions",
]

logger = logging.getLogger(__name__)

COLUMNS = ("prompt", "images", "solution", "question", "options", "condition", "prefill")
"""The columns of training rows."""

_REASONING = ("reasoning_content", "thinking", "reasoning")
_DUMMY_IMAGE = b"rewards do not look at images"
# Without the options only letters can be parsed: a private-use character keeps option texts from matching.
_UNUSED_CHARACTER = "\ue000"
_NOT_READ = ("prompt", "images", "condition", "messages")
_COUNTS: dict[str, tuple[int, int]] = {}


class ReadCompletions(NamedTuple):
    """Parsed completions.

    Attributes:
        rows: indices of the rows that have all required columns.
        responses: the responses of these rows.
        prefilled: number of these rows with a prefill.
        not_continued: number of prefilled rows whose completion does not continue the prefill.
    """

    rows: list[int]
    responses: Responses
    prefilled: int
    not_continued: int


def read_completions(
    completions: Sequence[Any],
    columns: Mapping[str, Any],
    *,
    needs: Sequence[str],
    style: Style,
    opener: str,
    reader: str,
) -> ReadCompletions:
    """Parse completions with the parser that evaluations use.

    Args:
        completions: N texts, or N lists of chat messages, of which the last assistant message is parsed.
        columns: lists of N values by column; only those of `COLUMNS`, `finish_reason`, `messages` (prompt and
            completion, or the prompt as text) and `problem` (VLM-R1's question) are used.
        needs: the columns that a row must have.
        style: how answers are parsed.
        opener: text with which the chat template opens the assistant's turn; used where `prefill` is empty.
        reader: name of the reward, for messages.

    Raises:
        ValueError: a column is missing or has the wrong length, or one of its values is invalid.
        TypeError: a completion is neither text nor messages.
    """
    known = _select_columns(columns, needs, reader)
    if isinstance(completions, str | Mapping):
        completions = _wrap_single(completions, known, reader)
    elif not is_list(completions):
        got = f"{type(completions).__name__}: {completions!r:.80}"
        raise TypeError(f"{reader}: expected a list of completions, each a text or a list of messages, got {got}")
    count = len(completions)
    for name, values in known.items():
        if name in _NOT_READ:
            continue
        if not is_list(values) or len(values) != count:
            got = f"{len(values)} values" if is_list(values) else f"{type(values).__name__}: {values!r:.80}"
            raise ValueError(
                f"{reader}: expected column {name!r} to have one value per completion ({count}), got {got}"
            )
    rows = [row for row in range(count) if all(known[name][row] is not None for name in needs)]
    if len(rows) < count:
        _log_missing(known, needs, count, reader)
    messages = known.get("messages")
    shown_to_model = messages if isinstance(messages, list | tuple) else ()
    cache: dict[tuple[Any, ...], Prompt] = {}
    prompts, responses = [], []
    prefilled = not_continued = 0
    for row in rows:
        where = f"{reader}, row {row}"
        values = {name: known[name][row] for name in known if name not in _NOT_READ}
        options = _parse_options(values.get("options"), where)
        text, reasoning = _text_and_thought(completions[row], where)
        prefill = _text(values.get("prefill"), "prefill", where) or ""
        start = prefill or opener
        shown = shown_to_model[row] if prefill and row < len(shown_to_model) else None
        if start and not continues_prefill(start, text, style, shown):
            start = opener if prefill and continues_prefill(opener, text, style) else ""
            not_continued += bool(prefill)
        prefilled += bool(prefill)
        solution = values.get("solution")
        if solution is not None and not isinstance(solution, str):
            raise _solution_error(solution, style.letters[: len(options)] if options else style.letters, where)
        key = (_text(values.get("question"), "question", where), options, solution, start)
        if key not in cache:  # completions of one group share their prompt
            cache[key] = _build_prompt(*key, style=style, where=where)
        prompt = cache[key]
        thought = None if reasoning is None else _without_prefill(reasoning, prompt)
        prompts.append(prompt)
        finish_reason = _text(values.get("finish_reason"), "finish_reason", where)
        responses.append(Response.parse(prompt, text, reasoning=thought, finish_reason=finish_reason))
    _log_not_continued(not_continued, reader)
    return ReadCompletions(rows, Responses.of(prompts, responses), prefilled, not_continued)


def is_list(values: Any) -> bool:
    """Return whether an object is a sequence of values, and neither text nor a mapping."""
    return (
        isinstance(values, Sized) and hasattr(values, "__getitem__") and not isinstance(values, str | bytes | Mapping)
    )


def _log_missing(known: Mapping[str, Any], needs: Sequence[str], count: int, reader: str) -> None:
    """Count rows whose value is None, as in rows of another task, and log the count whenever it doubles."""
    for name in needs:
        missing = sum(value is None for value in known[name])
        if (so_far := count_for_log(f"{reader}: None in {name}", missing)) is not None:
            logger.warning(
                "%s: column %r is None in %d of the %d rows of this batch, and in %d rows so far; they get no reward "
                "(set none_value to give them one)",
                reader,
                name,
                missing,
                count,
                so_far,
            )


def _text(value: Any, name: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{where}, column {name!r}: expected text, got {type(value).__name__}: {value!r:.80}")
    return value


def _select_columns(columns: Mapping[str, Any], needs: Sequence[str], reader: str) -> dict[str, Any]:
    """Return the columns that are used, without those that are None as a whole."""
    used = (*COLUMNS, "finish_reason", "messages")
    known = {name: columns[name] for name in used if columns.get(name) is not None}
    if "question" not in known and columns.get("problem") is not None:
        known["question"] = columns["problem"]
    for name in needs:
        if name not in known:
            present = ", ".join(sorted(name for name, values in columns.items() if isinstance(values, list | tuple)))
            raise ValueError(f"{reader}: expected a column {name!r}, got the columns {present or '(none)'}")
    return known


def _wrap_single(completion: Any, known: Mapping[str, Any], reader: str) -> list[Any]:
    """Return a single completion as a list of one, provided that there is one row."""
    for name, values in known.items():
        count = None if isinstance(values, str) or not isinstance(values, Sized) else len(values)
        if count is not None and count != 1:
            kind = "text" if isinstance(completion, str) else "message"
            raise ValueError(
                f"{reader}: expected a list of {count} completions, one for each value of column {name!r}, got one "
                f"{kind}: {completion!r:.80}"
            )
    return [completion]


def _parse_options(options: Any, where: str) -> tuple[str, ...] | None:
    if options is None:
        return None
    if isinstance(options, str | Mapping):  # iterable, but its characters or keys are not options
        got = f"{'a string' if isinstance(options, str) else 'a mapping'}: {options!r:.80}"
    else:
        try:
            found = tuple(options)
        except TypeError:
            got = f"{options!r:.80}"
        else:
            other = [option for option in found if not isinstance(option, str)]
            if not other:
                return found
            got = f"{other[0]!r:.40} in it"
    raise ValueError(f"{where}, column 'options': expected a list of texts, got {got}")


def _build_prompt(
    question: str | None,
    options: tuple[str, ...] | None,
    solution: str | None,
    prefill: str,
    *,
    style: Style,
    where: str,
) -> Prompt:
    shown = tuple(f"{_UNUSED_CHARACTER}{letter}" for letter in style.letters) if options is None else options
    question = question or "(not given)"
    marks = sum(text.count(IMAGE_MARK) for text in (question, *shown))
    answer = 0 if solution is None else _solution_index(solution, shown, style, where)
    images = (_DUMMY_IMAGE,) * max(1, marks)
    sample = Sample(id=where, images=images, question=question, options=shown, answer=answer)
    return Prompt(
        sample=sample,
        style=style,
        images=sample.images,
        question=question,
        options=shown,
        order=tuple(range(len(shown))),
        prefill=prefill,
    )


def _solution_index(solution: str, options: Sequence[str], style: Style, where: str) -> int:
    """Return the option that a solution names, by its letter or in any form that an answer may have."""
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
    if parsed.answer is None:
        raise _solution_error(solution, style.letters[: len(options)], where)
    return parsed.answer


def _solution_error(solution: Any, letters: Sequence[str], where: str) -> ValueError:
    return ValueError(
        f"{where}, column 'solution': expected the letter of an option (one of {letters}), got {solution!r:.80}"
    )


def _text_and_thought(completion: Any, where: str) -> tuple[str, str | None]:
    """Return a completion's text, and its thought if that is a separate field."""
    if isinstance(completion, str):
        return completion, None
    messages = [completion] if isinstance(completion, Mapping) else completion
    if not isinstance(messages, Sequence) or not all(isinstance(message, Mapping) for message in messages):
        got = type(completion).__name__
        raise TypeError(f"{where}, completion: expected text or a list of chat messages, got {got}: {completion!r:.80}")
    if messages and not any("role" in message for message in messages):
        raise TypeError(f"{where}, completion: expected chat messages with a role, got {completion!r:.80}")
    message: Mapping[str, Any] = next(
        (message for message in reversed(messages) if message.get("role") == "assistant"), {}
    )
    content = message.get("content") or ""
    text = message_text(content)
    if text is None:
        raise TypeError(
            f"{where}, completion: expected a message whose content is text or a list of parts, got "
            f"{type(content).__name__}: {content!r:.80}"
        )
    reasoning = next((message[name] for name in _REASONING if message.get(name)), None)
    if reasoning is not None and not isinstance(reasoning, str):
        raise TypeError(f"{where}, completion: expected the thought to be text, got {reasoning!r:.80}")
    return text, reasoning


def _without_prefill(reasoning: str, prompt: Prompt) -> str | None:
    """Return a separate thought without the prefill, which a response template may have included."""
    think_open, think_close = prompt.style.think_tags
    if think_close in prompt.prefill:
        return None
    prefill = prompt.prefill.strip().removeprefix(think_open).strip()
    return reasoning.lstrip().removeprefix(prefill) if prefill else reasoning


# --- prefills ---------------------------------------------------------------------------------------------------------


def message_text(content: Any) -> str | None:
    """Return the text of a message's content, which is text or a list of parts; None = it is neither.

    Example:
        >>> message_text([{"type": "image"}, {"type": "text", "text": "It is red."}])
        'It is red.'
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not all(isinstance(part, Mapping | str) for part in content):
        return None
    texts = [part if isinstance(part, str) else part.get("text") or "" for part in content]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def continues_prefill(prefill: str, completion: str, style: Style, shown: Any = None) -> bool:
    """Return whether a completion continues its row's prefill.

    It does not if it opens a thought while the prefill's is still open, before closing any, or if the trainer's input
    shows otherwise: no assistant message begins with the prefill, or the prompt does not end with it. If that input
    confirms the prefill, a thought opened later in the completion ("Look. <think>…") is part of the continuation.

    Args:
        prefill: the row's prefill.
        completion: the policy's text.
        style: names the thought's tags.
        shown: the chat messages of prompt and completion, or the prompt as text, if the trainer passes them.

    Example:
        >>> continues_prefill("<think>It is red.", " No, blue.</think>", Style())
        True
        >>> continues_prefill("<think>It is red.", "Sure. <think>It is blue.</think>", Style())
        False
    """
    think_open, think_close = style.think_tags
    is_open = think_open in prefill and think_close not in prefill.rpartition(think_open)[2]
    reopens = is_open and think_open in completion.partition(think_close)[0]
    if reopens and completion.lstrip().startswith(think_open):
        return False
    prefill = prefill.strip()
    if isinstance(shown, str):  # the template may have opened the thought itself, with a line break
        return shown.rstrip().endswith(prefill.removeprefix(think_open).lstrip())
    if not isinstance(shown, Sequence) or not all(isinstance(turn, Mapping) for turn in shown):
        return not reopens
    texts = [message_text(turn.get("content")) or "" for turn in shown if turn.get("role") == "assistant"]
    return any(text.lstrip().startswith(prefill) for text in texts)


def _log_not_continued(count: int, reader: str) -> None:
    if (so_far := count_for_log(f"{reader}: not continued", count)) is not None:
        logger.warning(
            "%s: %d completions so far did not continue the prefill of their row and are parsed without it. Does the "
            "trainer leave a final assistant message open? See continue_prefill.",
            reader,
            so_far,
        )


def count_for_log(what: str, more: int) -> int | None:
    """Add to a per-process count; return the total when it should be logged: at first, and whenever it has doubled.

    Example:
        >>> [count_for_log("doctest", more) for more in (1, 0, 1, 1, 1)]
        [1, None, 2, None, 4]
    """
    if not more:
        return None
    count, due_at = _COUNTS.get(what, (0, 1))
    count += more
    is_due = count >= due_at
    _COUNTS[what] = (count, 2 * count if is_due else due_at)
    return count if is_due else None
