"""Convert prompts to chat messages: images as URLs, the prefill in one of four modes."""

import base64
import io
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...types import ImageLike, Prompt, open_image
from ...types.image import image_key
from ...types.prompt import made_of_images
from .client import Memo

__all__ = [
    "BEGUN",
    "COMPLETE",
    "ContinuationMode",
    "PrefillMode",
    "SharedUrls",
    "continued",
    "data_url",
    "in_words",
    "messages_of",
    "request_flags",
]


_PASSTHROUGH_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PASSTHROUGH_MODES = ("RGB", "L")
_ORIENTATION = 0x0112  # the EXIF tag


def data_url(image: ImageLike) -> str:
    """Return an image as a `data:` URL.

    A file, or its bytes, is sent unchanged if every server decodes it to the same pixels: a JPEG, PNG or WebP file with
    one upright RGB or grey image. Anything else (transparency, palettes, CMYK, other formats, PIL images) is sent as a
    PNG of the result of `open_image`, so that all models receive the same pixels.

    Raises:
        OSError: the file is missing or cannot be decoded; the message names the file.
    """
    picture = open_image(image)
    if isinstance(image, str | Path | bytes):
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        if (mime := _passthrough_type(content)) is not None:
            return f"data:{mime};base64,{base64.b64encode(content).decode()}"
    from PIL import Image

    buffer = io.BytesIO()
    # Copy the pixels alone, since a PIL image keeps its file's transparency and would write it to the PNG.
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _passthrough_type(content: bytes) -> str | None:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as file:
        turned = file.getexif().get(_ORIENTATION, 1) != 1
        mode_is_plain = file.mode in _PASSTHROUGH_MODES and "transparency" not in file.info
        plain = mode_is_plain and getattr(file, "n_frames", 1) == 1
        return _PASSTHROUGH_FORMATS.get(file.format or "") if plain and not turned else None


class SharedUrls:
    """Data URLs of images, each made once for all queued prompts and freed after the last of them.

    The first thread that needs a URL makes it, so that images are decoded in parallel.

    Args:
        make: returns the URL of an image, such as `data_url`.

    Example:
        >>> from vlmrobust import Prompt, demo
        >>> prompt = Prompt.of(demo.samples(1)[0])
        >>> [url] = SharedUrls(data_url).of(prompt)()
        >>> url[:22]
        'data:image/png;base64,'
    """

    def __init__(self, make: Callable[[ImageLike], str]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._pending: weakref.WeakValueDictionary[Hashable, Memo] = weakref.WeakValueDictionary()

    def of(self, prompt: Prompt) -> Callable[[], list[str]]:
        """Return a function that makes the URLs of a prompt's images, in order; they are shared while it is alive.

        It raises OSError if an image is missing or cannot be decoded; the message names sample and image.
        """
        with self._lock:
            urls = {key: self._pending.setdefault(key, Memo()) for key in map(image_key, prompt.images)}
        return lambda: made_of_images(
            prompt, lambda image: urls[image_key(image)].get("url", lambda: self._make(image)), {}
        )


ContinuationMode = Literal["continue_final_message", "prefix", "last_message"]
PrefillMode = Literal["continue_final_message", "prefix", "last_message", "user_text"]

BEGUN = """\
You have begun to think about this already. Your thought so far:

{thought}

Go on from exactly there; do not start over."""
"""How an open thought is quoted in the user's message, for servers without prefill."""

COMPLETE = """\
You have thought about this already. Your whole thought:

{thought}

Do not think any further; give the answer now."""
"""How a complete thought is quoted."""


def messages_of(prompt: Prompt, images: Sequence[str], assistant: str, mode: PrefillMode) -> list[dict[str, Any]]:
    """Return a prompt's messages with the prefill.

    Args:
        prompt: the prompt.
        images: the URLs of its images, in order.
        assistant: the beginning of the assistant's turn: the prefill and any forced text after it.
        mode: how to send it.
    """
    urls = iter(images)
    turns = [{**turn, "content": [_filled(part, urls) for part in turn["content"]]} for turn in prompt.messages()]
    if not assistant:
        return turns
    if mode != "user_text":
        return continued(turns, assistant, mode)
    quoted = {"type": "text", "text": f"\n\n{in_words(assistant, prompt.style.think_tags)}"}
    return [*turns[:-1], {**turns[-1], "content": [*turns[-1]["content"], quoted]}]


def continued(turns: Sequence[dict[str, Any]], assistant: str, mode: ContinuationMode) -> list[dict[str, Any]]:
    """Return the turns with the beginning of the assistant's turn, for a server that continues it."""
    flag = {"prefix": True} if mode == "prefix" else {}
    return [*turns, {"role": "assistant", "content": assistant, **flag}]


def request_flags(messages: Sequence[Mapping[str, Any]], mode: PrefillMode) -> dict[str, Any]:
    """Return the request fields by which the server continues the last message."""
    if mode != "continue_final_message" or messages[-1]["role"] != "assistant":
        return {}
    return {"continue_final_message": True, "add_generation_prompt": False}


def _filled(part: Mapping[str, Any], urls: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": next(urls)}} if part["type"] == "image" else dict(part)


def in_words(prefill: str, think_tags: tuple[str, str]) -> str:
    """Return the text by which the user's message quotes a thought, where the assistant's turn cannot be prefilled."""
    think_open, think_close = think_tags
    wording = COMPLETE if think_close in prefill else BEGUN
    return wording.format(thought=prefill.replace(think_open, "").replace(think_close, "").strip())
