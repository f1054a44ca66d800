"""Asks a server what it can do: some twenty short requests, about two made-up images."""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ...types import Prompt, Sample, Style, open_image
from .chat import Chat, same_model
from .check import ServerCheck
from .continuation import Continuation
from .images import data_url
from .letters import Letters
from .messages import Way, messages_of
from .replies import Reply

__all__ = ["check_server"]

_SMALL, _LARGE = 56, 448  # pixels; multiples of the usual patches
_WRITTEN = 128  # tokens of an answer in which tags may show
_DRAWN = 16  # tokens of which two drawn texts are made
_DIFFERENT = 0.05  # nats between temperatures; the same log-probabilities differ by rounding
_TEMPERATURES = (0.5, 2.0)


def check_server(chat: Chat, continuation: Continuation, letters: Letters, style: Style) -> ServerCheck:
    """Return what a server can do.

    Args:
        chat: asks it.
        continuation: knows how it begins the assistant's turn.
        letters: knows how its letters are read.
        style: whose tags are looked for.

    Raises:
        openai.OpenAIError: it cannot be asked.
        RefusedError: it does not fit what it was said to be.
    """
    asked = _Asked(chat, continuation, letters, style)
    found = asked.found()
    return found.replace(warnings=tuple(_warnings(found, chat)))


class _Asked:
    def __init__(self, chat: Chat, continuation: Continuation, letters: Letters, style: Style) -> None:
        self._chat, self._continuation, self._letters, self._style = chat, continuation, letters, style
        self._prompts = {
            side: Prompt.of(
                Sample(
                    id="check",
                    images=[_picture(side)],
                    question="Which colour is it?",
                    options=["red", "blue"],
                    answer=0,
                ),
                style=style,
            )
            for side in (_SMALL, _LARGE)
        }

    def found(self) -> ServerCheck:
        """Ask: what is short one thing after the other, and meanwhile for the two long answers."""
        tags = self._style.think_tags
        ways = [self._continuation.way(tags, closed=closed) for closed in (False, True)]
        begun: list[tuple[str, Way]] = [("", "last_message")]
        if ways[0] != "user_text":
            begun.append((f"{tags[0]}I look at the picture first, and then", ways[0]))
        with ThreadPoolExecutor() as pool:
            written = [pool.submit(self._written, prefill, way) for prefill, way in begun]
            again = self._ask(_SMALL, 1)
            after, same, other = self._after_temperature(), *self._seeds()
            with_image, without_image = self._prompt_tokens(again)
        replies = [(answer.result(), prefill) for answer, (prefill, _) in zip(written, begun, strict=True)]
        own = replies[0][0]
        way = next((way for way in ways if way != "user_text"), None)
        known = [reply.cached_tokens for reply in (own, again) if reply.cached_tokens is not None]
        exact = self._letters.tokens is not None
        top = max((len(step.logprobs) for step in own.steps), default=0)
        letters: Literal["exact", "top_k", "none"] = "exact" if exact else "top_k" if top else "none"
        return ServerCheck(
            model=self._chat.model,
            answered_as=None if own.model is None else self._chat.secrets.hidden(own.model),
            open_thought=ways[0],
            complete_thought=ways[1],
            repeats_prefill=None if way is None else self._continuation.echoes(tags, way),
            sets_thought_apart=any(reply.reasoning for reply, _ in replies),
            dropped_tags=self._dropped([reply for reply, _ in replies]),
            rebuilt=bool(own.steps)
            and all(reply.from_tokens(prefill, self._tags()) is not None for reply, prefill in replies),
            letters=letters,
            top_k=None if exact or not top else self._chat.top_logprobs,
            after_temperature=after,
            context=self._context(),
            counts_tokens=own.prompt_tokens is not None,
            counts_cached_tokens=bool(known),
            same_seed_same_text=same,
            other_seed_other_text=other,
            prompt_tokens=with_image,
            expected_tokens=self._expected_tokens(),
            tokens_without_image=without_image,
        )

    def _tags(self) -> tuple[str, ...]:
        return (*self._style.think_tags, *(self._style.answer_tags or ()))

    def _ask(self, side: int | None, limit: int, said: Mapping[str, Any] | None = None) -> Reply:
        prompt = self._prompts[_SMALL if side is None else side]
        images = [data_url(image) for image in prompt.images]
        messages = messages_of(prompt, images, "", "last_message")
        if side is None:
            texts = [part for part in messages[-1]["content"] if part["type"] == "text"]
            messages = [*messages[:-1], {**messages[-1], "content": texts}]
        return self._chat.ask_greedily(messages, "last_message", limit, said)

    def _written(self, prefill: str, way: Way) -> Reply:
        prompt = self._prompts[_SMALL].replace(prefill=prefill)
        images = [data_url(image) for image in prompt.images]
        limit = min(_WRITTEN, self._chat.settings().get(self._chat.limit, _WRITTEN))
        said = self._letters.said(prompt)
        return self._chat.ask_greedily(messages_of(prompt, images, prefill, way), way, limit, said)

    def _dropped(self, replies: Sequence[Reply]) -> tuple[str, ...]:
        def dropped(reply: Reply, tag: str) -> bool:
            written = b"".join(reply.steps.tokens).decode(errors="replace")
            return written.count(tag) > (reply.content + (reply.reasoning or "")).count(tag)

        return tuple(tag for tag in self._tags() if any(dropped(reply, tag) for reply in replies))

    def _after_temperature(self) -> bool | None:
        """Return whether the same place has other log-probabilities at another temperature."""
        if self._chat.top_logprobs is None or "temperature" not in self._chat.settings():
            return None
        found = []
        for temperature in _TEMPERATURES:
            steps = self._ask(_SMALL, 1, {"temperature": temperature, "seed": 0}).steps
            found.append(steps[0].logprobs if steps else {})
        common = [token for token in found[0] if token in found[1]]
        if len(common) < 2:
            return None
        # The likeliest of a sure model stays near 0 at any temperature, the others do not.
        return max(abs(found[0][token] - found[1][token]) for token in common) > _DIFFERENT

    def _seeds(self) -> tuple[bool | None, bool | None]:
        if "temperature" not in self._chat.settings():
            return None, None
        drawn = [self._ask(_SMALL, _DRAWN, {"temperature": 1.0, "seed": seed}) for seed in (1, 1, 2, 3)]
        texts = [reply.turn("", self._style.think_tags) for reply in drawn]
        return texts[0] == texts[1], len(set(texts[1:])) > 1

    def _prompt_tokens(self, small: Reply) -> tuple[tuple[int, int] | None, int | None]:
        """Return the tokens of the prompts with a small and a large image, and of that without one."""
        counts = [reply.prompt_tokens for reply in (small, self._ask(_LARGE, 1), self._ask(None, 1))]
        known = [count for count in counts if count is not None]
        return ((known[0], known[1]), known[2]) if len(known) == len(counts) else (None, None)

    def _expected_tokens(self) -> tuple[int, int] | None:
        """Return how many tokens the prompts have by the checkpoint's processor; None = it is not known."""
        processor = self._letters.processor()
        if processor is None:
            return None
        counts = []
        for prompt in self._prompts.values():
            images = [open_image(image) for image in prompt.images]
            encoded = processor(text=[prompt.render(processor)], images=images, return_tensors="pt")
            counts.append(encoded["input_ids"].shape[1])
        return counts[0], counts[1]

    def _context(self) -> int | None:
        models = (self._chat.get("/v1/models") or {}).get("data") or []
        entries = [entry for entry in models if isinstance(entry, dict)]
        own = [entry for entry in entries if same_model(self._chat.model, str(entry.get("id", "")))] or entries[:1]
        props = self._chat.get("/props") or {}
        for source, name in (
            *((entry, name) for entry in own for name in ("max_model_len", "context_length", "max_context_length")),
            (props.get("default_generation_settings") or {}, "n_ctx"),
            *((entry.get("meta") or {}, "n_ctx") for entry in own),
        ):
            if isinstance(value := source.get(name), int):
                return value
        return None


def _warnings(found: ServerCheck, chat: Chat) -> list[str]:
    """Return what of it changes the experiment."""
    said: list[str] = []
    for kind, way in (("open", found.open_thought), ("complete", found.complete_thought)):
        if way == "user_text":
            said.append(f"{kind} thoughts cannot be prefilled and go into the user's text: another experiment")
    if found.answered_as is not None and not same_model(found.model, found.answered_as):
        said.append(f"asked for the model {found.model!r}, it answers as {found.answered_as!r}")
    if found.dropped_tags and not found.rebuilt:
        said.append(f"{', '.join(found.dropped_tags)} are not shown and cannot be put back: ask for log-probabilities")
    if found.letters == "none":
        said.append("there are no log-probabilities: letters are not read")
    settings = chat.settings()
    if found.after_temperature and settings.get("temperature") != 1:
        said.append("log-probabilities come after the temperature and are not the model's own: set temperature to 1")
    if settings.get("temperature") != 0 and found.same_seed_same_text is False:
        said.append("the same seed gives another text: draws cannot be repeated")
    if found.image_is_seen is False:
        said.append("images are not seen: they add no token to the prompt")
    elif found.expected_tokens and found.prompt_tokens and found.expected_tokens != found.prompt_tokens:
        said.append(
            f"images are scaled otherwise than by the checkpoint's processor, or the chat template is another: with "
            f"{_SMALL} and {_LARGE} pixels a side prompts have {found.prompt_tokens[0]} and {found.prompt_tokens[1]} "
            f"tokens, expected {found.expected_tokens[0]} and {found.expected_tokens[1]}"
        )
    limit = settings.get(chat.limit)
    if found.context is not None and limit is not None and found.context <= limit:
        said.append(f"the context of {found.context} tokens is too short for {chat.limit} {limit}")
    return said


def _picture(side: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(buffer, "PNG")
    return buffer.getvalue()
