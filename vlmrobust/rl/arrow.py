"""Training rows as data sets of `datasets`, in pieces that Arrow has room for."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset, Features

__all__ = ["dataset_of", "features"]

_AT_ONCE = 1_000  # rows; Arrow has no place for more than 2 GB of images in one piece


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
