"""Prompts as the messages of an OpenAI-compatible server: images as URLs, the prefill in one of four ways."""

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

__all__ = [
    "BEGUN",
    "COMPLETE",
    "Continuing",
    "SharedUrls",
    "Way",
    "continued",
    "data_url",
    "in_words",
    "messages_of",
    "request_flags",
]


_KEPT_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_KEPT_MODES = ("RGB", "L")
_ORIENTATION = 0x0112  # the EXIF tag


def data_url(image: ImageLike) -> str:
    """Return an image as a `data:` URL.

    A file, or its bytes, goes as it is where every server decodes it to the same pixels: a JPEG, PNG or WebP file of
    one upright RGB or grey picture. Anything else (transparency, palettes, CMYK, other formats, PIL images) goes as the
    PNG of what `open_image` makes of it, so that a server sees what any other model here sees.

    Raises:
        OSError: the file is missing or cannot be decoded; the message names the file.
    """
    picture = open_image(image)
    if isinstance(image, str | Path | bytes):
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        if (mime := _kept_type(content)) is not None:
            return f"data:{mime};base64,{base64.b64encode(content).decode()}"
    from PIL import Image

    buffer = io.BytesIO()
    # The pixels alone: a picture keeps what its file said about transparency, and a PNG would say it again.
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _kept_type(content: bytes) -> str | None:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as file:
        turned = file.getexif().get(_ORIENTATION, 1) != 1
        plain = file.mode in _KEPT_MODES and "transparency" not in file.info and getattr(file, "n_frames", 1) == 1
        return _KEPT_FORMATS.get(file.format or "") if plain and not turned else None


class SharedUrls:
    """Images' data URLs, each made once for all prompts that wait at the same time, and let go of after the last.

    A URL is made by the thread that needs it first, so that images are decoded side by side.

    Args:
        make: returns the URL of an image, as `data_url` does.

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
        self._waited_for: weakref.WeakValueDictionary[Hashable, _Url] = weakref.WeakValueDictionary()

    def of(self, prompt: Prompt) -> Callable[[], list[str]]:
        """Return what makes the URLs of a prompt's images, in their order; as long as it is held, they are shared.

        Calling it raises OSError where an image is missing or cannot be decoded; the message names sample and image.
        """
        with self._lock:
            held = {key: self._waited_for.setdefault(key, _Url(self._make)) for key in map(image_key, prompt.images)}
        return lambda: made_of_images(prompt, lambda image: held[image_key(image)].of(image), {})


class _Url:
    """One image's, once it is made."""

    def __init__(self, make: Callable[[ImageLike], str]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._url: str | None = None

    def of(self, image: ImageLike) -> str:
        with self._lock:
            if self._url is None:
                self._url = self._make(image)
            return self._url


Continuing = Literal["continue_final_message", "prefix", "last_message"]
Way = Literal["continue_final_message", "prefix", "last_message", "user_text"]

BEGUN = """\
You have begun to think about this already. Your thought so far:

{thought}

Go on from exactly there; do not start over."""
"""How a thought that is not complete is put into the user's text, for servers without prefill."""

COMPLETE = """\
You have thought about this already. Your whole thought:

{thought}

Do not think any further; give the answer now."""
"""The same for a thought that is complete."""


def messages_of(prompt: Prompt, images: Sequence[str], assistant: str, way: Way) -> list[dict[str, Any]]:
    """Return a prompt's messages.

    Args:
        prompt: the prompt.
        images: the URLs of its images, in their order.
        assistant: what the assistant's turn begins with: the prefill, and what is forced behind it.
        way: how that is carried.
    """
    urls = iter(images)
    turns = [{**turn, "content": [_filled(part, urls) for part in turn["content"]]} for turn in prompt.messages()]
    if not assistant:
        return turns
    if way != "user_text":
        return continued(turns, assistant, way)
    said = {"type": "text", "text": f"\n\n{in_words(assistant, prompt.style.think_tags)}"}
    return [*turns[:-1], {**turns[-1], "content": [*turns[-1]["content"], said]}]


def continued(turns: Sequence[dict[str, Any]], assistant: str, way: Continuing) -> list[dict[str, Any]]:
    """Return the turns and the beginning of the assistant's, for a server that goes on from there."""
    mark = {"prefix": True} if way == "prefix" else {}
    return [*turns, {"role": "assistant", "content": assistant, **mark}]


def request_flags(messages: Sequence[Mapping[str, Any]], way: Way) -> dict[str, Any]:
    """Return what a request says beside its messages, so that the last one is continued."""
    if way != "continue_final_message" or messages[-1]["role"] != "assistant":
        return {}
    return {"continue_final_message": True, "add_generation_prompt": False}


def _filled(part: Mapping[str, Any], urls: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": next(urls)}} if part["type"] == "image" else dict(part)


def in_words(prefill: str, think_tags: tuple[str, str]) -> str:
    """Return what the user's turn says of a thought where the assistant's cannot begin with it."""
    think_open, think_close = think_tags
    wording = COMPLETE if think_close in prefill else BEGUN
    return wording.format(thought=prefill.replace(think_open, "").replace(think_close, "").strip())
