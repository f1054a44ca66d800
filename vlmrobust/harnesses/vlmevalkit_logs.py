"""Read the prediction files of VLMEvalKit, which have the options as columns."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from ..data import Row
from ..data.fields import from_cell, is_missing, looks_nested
from ..data.files import fill_shared_images, read_file
from ..data.row import from_base64
from ..prompting import LETTERS
from ..types import Prompt, Response, Sample, Style
from .imported import Imported, LogRows, Pair, check_reader, sample_of, value_of, with_opener

__all__ = ["read_vlmevalkit"]

_ROTATION = 1_000_000  # circular evaluation numbers the copies of question 7 as 1000007, 2000007, …
_FAILED = "Failed to obtain answer"
_CELL_LIMIT = 32_767  # characters; pandas cuts longer texts in a workbook
_TEXT_COLUMNS = frozenset({"question", "prediction", "thinking", *LETTERS})
_FIELD_COLUMNS = _TEXT_COLUMNS | {"index", "answer", "image"}


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
    (SPLIT_THINK) becomes the thought before the answer. The rotated copies of a circular run (`index` from 1,000,000
    on) become the conditions `rotated_options_1`, … of their original question, for `Report.circular`. An empty cell is
    an empty response, without an answer; responses that begin with "Failed to obtain answer" are errors. An `.xlsx`
    file needs `pip install vlmrobust[harnesses]`.

    Args:
        path: the file.
        images: the dataset's `.tsv` with a column `image` in base64; None = samples without readable images.
        style: the style used to parse answers; None = `Style()`.
        condition: the name of the run's condition; `base` = unperturbed.
        opener: the text that the chat template writes at the beginning of the assistant's turn, such as `<think>\n`, if
            the model's texts lack it; a text that repeats it is parsed the same.

    Returns:
        The prompts, with the other columns (`category`, `l2-category`, `split`, `hint`, …) in `sample.metadata`, and
        the responses as our parser reads them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format, no row could be read, or an `index` occurs twice.

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
    questions = {_index(row.values): row.values for row in rows if "index" in row.values}
    limit = _CELL_LIMIT if log.suffix == ".xlsx" else None
    log_rows = LogRows()
    # Originals first: a report's first condition is the reference of circular accuracy.
    for row in sorted(rows, key=lambda row: _rotation(str(row.values.get("index")))[0]):  # noqa: PD011
        log_rows.add(row.place, _pairs, row, questions, pictures, style, condition, opener, limit)
    return log_rows.imported(log.name)


def _table(path: Path) -> list[Row]:
    """Return the rows without empty cells; an empty prediction becomes an empty text."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a prediction file of VLMEvalKit at {str(path)!r}, found none")
    if path.suffix in (".tsv", ".csv"):
        rows = list(read_file(path))
    else:
        rows = [
            Row(f"{path.name}, row {number}", cells)
            for number, cells in enumerate(_cells(path), start=2)
            if not all(map(is_missing, cells.values()))
        ]
    has_predictions = any("prediction" in row.values for row in rows)
    return [_without_empty_cells(row, has_predictions) for row in rows]


def _cells(path: Path) -> list[dict[Any, Any]]:
    if path.suffix == ".xlsx":
        return _cells_of_workbook(path)
    if path.suffix != ".json":  # not .pkl, since unpickling runs code
        raise ValueError(f"expected a prediction file in .xlsx, .tsv, .csv or .json, got {path.name!r}")
    import pandas as pd

    return pd.DataFrame(json.loads(path.read_text(encoding="utf-8")), dtype=object).to_dict("records")


def _cells_of_workbook(path: Path) -> list[dict[Any, Any]]:
    """Return the rows of the first sheet, without columns that have no name.

    A text that begins with "=" is stored as a formula, and is read as text; in other columns, such as `hit`, a formula
    counts as the value that was saved with it.
    """
    names, *texts = _sheet(path, data_only=False) or [[]]
    values = _sheet(path, data_only=True)[1:]
    return [
        {
            name: text if name in _TEXT_COLUMNS else value
            for name, text, value in zip(names, *(chain(row, repeat(None)) for row in rows), strict=False)
            if not is_missing(name)
        }
        for rows in zip(texts, values, strict=True)  # a row ends with its last cell
    ]


def _sheet(path: Path, *, data_only: bool) -> list[list[Any]]:
    """Return the cells of the first sheet: of formulas, their text or the saved value; None where this is an error."""
    try:
        from openpyxl import load_workbook
        from openpyxl.worksheet.formula import ArrayFormula
    except ImportError as error:
        raise ImportError("reading .xlsx needs openpyxl: pip install vlmrobust[harnesses]") from error

    def content(cell: Any) -> Any:
        # XlsxWriter stores "{=B}" as the formula of an array.
        value = f"{{{cell.value.text}}}" if isinstance(cell.value, ArrayFormula) else cell.value
        return None if cell.data_type == "e" else value

    workbook = load_workbook(path, read_only=True, data_only=data_only)
    try:
        sheet = workbook.worksheets[0]
        sheet.reset_dimensions()  # those in the file may be wrong
        return [[content(cell) for cell in row] for row in sheet.iter_rows()]
    finally:
        workbook.close()


def _without_empty_cells(row: Row, has_predictions: bool) -> Row:
    values = {str(name): value for name, value in row.values.items() if not is_missing(value)}  # noqa: PD011
    if has_predictions and row.problem is None:
        values.setdefault("prediction", "")
    return replace(row, values=values)


def _index(row: Mapping[str, Any]) -> str:
    return str(value_of(row, "index")).strip()


def _pictures(path: Path) -> dict[str, str]:
    cells = [row.values for row in fill_shared_images(_table(path))]  # noqa: PD011 - not of pandas
    return {_index(row): row["image"] for row in cells if "image" in row}


def _pairs(
    place: str,
    row: Row,
    questions: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, str],
    style: Style | None,
    condition: str,
    opener: str,
    limit: int | None,
) -> Iterator[Pair]:
    if row.problem is not None:
        raise ValueError(row.problem)
    cells = row.values  # noqa: PD011 - not of pandas
    rotation, original = _rotation(_index(cells))
    if original not in questions:
        raise ValueError(f"field 'index': expected the question {original} that {_index(cells)} rotates, found none")
    asked = questions[original] if rotation else cells
    own = _sample(place, cells, original, pictures)
    sample = _sample(place, asked, original, pictures) if rotation else own
    # As they are written: a copy's options may keep letters that those of its question have lost.
    written, rotated = ([*map(str, _options(values).values())] for values in (asked, cells))
    if sorted(rotated) != sorted(written):
        raise ValueError(f"field 'options': expected those of {original} in another order, got {rotated}")
    order = [written.index(option) for option in rotated]
    names = [condition] * (condition != "base" or not rotation) + [f"rotated_options_{rotation}"] * bool(rotation)
    prompt = Prompt.of(sample.replace(metadata=own.metadata), style=style).replace(
        condition="+".join(names),
        options=[sample.options[index] for index in order],
        order=order,
    )
    text = str(value_of(cells, "prediction"))
    if text.startswith(_FAILED):
        yield prompt, Response.failed(prompt, text.strip())
    else:
        cut = "length" if len(text) == limit else None
        opened = with_opener(prompt, opener)
        yield prompt, Response.parse(opened, text, reasoning=cells.get("thinking"), finish_reason=cut)


def _rotation(index: str) -> tuple[int, str]:
    """Return the number of places by which a question was rotated, and the index of the original."""
    number = int(index) if index.isdecimal() else 0
    return (number // _ROTATION, str(number % _ROTATION)) if number >= _ROTATION else (0, index)


def _sample(place: str, row: Mapping[str, Any], index: str, pictures: Mapping[str, str]) -> Sample:
    metadata = {name: value for name, value in row.items() if name not in _FIELD_COLUMNS}
    if "hit" in metadata:
        metadata["harness_correct"] = _is_hit(metadata.pop("hit"))
    values = {
        "id": index,
        "question": value_of(row, "question"),
        "options": _options(row),
        "answer": value_of(row, "answer"),
        "metadata": metadata,
    }
    if index in pictures:
        cell = pictures[index]  # one image, or a Python list of images
        values["images"] = list(map(from_base64, from_cell(cell) if looks_nested(cell) else [cell]))
    return sample_of(place, values, lettered=True)


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    return {letter: row[letter] for letter in LETTERS if letter in row}


def _is_hit(cell: Any) -> bool:
    """Return whether a judged file counts an answer as correct: 1 or 0, as a column of text or with gaps has them."""
    word = str(cell).strip().lower()
    return word == "true" if word in ("true", "false") else bool(int(float(word)))
