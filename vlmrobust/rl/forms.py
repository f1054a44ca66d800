"""Convert training rows to the form that each trainer's own loader takes, and to data sets of `datasets`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..naming import unknown_name
from ..prompting import IMAGE_MARK
from ..types import Style, open_image
from .completions import COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset, Features

__all__ = ["TRAINERS", "Prefills", "dataset_of", "features", "save_rows", "trainer_rows"]

Prefills = Literal["assistant", "user_text"]

Row = Mapping[str, Any]

_AT_ONCE = 1_000  # rows; Arrow holds at most 2 GB of images in one piece


class _Form(NamedTuple):
    """How a trainer wants its rows.

    Attributes:
        name: the trainer's own spelling of its name.
        convert: makes a row from the original one, its turns as texts, and its number.
        can_continue: a final assistant message reaches the chat template, so that `continue_prefill` works.
        suffix: the file's ending.
    """

    name: str
    convert: Callable[[Row, list[dict[str, str]], int], dict[str, Any]]
    can_continue: bool
    suffix: str = ".parquet"


def trainer_rows(
    rows: Iterable[Row], trainer: str, *, prefills: Prefills | None = None, style: Style | None = None
) -> Iterator[dict[str, Any]]:
    """Return training rows in a trainer's form, one after the other.

    Args:
        rows: what `Augment`, `to_grpo_rows` or `paper_mixture` return.
        trainer: trl, ms-swift, verl, easyr1, vlm-r1 or openrlhf.
        prefills: what becomes of prefilled thoughts: a final assistant message, which `continue_prefill` leaves open,
            or part of the user's text, as for a server that cannot continue a prefill. None = the first, where the
            trainer lets the chat template see that message; where it does not, such a row is refused.
        style: the rows' own; names the tags of a thought for the user's text. None = the default style.

    Returns:
        For TRL the rows as they are. Otherwise turns are texts with `<image>` in them, and the columns that rewards
        read stand where the trainer hands them over from. What is in the user's text is no `prefill` any more.

    Raises:
        ValueError: the trainer is not known, a column is missing, images and their places differ in number, or a
            prefill cannot be kept; row and column are named.

    Example:
        >>> from vlmrobust import demo
        >>> from vlmrobust.rl import to_grpo_rows
        >>> [row] = trainer_rows(to_grpo_rows(demo.samples(1)), "easyr1")
        >>> sorted(row), row["problem"][:24]
        (['answer', 'images', 'problem'], '<image>What colour is th')
    """
    form = _form(trainer)
    asked = prefills or ("assistant" if form.can_continue else None)
    if asked == "assistant" and not form.can_continue:
        raise ValueError(
            f"{form.name}: expected prefills='user_text', as it does not let a chat template see a last message of the "
            f"assistant's, got 'assistant'"
        )
    for number, row in enumerate(rows):
        yield _converted(row, number, form, asked, style or Style())


def save_rows(
    rows: Iterable[Row],
    path: str | Path,
    trainer: str,
    *,
    prefills: Prefills | None = None,
    style: Style | None = None,
) -> Path:
    """Write training rows as a file that a trainer's own loader takes.

    Images are in the file, as bytes; for VLM-R1, which opens files, in a folder beside it, its `image_folders`.

    Args:
        rows: what `Augment`, `to_grpo_rows` or `paper_mixture` return; at least one.
        path: a new `.parquet`, for VLM-R1 a new `.jsonl`.
        trainer: see `trainer_rows`, like the following ones.
        prefills: what becomes of prefilled thoughts.
        style: the rows' own.

    Raises:
        ValueError: the path's ending is another, there are no rows, or see `trainer_rows`.
        FileExistsError: the file is there already.

    Example:
        >>> import tempfile
        >>> from vlmrobust import demo
        >>> from vlmrobust.rl import to_grpo_rows
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_rows(to_grpo_rows(demo.samples(2)), f"{folder}/train.parquet", "verl").name
        'train.parquet'
    """
    form, file = _form(trainer), Path(path)
    if file.suffix != form.suffix:
        raise ValueError(f"{form.name}: expected a path that ends in {form.suffix}, got {str(path)!r}")
    if file.exists():
        raise FileExistsError(f"expected a file that is not there yet, {file} is")
    made = trainer_rows(rows, trainer, prefills=prefills, style=style)
    if (first := next(made, None)) is None:
        raise ValueError(f"{form.name}: expected at least one row, got none")
    file.parent.mkdir(parents=True, exist_ok=True)
    every = chain([first], made)
    if form.suffix == ".jsonl":
        _write_lines(every, file)
    else:
        dataset_of(every, _types(trainer)).to_parquet(file)
    return file


def _form(trainer: str) -> _Form:
    if trainer not in TRAINERS:
        raise ValueError(f"expected a trainer, {unknown_name(trainer, TRAINERS)}")
    return TRAINERS[trainer]


def _converted(row: Row, number: int, form: _Form, prefills: Prefills | None, style: Style) -> dict[str, Any]:
    where = f"{form.name}, row {number}"
    for name in COLUMNS:
        if row.get(name) is None:
            raise ValueError(f"{where}: expected a column {name!r}, got the columns {', '.join(map(str, row))}")
    if row["prefill"] and prefills is None:
        raise ValueError(
            f"{where}, column 'prefill': expected none, as {form.name} does not let a chat template see a last message "
            f"of the assistant's, got {row['prefill']!r:.60}; with prefills='user_text' it stands in the user's turn"
        )
    if row["prefill"] and prefills == "user_text":
        row = _in_the_users_text(row, style)
    turns = [{"role": turn["role"], "content": _text(turn["content"], where)} for turn in row["prompt"]]
    marks = sum(turn["content"].count(IMAGE_MARK) for turn in turns)
    if marks != len(row["images"]):
        raise ValueError(f"{where}, column 'images': expected one for each of {marks} places, got {len(row['images'])}")
    return form.convert(row, turns, number)


def _in_the_users_text(row: Row, style: Style) -> dict[str, Any]:
    from ..models.server.messages import in_words

    *turns, user, _ = row["prompt"]
    said = {"type": "text", "text": f"\n\n{in_words(row['prefill'], style.think_tags)}"}
    return {**row, "prompt": [*turns, {**user, "content": [*user["content"], said]}], "prefill": ""}


def _text(content: Any, where: str) -> str:
    parts = [content] if isinstance(content, str) else content
    texts = [
        part if isinstance(part, str) else IMAGE_MARK if part["type"] == "image" else part["text"] for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}, column 'prompt': expected parts that are images or texts, got {content!r:.80}")
    return "".join(texts)


def _as_json(row: Row) -> str:
    packed = {name: row[name] for name in ("solution", "question", "prefill", "condition")}
    return json.dumps({**packed, "options": list(row["options"])}, ensure_ascii=False)


def _kept(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("images", "solution", "question", "options", "condition", "prefill")}


def _joined(turns: Sequence[dict[str, str]]) -> str:
    """Return all turns as one text, for trainers that make the user's turn of it."""
    return "\n\n".join(turn["content"] for turn in turns)


def _trl(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    return {"prompt": row["prompt"], **_kept(row)}


def _ms_swift(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    return {"messages": turns, **_kept(row)}


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
    return {"problem": _joined(turns), "images": row["images"], "answer": _as_json(row)}


def _vlm_r1(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    said = [{"from": "human", "value": _joined(turns)}, {"from": "gpt", "value": row["solution"]}]
    kept = {name: value for name, value in _kept(row).items() if name not in ("images", "solution")}
    return {"id": number, "image": row["images"], "conversations": said, **kept}


def _openrlhf(row: Row, turns: list[dict[str, str]], number: int) -> dict[str, Any]:
    return {"input": turns, "label": _as_json(row), "images": row["images"], "datasource": "vlmrobust"}


TRAINERS: Mapping[str, _Form] = {
    "trl": _Form("TRL", _trl, True),
    "ms-swift": _Form("ms-swift", _ms_swift, False),
    "verl": _Form("verl", _verl, True),
    "easyr1": _Form("EasyR1", _easyr1, False),
    "vlm-r1": _Form("VLM-R1", _vlm_r1, False, ".jsonl"),
    "openrlhf": _Form("OpenRLHF", _openrlhf, True),
}
"""The trainers by their names here."""


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


def dataset_of(rows: Iterable[Mapping[str, Any]], types: "Features") -> "Dataset":
    """Return rows as a data set.

    Args:
        rows: at least one; taken one after the other.
        types: of their columns.

    Raises:
        ValueError: `datasets` is not installed.
    """
    try:
        from datasets import Dataset, concatenate_datasets
    except ModuleNotFoundError as error:
        raise ValueError("to make a dataset of rows, install the extra: pip install 'vlmrobust[train]'") from error

    left = iter(rows)
    parts: Sequence[Any] = []
    while part := list(islice(left, _AT_ONCE)):
        parts = [*parts, Dataset.from_list(part, features=types)]
    return concatenate_datasets(parts)


def _types(trainer: str) -> "Features":
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


def _write_lines(rows: Iterable[dict[str, Any]], file: Path) -> None:
    """Write rows as JSON lines, their images beside them."""
    folder = file.with_name(f"{file.stem}_images")
    folder.mkdir(exist_ok=True)
    with file.open("x", encoding="utf-8") as lines:
        for row in rows:
            names = []
            for place, image in enumerate(row["image"]):
                names.append(f"{folder.name}/{row['id']}-{place}.png")
                open_image(image).save(file.parent / names[-1], "PNG")
            lines.write(json.dumps({**row, "image": names}, ensure_ascii=False) + "\n")
