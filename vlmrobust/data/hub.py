"""Read Hugging Face datasets as rows, and download images from URLs.

Images stay encoded: files are far smaller than pixels.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .row import Row

__all__ = ["CONNECTIONS", "Downloader", "is_dataset", "read_dataset", "read_parquet", "undecoded"]


CONNECTIONS = 8  # at the same time; hosts of datasets reject more
_CONNECT_SECONDS, _READ_SECONDS, _RETRIES = 10.0, 30.0, 3
_TEMPORARY = (429, 500, 502, 503, 504)  # status codes worth a retry


class Downloader:
    """Download the bytes at `http://` and `https://` URLs; may be called from several threads.

    The client is urllib3: it keeps connections open, has timeouts (10 s to connect, 30 s between two pieces of a
    response) and retries three times if a connection breaks or a server is overloaded, respecting `Retry-After`. The
    standard library has none of this, and httpx only retries broken connections.

    Raises:
        ValueError: urllib3 is not installed (extra `data`).
    """

    def __init__(self, backoff: float = 0.5) -> None:
        try:
            import urllib3
        except ModuleNotFoundError as error:
            raise ValueError("to download images, install the extra: pip install 'vlmrobust[data]'") from error

        retries = urllib3.Retry(
            total=_RETRIES, backoff_factor=backoff, status_forcelist=_TEMPORARY, raise_on_status=False
        )
        self._failures = urllib3.exceptions.HTTPError
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            block=True,
            retries=retries,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        )

    def __call__(self, address: str) -> bytes:
        """Download the content of a URL.

        Raises:
            ValueError: there is none, or the download failed; the message names the URL.
        """
        try:
            response = self._pool.request("GET", address)
        except self._failures as error:
            raise ValueError(f"expected an image at {address!r}, got {type(error).__name__}: {error}") from error
        if response.status != 200:
            raise ValueError(f"expected an image at {address!r}, got status {response.status} {response.reason}")
        if not response.data:
            raise ValueError(f"expected an image at {address!r}, got an empty answer")
        return response.data


def is_dataset(value: object) -> bool:
    """Return whether a value is a dataset of the library `datasets`, in memory or streamed."""
    module = sys.modules.get("datasets")  # a dataset exists only if its library has been imported
    return module is not None and isinstance(value, module.Dataset | module.IterableDataset)


def undecoded(dataset: Any) -> Any:
    """Return a dataset whose image columns hold file contents instead of pixels."""
    import datasets

    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            dataset = dataset.cast_column(column, type(feature)(datasets.Image(decode=False)))
    return dataset


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
    loaded = _loaded("parquet", split="rows", streaming=True, data_files={"rows": [str(file) for file in files]})
    return _numbered(loaded, files[0].name if len(files) == 1 else str(files[0].parent))


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
    return (Row(f"{place}, row {number}", values) for number, values in enumerate(undecoded(dataset)))
