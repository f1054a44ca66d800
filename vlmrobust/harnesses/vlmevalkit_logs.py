"""The prediction files of VLMEvalKit, which have the options as columns."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data import Row
from ..data.cells import from_cell, looks_nested
from ..data.fields import from_base64, is_missing
from ..data.files import read_file, with_shared_images
from ..prompting import LETTERS
from ..types import Prompt, Response, Sample, Style
from .imported import Collected, Imported, Pair, check_reader, opened, sample_of, value_of

__all__ = ["read_vlmevalkit"]

_CIRCLE = 1_000_000  # circular evaluation numbers the copies of question 7 as 1000007, 2000007, …
_FAILED = "Failed to obtain answer"
_USED = frozenset({"index", "question", "answer", "prediction", "thinking", "image", *LETTERS})


def read_vlmevalkit(
    path: str | Path,
    *,
    images: str | Path | None = None,
    style: Style | None = None,
    condition: str = "base",
    opener: str = "",
) -> Imported:
    r"""Read a prediction file of VLMEvalKit, `<model>_<dataset>.xlsx` (or `.tsv`, `.csv`, `.json`).

    A judged file, `…_result.xlsx`, is read too; its `hit` becomes `harness_correct`. A column `thinking`
    (SPLIT_THINK) goes in front of the answer as its thought. The rotated copies of a circular run (`index` from
    1,000,000 on) become the conditions `rotated_options_1`, … of the question that they copy, for `Report.circular`.
    An empty cell is an answer without text, which is no answer; answers that begin with "Failed to obtain answer" are
    errors. An `.xlsx` file needs `pip install vlmrobust[harnesses]`.

    Args:
        path: the file.
        images: the dataset's `.tsv` with a column `image` in base64; None = the samples have no images to open.
        style: how the answers are read; None = `Style()`.
        condition: the name of what the run changed; `base` = nothing.
        opener: what the chat template has written where the assistant begins, such as `<think>\n`, where the model's
            texts lack it; one that does repeat it is read the same.

    Returns:
        The prompts, with the other columns (`category`, `l2-category`, `split`, `hint`, …) in `sample.metadata`, and
        the responses as our parser reads them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, not one row could be read, or an `index` occurs twice.

    Example:
        >>> import tempfile
        >>> table = 'index\tquestion\tA\tB\tanswer\tcategory\tprediction\n7\tWhich colour?\tred\tblue\tB\thue\tB.\n'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder, "model_Colours.tsv")
        ...     _ = log.write_text(table)
        ...     read = read_vlmevalkit(log)
        >>> read.responses[0].answer, read.prompts[0].sample.metadata
        (1, {'category': 'hue'})
    """
    log = Path(path)
    check_reader(log, "read_vlmevalkit")
    rows = _table(log)
    pictures = {} if images is None else _pictures(Path(images))
    asked = {_index(row.values): row.values for row in rows if "index" in row.values}
    collected = Collected()
    # The questions themselves first: a report's first condition is what circular accuracy is compared with.
    for row in sorted(rows, key=_rotated_by):
        collected.add(row.place, _pairs, row, asked, pictures, style, condition, opener)
    return collected.imported(log.name)


def _table(path: Path) -> list[Row]:
    """Return the rows without empty cells, every cell as it was written; an empty prediction is one of no text."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a prediction file of VLMEvalKit at {str(path)!r}, found none")
    if path.suffix in (".tsv", ".csv"):
        rows = list(read_file(path))
    else:
        rows = [Row(f"{path.name}, row {number}", cells) for number, cells in enumerate(_cells(path), start=2)]
    has_predictions = any("prediction" in row.values for row in rows)
    return [_written(row, has_predictions) for row in rows]


def _cells(path: Path) -> list[dict[Any, Any]]:
    import pandas as pd

    if path.suffix == ".xlsx":
        try:
            # "None" and "NA" are options like others.
            frame = pd.read_excel(path, dtype=object, engine="openpyxl", keep_default_na=False, na_values=[""])
        except ImportError as error:
            raise ImportError("reading .xlsx needs openpyxl: pip install vlmrobust[harnesses]") from error
    elif path.suffix == ".json":
        frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")), dtype=object)
    else:  # not .pkl: it runs what it holds
        raise ValueError(f"expected a prediction file in .xlsx, .tsv, .csv or .json, got {path.name!r}")
    return frame.to_dict("records")


def _written(row: Row, has_predictions: bool) -> Row:
    values = {str(name): value for name, value in row.values.items() if not is_missing(value)}  # noqa: PD011
    if has_predictions and row.problem is None:
        values.setdefault("prediction", "")
    return replace(row, values=values)


def _index(row: Mapping[str, Any]) -> str:
    return str(value_of(row, "index")).strip()


def _rotated_by(row: Row) -> int:
    return _rotation(str(row.values.get("index")))[0]  # noqa: PD011 - not of pandas


def _pictures(path: Path) -> dict[str, str]:
    cells = [row.values for row in with_shared_images(_table(path))]  # noqa: PD011 - not of pandas
    return {_index(row): row["image"] for row in cells if "image" in row}


def _pairs(
    place: str,
    read: Row,
    asked: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, str],
    style: Style | None,
    condition: str,
    opener: str,
) -> Iterator[Pair]:
    if read.problem is not None:
        raise ValueError(read.problem)
    row = read.values  # noqa: PD011 - not of pandas
    rotation, original = _rotation(_index(row))
    if original not in asked:
        raise ValueError(f"field 'index': expected the question {original} that {_index(row)} rotates, found none")
    own = _sample(place, row, original, pictures)
    sample = own if not rotation else _sample(place, asked[original], original, pictures)
    if sorted(own.options) != sorted(sample.options):
        raise ValueError(f"field 'options': expected those of {original} in another order, got {list(own.options)}")
    names = [condition] * (condition != "base" or not rotation) + [f"rotated_options_{rotation}"] * bool(rotation)
    prompt = Prompt.of(sample.replace(metadata=own.metadata), style=style).replace(
        condition="+".join(names),
        options=own.options,
        order=[sample.options.index(option) for option in own.options],
    )
    text = str(value_of(row, "prediction"))
    if text.startswith(_FAILED):
        yield prompt, Response.failed(prompt, text.strip())
    else:
        yield prompt, Response.parse(opened(prompt, opener), text, reasoning=row.get("thinking"))


def _rotation(index: str) -> tuple[int, str]:
    """Return by how many places a question was rotated, and the index of the question itself."""
    number = int(index) if index.isdecimal() else 0
    return (number // _CIRCLE, str(number % _CIRCLE)) if number >= _CIRCLE else (0, index)


def _sample(place: str, row: Mapping[str, Any], index: str, pictures: Mapping[str, str]) -> Sample:
    metadata = {name: value for name, value in row.items() if name not in _USED}
    if "hit" in metadata:
        metadata["harness_correct"] = bool(int(metadata.pop("hit")))
    values = {
        "id": index,
        "question": value_of(row, "question"),
        "options": {letter: row[letter] for letter in LETTERS if letter in row},
        "answer": value_of(row, "answer"),
        "metadata": metadata,
    }
    if index in pictures:
        values["images"] = _decoded(pictures[index])
    return sample_of(place, values)


def _decoded(cell: str) -> list[bytes]:
    """Decode a cell: one image, or a list of them as Python writes it."""
    shown = from_cell(cell) if looks_nested(cell) else [cell]
    return [from_base64(one) for one in shown]
