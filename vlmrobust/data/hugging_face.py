"""Yield the rows of Hugging Face datasets and of Parquet files, each with its place.

Images stay encoded: files are far smaller than pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .row import Row

__all__ = ["read_dataset", "read_parquet", "rows_of"]


def read_dataset(name: str, split: str | None, config: str | None = None, *, streaming: bool = False) -> Iterator[Row]:
    """Open a dataset of the hub or of a folder, and yield its rows.

    Args:
        name: the dataset's name on the hub, or a folder.
        split: its split; None = the only one.
        config: its configuration; None = the default one.
        streaming: stream rows instead of downloading all of them first.

    Raises:
        ValueError: `datasets` is not installed, or there is no such dataset, configuration or split.
    """
    loaded = _loaded(name, config, split=split, streaming=streaming)
    if isinstance(loaded, Mapping):
        if len(loaded) > 1:
            raise ValueError(f"expected a split of {name!r}, one of {', '.join(sorted(loaded))}; got none")
        ((split, loaded),) = loaded.items()
    return _numbered(loaded, ", ".join(part for part in (name, config) if part))


def read_parquet(files: Sequence[Path]) -> Iterator[Row]:
    """Stream the rows of Parquet files.

    Raises:
        ValueError: `datasets` is not installed, or a file is not Parquet.
    """
    place = files[0].name if len(files) == 1 else str(files[0].parent)
    if not (filled := [str(file) for file in files if _has_rows(file)]):  # `datasets` fails at a file without rows
        return iter(())
    return _numbered(_loaded("parquet", split="rows", streaming=True, data_files={"rows": filled}), place)


def _has_rows(file: Path) -> bool:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:  # `_loaded` says what to install
        return True
    try:
        return bool(parquet.read_metadata(file).num_rows)
    except (ArrowException, OSError):  # `datasets` says what is wrong with the file
        return True


def _loaded(name: str, *arguments: Any, **options: Any) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError(
            f"expected a file or folder of rows, got {name!r}; to read it as a Hugging Face dataset, "
            "install the extra: pip install 'vlmrobust[data]'"
        ) from error

    try:
        return datasets.load_dataset(name, *arguments, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"expected a file, a folder or a Hugging Face dataset, got {name!r}: {type(error).__name__}: {error}"
        ) from error


def _numbered(dataset: Any, place: str) -> Iterator[Row]:
    return (Row(f"{place}, row {number}", values) for number, values in enumerate(rows_of(dataset)))


def rows_of(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset: images as file contents instead of pixels, class labels by name.

    The rows that a dataset's own transform makes are yielded as they are.
    """
    import datasets

    shown: tuple[Any, ...] = ()
    if isinstance(dataset, datasets.Dataset):
        if dataset.format["type"] == "custom":
            yield from dataset
            return
        shown = (dataset.format["columns"], dataset.format["output_all_columns"])
    dataset = _undecoded(dataset.with_format(None, *shown))
    labelled = {column: feature for column, feature in (dataset.features or {}).items() if _has_labels(feature)}
    for row in dataset:
        named = {column: _named(row[column], feature) for column, feature in labelled.items() if column in row}
        yield {**row, **named}


def _has_labels(feature: Any) -> bool:
    if isinstance(feature, Mapping | list):
        return any(map(_has_labels, feature.values() if isinstance(feature, Mapping) else feature))
    return hasattr(feature, "names") or (hasattr(feature, "feature") and _has_labels(feature.feature))


def _named(value: Any, feature: Any) -> Any:
    """Return a value with the names of its class labels, at any depth."""
    if isinstance(value, Mapping) and isinstance(feature, Mapping):
        return {name: _named(part, feature.get(name)) for name, part in value.items()}
    if isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        return [_named(part, inner) for part in value]
    # A number is a place among these names, not among the row's options; -1 is no label.
    is_label = hasattr(feature, "names") and isinstance(value, int) and value >= 0
    return feature.names[value] if is_label else value


def _undecoded(dataset: Any) -> Any:
    """Return a dataset whose image columns hold file contents instead of pixels."""
    import datasets

    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            dataset = dataset.cast_column(column, type(feature)(datasets.Image(decode=False)))
    return dataset
