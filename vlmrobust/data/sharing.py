"""Images that rows of a table share: a cell that is another row's index stands for the image of that row."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeGuard

from .cells import looks_nested
from .fields import is_base64_image
from .row import Row

__all__ = ["with_shared_images"]


def with_shared_images(rows: Iterable[Row]) -> Iterator[Row]:
    """Fill in images that rows share: a cell `image` that is another row's `index` stands for that row's image.

    The other row may stand behind, and have its image from a third one. Rows are read ahead where one is looked for.

    Source: VLMEvalKit, vlmeval/dataset/image_base.py.
    """
    left, ahead = iter(rows), deque[Row]()
    images: dict[str, str] = {}
    shares: dict[str, str] = {}

    def read() -> bool:
        """Read one row more; return whether there was one."""
        if (row := next(left, None)) is None:
            return False
        ahead.append(row)
        index, image = row.values.get("index"), row.values.get("image")
        if index is not None and _is_image(image):
            images[str(index)] = image
        elif index is not None and _may_share(image):
            shares[str(index)] = image
        return True

    def found(index: str) -> str | None:
        """Return the image of a row, None where it has none."""
        seen: set[str] = set()
        while index not in images and index not in seen:
            if index in shares:
                seen.add(index)
                index = shares[index]
            elif not read():
                return None
        return images.get(index)

    while ahead or read():
        row = ahead.popleft()
        image = row.values.get("image")
        if "index" in row.values and _may_share(image):
            if (shared := found(image)) is not None:
                row = replace(row, values={**row.values, "image": shared})
            elif images:
                problem = f"expected an image, or the index of a row that has it, got {image!r}"
                row = replace(row, problem=problem)
        yield row


def _is_image(image: Any) -> TypeGuard[str]:
    return is_base64_image(image) or looks_nested(image)


def _may_share(image: Any) -> TypeGuard[str]:
    return isinstance(image, str) and image.isdecimal()
