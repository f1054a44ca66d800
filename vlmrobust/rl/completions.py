"""Read completions with their rows' columns, by the code that reads a model's answers everywhere else.

A trainer that opens a new turn, or that drops a last message of the assistant's, still hands the column `prefill` to
the reward. Read with it, an injected thought would be part of what the policy never saw: so completions that do not
continue their prefill are found, counted, and read without it.
"""

import logging
from collections.abc import Mapping, Sequence, Sized
from typing import Any, NamedTuple

from ..prompting import IMAGE_MARK, parse_completion
from ..types import Prompt, Response, Responses, Sample, Style

__all__ = ["COLUMNS", "Read", "counted", "is_continued", "is_list", "message_text", "read", "report_not_continued"]

logger = logging.getLogger(__name__)

COLUMNS = ("prompt", "images", "solution", "question", "options", "condition", "prefill")
"""What training rows have."""

_REASONING = ("reasoning_content", "thinking", "reasoning")
_UNSEEN = b"rewards do not look at images"
# Where the options are not known, letters alone can be read: no text that a model writes has this private character.
_NEVER_WRITTEN = "\ue000"
_NOT_READ = ("prompt", "images", "condition", "messages")
_COUNTS: dict[str, tuple[int, int]] = {}


class Read(NamedTuple):
    """Completions that were read.

    Attributes:
        rows: positions of the rows that have all that is needed.
        responses: the responses in these rows.
        prefilled: how many of these rows have a prefill.
        not_continued: in how many of those the policy did not continue it.
    """

    rows: list[int]
    responses: Responses
    prefilled: int
    not_continued: int


def read(
    completions: Sequence[Any],
    columns: Mapping[str, Any],
    *,
    needs: Sequence[str],
    style: Style,
    opener: str,
    reader: str,
) -> Read:
    """Read completions with the code that reads a model's answers everywhere else.

    Args:
        completions: N texts, or N lists of chat messages, of which the last one by the assistant is read.
        columns: lists of N values by column; others than those of `COLUMNS`, `finish_reason`, `messages` (prompt and
            completion, or the prompt as text) and `problem` (VLM-R1's question) are ignored.
        needs: the columns without which a row cannot be read.
        style: how answers are read.
        opener: what the chat template itself begins the assistant's turn with; used where `prefill` is empty.
        reader: the reward that reads them, for messages.

    Raises:
        ValueError: a column is missing or has another length, or a value in it cannot be read.
        TypeError: a completion is neither text nor messages.
    """
    known = _known_columns(columns, needs, reader)
    if isinstance(completions, str | Mapping):
        completions = _as_one(completions, known, reader)
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
        _report_none(known, needs, count, reader)
    asked: dict[tuple[Any, ...], Prompt] = {}
    prompts, responses = [], []
    prefilled = not_continued = 0
    for row in rows:
        where = f"{reader}, row {row}"
        values = {name: known[name][row] for name in known if name not in _NOT_READ}
        options = _options(values.get("options"), where)
        text, reasoning = _text_and_thought(completions[row], where)
        prefill = _text(values.get("prefill"), "prefill", where) or ""
        begun = prefill or opener
        if begun and not is_continued(begun, text, style, _of_row(known, "messages", row) if prefill else None):
            begun = opener if prefill and is_continued(opener, text, style) else ""
            not_continued += bool(prefill)
        prefilled += bool(prefill)
        solution = values.get("solution")
        if solution is not None and not isinstance(solution, str):
            raise _no_letter(solution, style.letters[: len(options)] if options else style.letters, where)
        key = (_text(values.get("question"), "question", where), options, solution, begun)
        if key not in asked:  # a group of completions shares its prompt
            asked[key] = _prompt(*key, style=style, where=where)
        prompt = asked[key]
        own = None if reasoning is None else _own_thought(reasoning, prompt)
        prompts.append(prompt)
        ended = _text(values.get("finish_reason"), "finish_reason", where)
        responses.append(Response.parse(prompt, text, reasoning=own, finish_reason=ended))
    report_not_continued(not_continued, reader)
    return Read(rows, Responses.of(prompts, responses), prefilled, not_continued)


def is_list(values: Any) -> bool:
    """Whether something is a sequence of values, and neither a text nor a mapping."""
    return (
        isinstance(values, Sized) and hasattr(values, "__getitem__") and not isinstance(values, str | bytes | Mapping)
    )


def _report_none(known: Mapping[str, Any], needs: Sequence[str], count: int, reader: str) -> None:
    """Count rows whose value is None, as those of another task are, and log the count whenever it has doubled."""
    for name in needs:
        lacking = sum(value is None for value in known[name])
        if (so_far := counted(f"{reader}: None in {name}", lacking)) is not None:
            logger.warning(
                "%s: column %r is None in %d of the %d rows of this batch, and in %d rows so far; they are not "
                "rewarded (none_value says what they get)",
                reader,
                name,
                lacking,
                count,
                so_far,
            )


def _text(value: Any, name: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{where}, column {name!r}: expected text, got {type(value).__name__}: {value!r:.80}")
    return value


def _known_columns(columns: Mapping[str, Any], needs: Sequence[str], reader: str) -> dict[str, Any]:
    """Return the columns that are read, without those that are None as a whole."""
    wanted = (*COLUMNS, "finish_reason", "messages")
    known = {name: columns[name] for name in wanted if columns.get(name) is not None}
    if "question" not in known and columns.get("problem") is not None:
        known["question"] = columns["problem"]
    for name in needs:
        if name not in known:
            there = ", ".join(sorted(name for name, values in columns.items() if isinstance(values, list | tuple)))
            raise ValueError(f"{reader}: expected a column {name!r}, got the columns {there or '(none)'}")
    return known


def _as_one(completion: Any, known: Mapping[str, Any], reader: str) -> list[Any]:
    """Return the list that a completion by itself stands for: of one, where there is one row."""
    for name, values in known.items():
        count = None if isinstance(values, str) or not isinstance(values, Sized) else len(values)
        if count is not None and count != 1:
            kind = "text" if isinstance(completion, str) else "message"
            raise ValueError(
                f"{reader}: expected a list of {count} completions, one for each value of column {name!r}, got one "
                f"{kind}: {completion!r:.80}"
            )
    return [completion]


def _of_row(known: Mapping[str, Any], name: str, row: int) -> Any:
    values = known.get(name)
    return values[row] if isinstance(values, list | tuple) and row < len(values) else None


def _options(options: Any, where: str) -> tuple[str, ...] | None:
    if options is None:
        return None
    if isinstance(options, str | Mapping):  # its characters, or its keys, would be the options
        kind = "a string" if isinstance(options, str) else "a mapping"
        raise ValueError(f"{where}, column 'options': expected a list of texts, got {kind}: {options!r:.80}")
    try:
        found = tuple(options)
    except TypeError:
        raise ValueError(f"{where}, column 'options': expected a list of texts, got {options!r:.80}") from None
    for option in found:
        if not isinstance(option, str):
            raise ValueError(f"{where}, column 'options': expected a list of texts, got {option!r:.40} in it")
    return found


def _prompt(
    question: str | None,
    options: tuple[str, ...] | None,
    solution: str | None,
    prefill: str,
    *,
    style: Style,
    where: str,
) -> Prompt:
    shown = tuple(f"{_NEVER_WRITTEN}{letter}" for letter in style.letters) if options is None else options
    asked = question or "(not given)"
    marks = sum(text.count(IMAGE_MARK) for text in (asked, *shown))
    answer = 0 if solution is None else _index(solution, shown, style, where)
    images = (_UNSEEN,) * max(1, marks)
    sample = Sample(id=where, images=images, question=asked, options=shown, answer=answer)
    return Prompt(
        sample=sample,
        style=style,
        images=sample.images,
        question=asked,
        options=shown,
        order=tuple(range(len(shown))),
        prefill=prefill,
    )


def _index(solution: str, options: Sequence[str], style: Style, where: str) -> int:
    """Return the option that a solution names: by its letter, or in any way in which an answer may name it."""
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
        raise _no_letter(solution, style.letters[: len(options)], where)
    return parsed.answer


def _no_letter(solution: Any, letters: Sequence[str], where: str) -> ValueError:
    return ValueError(
        f"{where}, column 'solution': expected the letter of an option (one of {letters}), got {solution!r:.80}"
    )


def _text_and_thought(completion: Any, where: str) -> tuple[str, str | None]:
    """Return a completion's text, and its thought where that comes separately."""
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
        raise TypeError(f"{where}, completion: expected a thought that is text, got {reasoning!r:.80}")
    return text, reasoning


def _own_thought(reasoning: str, prompt: Prompt) -> str | None:
    """Return a separate thought without the prefill, which a response template may have read along with it."""
    think_open, think_close = prompt.style.think_tags
    if think_close in prompt.prefill:
        return None
    begun = prompt.prefill.strip().removeprefix(think_open).strip()
    return reasoning.lstrip().removeprefix(begun) if begun else reasoning


# --- prefills ---------------------------------------------------------------------------------------------------------


def message_text(content: Any) -> str | None:
    """Return the text of a message's content, a text or a list of parts; None = it is neither.

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


def is_continued(prefill: str, completion: str, style: Style, shown: Any = None) -> bool:
    """Whether a completion continues what its turn is said to have begun with.

    It does not where it opens its own thought inside one that is still open, before closing any, nor where the trainer
    shows otherwise: by messages in which no assistant turn begins with the prefill, or by a prompt that does not end
    with it. Where the trainer shows that the turn does begin so, a thought that is opened further on ("Look. <think>…")
    is part of the continuation.

    Args:
        prefill: what the turn is said to have begun with.
        completion: what the policy wrote.
        style: names the tags of a thought.
        shown: the chat turns of prompt and completion, or the prompt as text, where the trainer shows them.

    Example:
        >>> is_continued("<think>It is red.", " No, blue.</think>", Style())
        True
        >>> is_continued("<think>It is red.", "Sure. <think>It is blue.</think>", Style())
        False
    """
    opened, closed = style.think_tags
    is_open = opened in prefill and closed not in prefill.rpartition(opened)[2]
    is_opened_anew = is_open and opened in completion.partition(closed)[0]
    if is_opened_anew and completion.lstrip().startswith(opened):
        return False
    begun = prefill.strip()
    if isinstance(shown, str):  # a template may have opened the thought itself, with a line break
        return shown.rstrip().endswith(begun.removeprefix(opened).lstrip())
    turns = _assistant_texts(shown)
    if turns is None:
        return not is_opened_anew
    return any(text.lstrip().startswith(begun) for text in turns)


def _assistant_texts(messages: Any) -> list[str] | None:
    if not isinstance(messages, Sequence) or not all(isinstance(message, Mapping) for message in messages):
        return None
    return [message_text(turn.get("content")) or "" for turn in messages if turn.get("role") == "assistant"]


def report_not_continued(count: int, reader: str) -> None:
    """Count completions that did not continue their prefill, and log the count whenever it has doubled.

    Args:
        count: how many more there are.
        reader: the reward that found them.
    """
    if (so_far := counted(f"{reader}: not continued", count)) is not None:
        logger.warning(
            "%s: %d completions so far did not go on from the prefill of their row; they are read as they were "
            "written, without it. Does the trainer leave a last message of the assistant's open? See continue_prefill.",
            reader,
            so_far,
        )


def counted(what: str, more: int) -> int | None:
    """Add to a count of this process; return it when it is due for the log: at first, and whenever it has doubled.

    A training is no place for a line each.

    Args:
        what: what is counted.
        more: how many more there are.

    Example:
        >>> [counted("doctest", more) for more in (1, 0, 1, 1, 1)]
        [1, None, 2, None, 4]
    """
    if not more:
        return None
    count, due_at = _COUNTS.get(what, (0, 1))
    count += more
    is_due = count >= due_at
    _COUNTS[what] = (count, 2 * count if is_due else due_at)
    return count if is_due else None
