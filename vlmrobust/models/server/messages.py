"""Convert prompts to chat messages, and find out how a server accepts a prefill and whether it continues it.

Images are sent as URLs; the prefill in one of four modes.

A server that takes the last message for a finished turn, or drops the thought in it, still answers, but to another
prompt. The test works for any model: under greedy decoding, if the beginning of a model's own text is prefilled, the
model continues with the rest of that text. A server that repeats the prefill in its reply continues it all the same,
which shows, since the prefilled thought has more words than tokens may be generated.
"""

import base64
import io
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...types import ImageLike, Prompt, open_image
from ...types.image import image_key
from ...types.prompt import made_of_images
from .attempts import UNSUPPORTED
from .client import Memo
from .replies import Reply, after_prefix

__all__ = [
    "BEGUN",
    "COMPLETE",
    "Ask",
    "Continuation",
    "ContinuationMode",
    "PrefillMode",
    "SharedUrls",
    "continued",
    "data_url",
    "echoes_prefill",
    "in_words",
    "messages_of",
    "rejection_reason",
    "request_flags",
]

logger = logging.getLogger(__name__)

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


Ask = Callable[[Sequence[Mapping[str, Any]], PrefillMode, int], Reply]
"""Sends messages for greedy decoding of some tokens, at most, and returns the reply."""

_QUESTION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Describe a walk through a park in a few sentences."}]}
]
_THOUGHT = (
    "The question is about a walk through a park, so I should say what one sees there, and in which order: first the "
    "gate and the path, then the trees, the pond and the people."
)
_TOKENS = 24  # fewer than the words of the thought
_CHARACTERS = 4  # unlikely to agree by chance


class Continuation:
    """How one server accepts a prefill, tested on first use.

    Args:
        ask: sends messages.
        requested: how to send a prefill; "auto" = find out.
    """

    def __init__(self, ask: Ask, requested: PrefillMode | Literal["auto"]) -> None:
        self._ask = ask
        self._requested: PrefillMode | Literal["auto"] = requested
        self._known = Memo()

    def mode(self, think_tags: tuple[str, str], *, closed: bool) -> PrefillMode:
        """Return how to send a prefilled thought.

        Args:
            think_tags: its opening and closing tag.
            closed: it is complete; some templates remove complete thoughts only.
        """
        if self._requested != "auto":
            return self._requested
        return self._known.get((think_tags, closed), lambda: self._first_that_works(think_tags, closed))

    def echoes(self, think_tags: tuple[str, str], mode: ContinuationMode) -> bool:
        """Return whether the server repeats the prefill in front of the generated text."""

        def find() -> bool:
            prefill = f"{think_tags[0]}{_THOUGHT}"
            return echoes_prefill(self._ask(continued(_QUESTION, prefill, mode), mode, 1), prefill, think_tags)

        return self._known.get(("echo", mode), find)

    def mergeable(self, forced: str, think_tags: tuple[str, str], mode: ContinuationMode) -> str:
        """Return the end of a forced prefix that a letter's token may begin with (`LetterVocabulary.forced_prefix`).

        The server's vocabulary is unknown. If the last character (the `>` of a tag) is a token of its own, which the
        prompt's token count without it shows, `>A` may be a token too; if it is not, nothing merges with it.
        """
        if not forced.endswith(">"):
            return ""

        def find() -> str:
            text = "".join(think_tags) + forced
            whole, shorter = (
                self._ask(continued(_QUESTION, part, mode), mode, 1).prompt_tokens for part in (text, text[:-1])
            )
            own = whole is not None and shorter is not None and whole == shorter + 1
            return forced[-1] if own else ""

        return self._known.get((forced, think_tags, mode), find)

    def _first_that_works(self, think_tags: tuple[str, str], closed: bool) -> PrefillMode:
        from openai import APIStatusError

        baseline = self._known.get("baseline", lambda: self._ask(_QUESTION, "last_message", 1).prompt_tokens)
        prefill = f"{think_tags[0]}{_THOUGHT}{think_tags[1] if closed else ''}"
        reasons = []
        candidates: tuple[ContinuationMode, ...] = ("continue_final_message", "last_message")
        for mode in candidates:
            try:
                reason = rejection_reason(self._ask, mode, prefill, think_tags, baseline)
            except APIStatusError as error:
                if error.status_code not in UNSUPPORTED:
                    raise
                reason = f"status {error.status_code}"
            if reason is None:
                return mode
            reasons.append(f"{mode}: {reason}")
        logger.warning(
            "the server does not continue a turn with %s thought (%s); such thoughts go into the user's message, which "
            "is a different experiment and is reported separately",
            "a complete" if closed else "an open",
            "; ".join(reasons),
        )
        return "user_text"


def rejection_reason(
    ask: Ask, mode: ContinuationMode, prefill: str, think_tags: tuple[str, str], baseline: int | None
) -> str | None:
    """Return why a prefilled thought would not be continued; None = it is. Sends two requests.

    `prefill` is the thought in its tags, open or closed, with more words than tokens are generated; `baseline` is the
    number of the prompt's tokens without it, as the server counts them.
    """

    def turn(prefill: str) -> tuple[str, int | None]:
        reply = ask(continued(_QUESTION, prefill, mode), mode, _TOKENS)
        return reply.turn(prefill, think_tags), reply.prompt_tokens

    first, tokens = turn(prefill)
    if tokens is None or baseline is None:
        return "the server does not count prompt tokens, so that a dropped prefill would not show"
    # A word is at least one token; of a dropped thought, a few control tokens remain.
    if tokens - baseline < len(_THOUGHT.split()) // 2:
        return f"the prompt has {tokens} tokens with the prefilled thought and {baseline} without"
    cut = _middle(first)
    rest = first[cut:].rstrip()
    # Compare half of the rest only: half precision may decide a tie differently.
    expected = rest[: -(-len(rest) // 2)]
    if len(expected) < _CHARACTERS or first.startswith(expected):
        return f"the reply after the prefill is too short or too uniform for the test, {first!r}"
    second, _ = turn(prefill + first[:cut])
    if not second.startswith(expected):
        return f"expected the reply to continue with {rest!r} after its own beginning, got {second!r:.120}"
    return None


def echoes_prefill(reply: Reply, prefill: str, think_tags: tuple[str, str]) -> bool:
    """Return whether a reply repeats a prefill that is too long to have been generated, or the thought in it."""
    thought = prefill.strip().removeprefix(think_tags[0]).partition(think_tags[1])[0]
    return after_prefix(reply.content, prefill) is not None or after_prefix(reply.reasoning or "", thought) is not None


def _middle(text: str) -> int:
    """Return where to split a text: before a space or after a tag, where a token is rarely split."""
    middle = len(text) // 2
    return max(text.rfind(" ", 1, middle + 1), text.rfind(">", 0, middle) + 1, 0) or middle
