"""Open files, folders, Hugging Face datasets and tables, and read samples from them."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from .files import SUFFIXES, read_file
from .hub import read_dataset
from .row import Row
from .rows import AnswerAs, Columns, Samples, numbered_rows, samples_from

__all__ = ["check_no_parts", "in_memory", "limited", "read_rows"]


def read_rows(
    source: Any,
    columns: Columns | None = None,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_error: Literal["raise", "record"] = "raise",
    check_images: bool = False,
    answer_as: AnswerAs = "any",
    download_urls: bool = False,
) -> Samples:
    """Read samples from a file, a folder or a Hugging Face dataset, or from rows in memory.

    - `rows.jsonl`, `rows.json`, `rows.csv` or `rows.tsv`: image paths are relative to the file. A cell of a CSV or
      TSV file may hold a list or an object as JSON or Python: options, images, texts, metadata.
    - `rows.parquet` (needs the extra `data`).
    - a folder with `metadata.jsonl` or `metadata.csv` whose `file_name` names the image, in the folder itself or in a
      folder named after `split` (the layout of Hugging Face's imagefolder).
    - any other text: the name or the folder of a Hugging Face dataset (needs the extra `data`).
    - rows in memory: a DataFrame, a dataset of the library `datasets`, one split of it, or mappings.

    Args:
        source: the path, the name, or the rows.
        columns: the columns of fields with other names, see `samples_from`.
        root: the folder that relative image paths start from; None = the file's folder, or else the current one.
        split: the split of a dataset, such as "test"; required if there are several. A single file has none.
        limit: read only the first `limit` rows.
        on_error: see `samples_from`.
        check_images: see `samples_from`.
        answer_as: see `samples_from`.
        download_urls: see `samples_from`.

    Raises:
        FileNotFoundError: there is no such file.
        RowsError: a row is invalid; each problem names file, line, sample and field.
        ValueError: the format or the split is unknown, a split of a single file is given, or `columns` is invalid.
    """
    rows, home = _open(source, split) if isinstance(source, str | Path) else (in_memory(source, split), None)
    return samples_from(
        limited(rows, limit),
        columns,
        root=home if root is None else root,
        on_error=on_error,
        check_images=check_images,
        answer_as=answer_as,
        download_urls=download_urls,
    )


def limited(rows: Iterator[Row], limit: int | None) -> Iterator[Row]:
    """Return the first `limit` rows, without reading more.

    Raises:
        ValueError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"expected a limit of at least 1, got {limit}")
    return islice(rows, limit)


def check_no_parts(file: Path, where: str = "", **selected: object) -> None:
    """Refuse a split or configuration of a single file, which is always read as a whole.

    Args:
        file: the file.
        where: the beginning of the message.
        **selected: the selected parts, by the plural of their name.

    Raises:
        ValueError: a part is selected.
    """
    for parts, value in selected.items():
        if value:
            prefix = f"{where}: " if where else ""
            raise ValueError(f"{prefix}a single file has no {parts}: expected none for {file.name!r}, got {value!r}")


def in_memory(rows: Any, split: str | None = None) -> Iterator[Row]:
    """Return rows in memory, from one split if they have several.

    Raises:
        ValueError: there is no such split, or no splits at all.
    """
    if split is not None and isinstance(rows, Mapping):
        if split not in rows:
            raise ValueError(f"expected one of the splits {', '.join(map(str, rows))}, got {split!r}")
        rows = rows[split]
    elif split is not None:
        raise ValueError(f"rows in memory have no splits: expected none, got {split!r}")
    return numbered_rows(rows)


def _open(source: str | Path, split: str | None) -> tuple[Iterator[Row], Path | None]:
    path = Path(source)
    if path.is_file():
        check_no_parts(path, splits=split)
        return read_file(path), path.parent
    if path.is_dir():
        for folder in [path] if split is None else [path, path / split]:
            for name in ("metadata.jsonl", "metadata.csv"):
                if (folder / name).is_file():
                    return read_file(folder / name), folder
    elif path.suffix in SUFFIXES or path.is_absolute() or str(source).startswith("."):
        raise FileNotFoundError(f"expected rows in a file or folder, found none at {str(source)!r}")
    return read_dataset(str(source), split), None
