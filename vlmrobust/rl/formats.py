"""Convert training rows and chat templates to what each trainer reads."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..naming import unknown_name
from ..prompting import IMAGE_MARK, chat_turns
from ..types import Style, open_image
from .completions import COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset, Features

__all__ = ["TRAINERS", "Prefills", "continue_prefill", "dataset_of", "features", "save_rows", "trainer_rows"]

Prefills = Literal["assistant", "user_text"]

Row = Mapping[str, Any]

_CHUNK_ROWS = 1_000  # Arrow holds at most 2 GB of images in one chunk

# transformers marks the end of a final message to continue with this; TRL renders prompts a second time in this way to
# find the images.
_CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG"
# Trainers always request a new assistant turn (`add_generation_prompt=True`). The head removes the final assistant
# message from the conversation, and the tail appends its text to the generation prompt. `continue_final_message` does
# not do: thinking templates insert an empty thought before the message, or raise.
# Jinja removes the line break after a block tag, so the template still starts on its own line.
_HEAD = (
    "{% set vlmrobust = namespace(prefill='') %}"
    "{% if messages and messages[-1]['role'] == 'assistant' %}"
    "{% set last = messages[-1]['content'] %}"
    "{% set last = last if last is string else last | selectattr('text', 'string') | map(attribute='text') | join %}"
    f"{{% if add_generation_prompt or '{_CONTINUED}' in last %}}"
    "{% set vlmrobust.prefill = last %}{% set messages = messages[:-1] %}{% set add_generation_prompt = true %}"
    "{% endif %}{% endif %}\n"
)
_TAIL = "{{ vlmrobust.prefill }}"
# transformers truncates the rendering at the mark but requires the whole message to be in it, even after the mark.
_TAIL_IN_THOUGHT = (
    "{% set prefill = vlmrobust.prefill %}{{ prefill.lstrip().removeprefix(%r) }}"
    f"{{% if '{_CONTINUED}' in prefill %}}{{{{ prefill.replace('{_CONTINUED}', '') }}}}{{% endif %}}"
)


class _TrainerFormat(NamedTuple):
    """A trainer's row format.

    Attributes:
        name: the trainer's name in its own spelling.
        convert: converts a row, given its turns as texts and its index.
        can_continue: whether a final assistant message reaches the chat template, so that `continue_prefill` works.
        suffix: the file's suffix.
    """

    name: str
    convert: Callable[[Row, list[dict[str, str]], int], dict[str, Any]]
    can_continue: bool
    suffix: str = ".parquet"


def trainer_rows(
    rows: Iterable[Row], trainer: str, *, prefills: Prefills | None = None, style: Style | None = None
) -> Iterator[dict[str, Any]]:
    """Yield training rows in a trainer's format.

    Args:
        rows: what `Augment`, `to_grpo_rows` or `paper_mixture` return.
        trainer: trl, ms-swift, verl, easyr1, vlm-r1 or openrlhf.
        prefills: where prefilled thoughts go: "assistant", a final assistant message, which `continue_prefill` leaves
            open; or "user_text", the user's text, as for a server that cannot continue a prefill. None = "assistant" if
            the trainer's chat template sees that message; otherwise a row with a prefill is refused.
        style: the rows' style, which names the thought's tags in the user's text; None = the default style.

    Returns:
        For TRL the unchanged rows. For the others, turns are texts with `<image>` in them, and the columns that rewards
        need are where the trainer passes them on from. A prefill moved to the user's text leaves `prefill` empty.

    Raises:
        ValueError: the trainer is unknown, a column is missing, the number of images differs from that of their
            places, or a prefill cannot be kept; the message names row and column.

    Example:
        >>> from vlmrobust import demo
        >>> from vlmrobust.rl import to_grpo_rows
        >>> [row] = trainer_rows(to_grpo_rows(demo.samples(1)), "easyr1")
        >>> sorted(row), row["problem"][:24]
        (['answer', 'images', 'problem'], '<image>What colour is th')
    """
    form = _format_of(trainer)
    placement = prefills or ("assistant" if form.can_continue else None)
    if placement == "assistant" and not form.can_continue:
        raise ValueError(
            f"{form.name}: expected prefills='user_text', as its chat template does not get a final assistant message, "
            "got 'assistant'"
        )
    for number, row in enumerate(rows):
        yield _convert(row, number, form, placement, style or Style())


def save_rows(
    rows: Iterable[Row],
    path: str | Path,
    trainer: str,
    *,
    prefills: Prefills | None = None,
    style: Style | None = None,
) -> Path:
    """Write training rows to a file that the trainer's loader reads.

    The file holds the images as bytes; for VLM-R1, which opens files, they are in a folder next to it, its
    `image_folders`.

    Args:
        rows: what `Augment`, `to_grpo_rows` or `paper_mixture` return; at least one.
        path: a new `.parquet` file, for VLM-R1 a new `.jsonl` file.
        trainer: see `trainer_rows`, as for the arguments below.
        prefills: where prefilled thoughts go.
        style: the rows' style.

    Raises:
        ValueError: the path has the wrong suffix, there are no rows, or see `trainer_rows`.
        FileExistsError: the file already exists.

    Example:
        >>> import tempfile
        >>> from vlmrobust import demo
        >>> from vlmrobust.rl import to_grpo_rows
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_rows(to_grpo_rows(demo.samples(2)), f"{folder}/train.parquet", "verl").name
        'train.parquet'
    """
    form, file = _format_of(trainer), Path(path)
    if file.suffix != form.suffix:
        raise ValueError(f"{form.name}: expected a path that ends in {form.suffix}, got {str(path)!r}")
    if file.exists():
        raise FileExistsError(f"expected a path without a file, but {file} exists")
    converted = trainer_rows(rows, trainer, prefills=prefills, style=style)
    if (first := next(converted, None)) is None:
        raise ValueError(f"{form.name}: expected at least one row, got none")
    file.parent.mkdir(parents=True, exist_ok=True)
    converted = chain([first], converted)
    if form.suffix == ".jsonl":
        _write_jsonl(converted, file)
    else:
        dataset_of(converted, _column_types(trainer)).to_parquet(file)
    return file


def _format_of(trainer: str) -> _TrainerFormat:
    if trainer not in TRAINERS:
        raise ValueError(f"expected a trainer, {unknown_name(trainer, TRAINERS)}")
    return TRAINERS[trainer]


def _convert(row: Row, number: int, form: _TrainerFormat, prefills: Prefills | None, style: Style) -> dict[str, Any]:
    where = f"{form.name}, row {number}"
    for name in COLUMNS:
        if row.get(name) is None:
            raise ValueError(f"{where}: expected a column {name!r}, got the columns {', '.join(map(str, row))}")
    if row["prefill"] and prefills is None:
        raise ValueError(
            f"{where}, column 'prefill': expected none, as the chat template of {form.name} does not get a final "
            f"assistant message, got {row['prefill']!r:.60}; prefills='user_text' moves it into the user's turn"
        )
    if row["prefill"] and prefills == "user_text":
        row = _move_prefill_to_user(row, style)
    turns = [{"role": turn["role"], "content": _text(turn["content"], where)} for turn in row["prompt"]]
    marks = sum(turn["content"].count(IMAGE_MARK) for turn in turns)
    if marks != len(row["images"]):
        raise ValueError(f"{where}, column 'images': expected one for each of {marks} places, got {len(row['images'])}")
    return form.convert(row, turns, number)


def _move_prefill_to_user(row: Row, style: Style) -> dict[str, Any]:
    from ..models.server.messages import in_words

    *turns, user, _ = row["prompt"]
    thought = {"type": "text", "text": f"\n\n{in_words(row['prefill'], style.think_tags)}"}
    return {**row, "prompt": [*turns, {**user, "content": [*user["content"], thought]}], "prefill": ""}


def _text(content: Any, where: str) -> str:
    parts = [content] if isinstance(content, str) else content
    texts = [
        part if isinstance(part, str) else IMAGE_MARK if part["type"] == "image" else part["text"] for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}, column 'prompt': expected parts that are images or texts, got {content!r:.80}")
    return "".join(texts)


def _columns_as_json(row: Row) -> str:
    packed = {name: row[name] for name in ("solution", "question", "prefill", "condition")}
    return json.dumps({**packed, "options": list(row["options"])}, ensure_ascii=False)


def _shared_columns(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("images", "solution", "question", "options", "condition", "prefill")}


def _join_turns(turns: Sequence[dict[str, str]]) -> str:
    """Return all turns as one text, for trainers that turn it into the user's turn."""
    return "\n\n".join(turn["content"] for turn in turns)


def _verl(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    more = {name: row[name] for name in ("question", "options", "prefill", "condition")}
    return {
        "data_source": "vlmrobust",
        "prompt": turns,
        "images": row["images"],
        "ability": "visual_reasoning",
        "reward_model": {"style": "rule", "ground_truth": row["solution"]},
        "extra_info": {"index": number, **more},
    }


def _easyr1(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    return {"problem": _join_turns(turns), "images": row["images"], "answer": _columns_as_json(row)}


def _vlm_r1(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    dialogue = [{"from": "human", "value": _join_turns(turns)}, {"from": "gpt", "value": row["solution"]}]
    columns = {name: value for name, value in _shared_columns(row).items() if name not in ("images", "solution")}
    return {"id": number, "image": row["images"], "conversations": dialogue, **columns}


def _openrlhf(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    return {"input": turns, "label": _columns_as_json(row), "images": row["images"], "datasource": "vlmrobust"}


TRAINERS: Mapping[str, _TrainerFormat] = {
    "trl": _TrainerFormat("TRL", lambda row, *_: {"prompt": row["prompt"], **_shared_columns(row)}, True),
    "ms-swift": _TrainerFormat("ms-swift", lambda row, turns, _: {"messages": turns, **_shared_columns(row)}, False),
    "verl": _TrainerFormat("verl", _verl, True),
    "easyr1": _TrainerFormat("EasyR1", _easyr1, False),
    "vlm-r1": _TrainerFormat("VLM-R1", _vlm_r1, False, ".jsonl"),
    "openrlhf": _TrainerFormat("OpenRLHF", _openrlhf, True),
}
"""Row formats by the trainers' names in this library."""


def features(*more: str) -> "Features":
    """Return the column types for `datasets`, which decode images as `open_image` does.

    Args:
        *more: further text columns.
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


def dataset_of(rows: Iterable[Mapping[str, Any]], types: "Features") -> "Dataset":
    """Return rows as a data set.

    Args:
        rows: at least one; consumed lazily.
        types: the column types.

    Raises:
        ValueError: `datasets` is not installed.
    """
    try:
        from datasets import Dataset, concatenate_datasets
    except ModuleNotFoundError as error:
        raise ValueError("to make a dataset of rows, install the extra: pip install 'vlmrobust[train]'") from error

    remaining = iter(rows)
    chunks = iter(lambda: list(islice(remaining, _CHUNK_ROWS)), [])
    return concatenate_datasets([Dataset.from_list(chunk, features=types) for chunk in chunks])


def _column_types(trainer: str) -> "Features":
    from datasets import Features, Image, Value

    text, images = Value("string"), [Image(mode="RGB")]
    turns = [{"role": text, "content": text}]
    columns: dict[str, dict[str, Any]] = {
        "trl": {**features()},
        "ms-swift": {name: kind for name, kind in features().items() if name != "prompt"} | {"messages": turns},
        "verl": {
            **dict.fromkeys(("data_source", "ability"), text),
            "prompt": turns,
            "images": images,
            "reward_model": dict.fromkeys(("style", "ground_truth"), text),
            "extra_info": {
                "index": Value("int64"),
                "options": [text],
                **dict.fromkeys(("question", "prefill", "condition"), text),
            },
        },
        "easyr1": {"problem": text, "images": images, "answer": text},
        "openrlhf": {"input": turns, "label": text, "images": images, "datasource": text},
    }
    return Features(columns[trainer])


def _write_jsonl(rows: Iterable[dict[str, Any]], file: Path) -> None:
    """Write rows as JSON lines, with their images in a folder next to the file."""
    folder = file.with_name(f"{file.stem}_images")
    folder.mkdir(exist_ok=True)
    with file.open("x", encoding="utf-8") as lines:
        for row in rows:
            names = []
            for place, image in enumerate(row["image"]):
                names.append(f"{folder.name}/{row['id']}-{place}.png")
                open_image(image).save(file.parent / names[-1], "PNG")
            lines.write(json.dumps({**row, "image": names}, ensure_ascii=False) + "\n")


def continue_prefill(processor: Any, style: Style | None = None) -> Any:
    r"""Return a copy of a processor whose chat template leaves a final assistant message open.

    Rollouts then continue a prefilled thought, which is part of the prompt and has no loss. Where the template
    itself opens the thought, the prefill's own opener is dropped. Every other conversation is rendered as before.
    The copy of a processor pads on the left, where TRL expects an image's tokens.

    Args:
        processor: a Hugging Face processor or tokenizer with a chat template.
        style: names the tag that opens a thought; None = the default style.

    Raises:
        ValueError: there is no single chat template, or the wrapped one does not end with the prefill.

    Example:
        >>> from vlmrobust import demo
        >>> processor = continue_prefill(demo.model().processor)
        >>> turns = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "<think>It is"}]
        >>> text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        >>> text.partition("assistant")[2].strip()
        '<think>It is'
    """
    opener = (style or Style()).think_tags[0]
    wrapped = copy.copy(processor)
    if getattr(getattr(wrapped, "tokenizer", None), "padding_side", "left") != "left":
        wrapped.tokenizer = copy.copy(wrapped.tokenizer)
        wrapped.tokenizer.padding_side = "left"
    if not getattr(wrapped, "chat_template", None) and getattr(wrapped, "tokenizer", None) is not None:
        wrapped.chat_template = wrapped.tokenizer.chat_template
    template = wrapped.chat_template
    if not isinstance(template, str):
        raise ValueError(
            f"expected a processor with one chat template, got {type(processor).__name__} with "
            f"{'none' if template is None else type(template).__name__}"
        )
    if template.startswith(_HEAD):
        return wrapped
    turns = chat_turns("x", 0)

    def rendered(*more: dict[str, Any]) -> str:
        return str(wrapped.apply_chat_template([*turns, *more], add_generation_prompt=True, tokenize=False))

    before = rendered()
    in_thought = before.rstrip().endswith(opener)
    # Jinja drops one line break at a template's end, but not before the tail.
    tail = _TAIL_IN_THOUGHT.replace("%r", repr(opener)) if in_thought else _TAIL
    wrapped.chat_template = _HEAD + template.removesuffix("\n") + tail
    after = rendered({"role": "assistant", "content": [{"type": "text", "text": f"{opener}It is"}]})
    if rendered() != before or after != before + ("It is" if in_thought else f"{opener}It is"):
        raise ValueError(
            f"expected the wrapped chat template of {type(processor).__name__} to end with the prefill, got {after!r}"
        )
    return wrapped
