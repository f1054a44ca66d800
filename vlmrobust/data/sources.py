"""Files, folders and Hugging Face datasets → rows, each with the place it stands at."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from .rows import AnswerAs, Columns, Row, Samples, samples_from

__all__ = ["read_rows"]


def read_rows(
    source: str | Path,
    columns: Columns | None = None,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_error: Literal["raise", "record"] = "raise",
    check_images: bool = False,
    answer_as: AnswerAs = "any",
) -> Samples:
    """Read samples from a file, a folder or a Hugging Face dataset.

    - `rows.jsonl`, `rows.csv` or `rows.tsv`: image paths are relative to the file. A cell of a CSV file may hold JSON,
      such as the list of options.
    - a folder with `metadata.jsonl` or `metadata.csv` whose `file_name` names the image, in the folder itself or in a
      folder named after `split` (the layout of Hugging Face's imagefolder).
    - anything else is the name or the folder of a Hugging Face dataset (needs the extra `data`).

    Args:
        source: the path or the name.
        columns: which column holds a field, see `samples_from`.
        split: the part of a dataset, such as "test"; needed where there are several.
        limit: the first so many rows alone.
        on_error: see `samples_from`.
        check_images: see `samples_from`.
        answer_as: see `samples_from`.

    Raises:
        FileNotFoundError: there is no such file.
        RowsError: something is wrong with a row; each problem names file, line, sample and field.
        ValueError: the format or the split is not known, or `columns` does not fit.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"expected a limit of at least 1, got {limit}")
    rows, root = _open(source, split)
    chosen = [row for _, row in zip(range(limit), rows, strict=False)] if limit is not None else list(rows)
    return samples_from(chosen, columns, root=root, on_error=on_error, check_images=check_images, answer_as=answer_as)


def _open(source: str | Path, split: str | None) -> tuple[Iterator[Row], Path | None]:
    path = Path(source)
    if path.is_file():
        return _read_file(path), path.parent
    if path.is_dir():
        for folder in [path] if split is None else [path, path / split]:
            for name in ("metadata.jsonl", "metadata.csv"):
                if (folder / name).is_file():
                    return _read_file(folder / name), folder
    elif path.suffix in _READERS or path.is_absolute() or str(source).startswith("."):
        raise FileNotFoundError(f"expected rows in a file or folder, found none at {str(source)!r}")
    return _read_dataset(str(source), split), None


def _read_file(path: Path) -> Iterator[Row]:
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ValueError(f"expected a file of rows that ends in {', '.join(_READERS)}, got {path.name!r}")
    return reader(path)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path.name}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                values = json.loads(text) if text else None
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                yield Row(place, {}, f"expected one JSON object, got {error}: {line!r:.80}")
                continue
            if not text:
                continue
            if isinstance(values, dict):
                yield Row(place, values)
            else:
                yield Row(place, {}, f"expected one JSON object, got {type(values).__name__}")


def _read_table(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    def read(path: Path) -> Iterator[Row]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            place = f"{path.name}, line 1"
            while True:
                try:
                    if reader.fieldnames is not None:
                        place = f"{path.name}, line {reader.line_num + 1}"  # a quoted cell may span lines
                    values: Mapping[Any, Any] | None = next(reader, None)
                except (csv.Error, UnicodeDecodeError) as error:
                    yield Row(place, {}, f"expected a row of {path.suffix[1:]}, got {error}")
                    return
                if values is None:
                    return
                if None in values:
                    yield Row(place, {}, f"expected {len(values) - 1} cells, got {len(values[None])} more")
                else:
                    yield Row(place, values)

    return read


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_table(","),
    ".tsv": _read_table("\t"),
}


def _read_dataset(name: str, split: str | None) -> Iterator[Row]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError(
            f"expected a file or folder of rows, got {name!r}; to read it as a Hugging Face dataset, "
            "install the extra: pip install 'vlmrobust[data]'"
        ) from error

    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"expected a file, a folder or a Hugging Face dataset, got {name!r}: {type(error).__name__}: {error}"
        ) from error
    if isinstance(loaded, Mapping):
        if len(loaded) > 1:
            raise ValueError(f"expected the split of {name!r} to read, one of {', '.join(sorted(loaded))}; got none")
        ((split, loaded),) = loaded.items()
    for column, feature in loaded.features.items():
        if isinstance(feature, datasets.Image):  # kept as the file's bytes, not as pixels: far smaller
            loaded = loaded.cast_column(column, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            loaded = loaded.cast_column(column, type(feature)(datasets.Image(decode=False)))
    return (Row(f"{name}, row {number}", values) for number, values in enumerate(loaded))
