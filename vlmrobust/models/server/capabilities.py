"""Probe a server's capabilities with about twenty short requests on two synthetic images."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ...types import Prompt, Sample, Style, open_image
from ...types.frozen import Frozen
from .chat import Chat, same_model
from .continuation import Continuation
from .messages import PrefillMode, data_url, messages_of
from .readout import LetterReadout
from .replies import Reply
from .tokens import field_of

__all__ = ["ServerCheck", "check_server"]


class ServerCheck(Frozen):
    """Capabilities of a server; printed as a table. Unknown values are None.

    Attributes:
        model: the requested model name.
        answered_as: the model name in the replies.
        open_thought, complete_thought: how a prefilled thought is sent; `user_text` is a different experiment.
        repeats_prefill: the server repeats the prefill in its reply; the repetition is cut off.
        sets_thought_apart: a reasoning parser separates the thought.
        dropped_tags: generated tags that the server does not show.
        rebuilt: the generated text is rebuilt from its tokens, so that nothing is lost.
        letters: how letter probabilities are read: `exact`, from the `top_k`, or not at all.
        top_k: alternatives returned per position.
        after_temperature: log-probabilities are taken after the temperature and are not the model's own.
        context: context length in tokens.
        counts_tokens, counts_cached_tokens: whether replies count tokens, and cached tokens.
        same_seed_same_text, other_seed_other_text: whether seeds have an effect.
        prompt_tokens: the tokens of a prompt with an image of 56 × 56, and with one of 448 × 448 pixels.
        tokens_without_image: the tokens of the same prompt without an image.
        expected_tokens: the tokens of the two prompts by the checkpoint's processor, if known.
        warnings: limitations that change the experiment.

    Example:
        >>> found = ServerCheck(model="m", open_thought="user_text", complete_thought="last_message", letters="none")
        >>> print(found)
        model                 'm'
        answers as            unknown
        open thoughts         user_text
        complete thoughts     last_message
        repeats the prefill   unknown
        reasoning parser      none found
        generated text        as the server shows it
        letters               none
        log-probabilities     unknown
        context               unknown
        token counts          none
        seeds                 unknown
        images                unknown
    """

    model: str
    answered_as: str | None = None
    open_thought: PrefillMode
    complete_thought: PrefillMode
    repeats_prefill: bool | None = None
    sets_thought_apart: bool = False
    dropped_tags: tuple[str, ...] = ()
    rebuilt: bool | None = None
    letters: Literal["exact", "top_k", "none"]
    top_k: int | None = None
    after_temperature: bool | None = None
    context: int | None = None
    counts_tokens: bool = False
    counts_cached_tokens: bool = False
    same_seed_same_text: bool | None = None
    other_seed_other_text: bool | None = None
    prompt_tokens: tuple[int, int] | None = None
    tokens_without_image: int | None = None
    expected_tokens: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def image_is_seen(self) -> bool | None:
        """Whether an image adds tokens to the prompt."""
        if self.prompt_tokens is None or self.tokens_without_image is None:
            return None
        return min(self.prompt_tokens) > self.tokens_without_image

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return properties and values as text."""
        return (
            ("model", repr(self.model)),
            ("answers as", "unknown" if self.answered_as is None else repr(self.answered_as)),
            ("open thoughts", self.open_thought),
            ("complete thoughts", self.complete_thought),
            ("repeats the prefill", _yes_no(self.repeats_prefill, "yes, cut off", "no")),
            ("reasoning parser", self._parser()),
            ("generated text", "from its tokens" if self.rebuilt else "as the server shows it"),
            ("letters", f"from the top {self.top_k}" if self.letters == "top_k" else self.letters),
            ("log-probabilities", _yes_no(self.after_temperature, "after the temperature", "the model's own")),
            ("context", "unknown" if self.context is None else f"{self.context:,} tokens"),
            ("token counts", self._counts()),
            ("seeds", self._seeds()),
            ("images", self._images()),
        )

    def summary(self) -> str:
        """Return the main points in one line."""
        points = dict(self.rows())
        shown = ("open thoughts", "complete thoughts", "generated text", "letters", "images")
        return "; ".join(f"{name}: {points[name]}" for name in shown)

    def table(self) -> str:
        """Return properties and values in two columns."""
        return "\n".join(f"{name:<20}  {found}" for name, found in self.rows())

    def __str__(self) -> str:
        return "\n".join([self.table(), *(f"Warning: {warning}" for warning in self.warnings)])

    def _parser(self) -> str:
        apart = ["separates thoughts"] if self.sets_thought_apart else []
        dropped = [f"drops {', '.join(self.dropped_tags)}"] if self.dropped_tags else []
        return ", ".join([*apart, *dropped]) or "none found"

    def _counts(self) -> str:
        if not self.counts_tokens:
            return "none"
        return "yes, and cached ones" if self.counts_cached_tokens else "yes, cached ones unknown"

    def _seeds(self) -> str:
        if self.same_seed_same_text is None:
            return "unknown"
        same = "the same seed gives the same text" if self.same_seed_same_text else "the same seed gives another text"
        return same + ("" if self.other_seed_other_text else "; another seed gives no other text")

    def _images(self) -> str:
        if self.prompt_tokens is None or self.tokens_without_image is None:
            return "unknown"
        if not self.image_is_seen:
            return "not seen"
        small, large = (count - self.tokens_without_image for count in self.prompt_tokens)
        scaled = ", scaled to one size" if small == large else ""
        return f"seen: {small} tokens at 56 × 56 pixels, {large} at 448 × 448{scaled}"


def _yes_no(value: bool | None, yes: str, no: str) -> str:
    return "unknown" if value is None else yes if value else no


_SMALL, _LARGE = 56, 448  # pixels; multiples of the usual patches
_ANSWER_TOKENS = 128  # long enough for tags to appear
_SAMPLED_TOKENS = 16  # length of the texts compared between seeds
_DIFFERENCE = 0.05  # nats between temperatures; equal log-probabilities differ by rounding only
_TEMPERATURES = (0.5, 2.0)


def check_server(chat: Chat, continuation: Continuation, letters: LetterReadout, style: Style) -> ServerCheck:
    """Return the capabilities of a server; the tags to look for are those of the style.

    Raises:
        openai.OpenAIError: a request failed.
        RefusedError: its tokens differ from the given tokenizer's.
    """
    found = _Probe(chat, continuation, letters, style).run()
    return found.replace(warnings=tuple(_warnings(found, chat)))


class _Probe:
    def __init__(self, chat: Chat, continuation: Continuation, letters: LetterReadout, style: Style) -> None:
        self._chat, self._continuation, self._letters, self._style = chat, continuation, letters, style
        from PIL import Image

        self._prompts = {
            side: Prompt.of(
                Sample(
                    id="check",
                    images=[Image.new("RGB", (side, side), "red")],
                    question="Which colour is it?",
                    options=["red", "blue"],
                    answer=0,
                ),
                style=style,
            )
            for side in (_SMALL, _LARGE)
        }

    def run(self) -> ServerCheck:
        """Send the two long requests in the background and the short ones one after the other."""
        tags = self._style.think_tags
        modes = [self._continuation.mode(tags, closed=closed) for closed in (False, True)]
        turns: list[tuple[str, PrefillMode]] = [("", "last_message")]
        if modes[0] != "user_text":
            turns.append((f"{tags[0]}I look at the picture first, and then", modes[0]))
        with ThreadPoolExecutor() as pool:
            answers = [pool.submit(self._answer, prefill, mode) for prefill, mode in turns]
            again = self._ask(_SMALL, 1)
            after, same, other = self._after_temperature(), *self._seeds()
            with_image, without_image = self._prompt_tokens(again)
        replies = [(answer.result(), prefill) for answer, (prefill, _) in zip(answers, turns, strict=True)]
        own = replies[0][0]
        mode = next((mode for mode in modes if mode != "user_text"), None)
        known = [reply.cached_tokens for reply in (own, again) if reply.cached_tokens is not None]
        exact = self._letters.tokens is not None
        top = max((len(step.logprobs) for step in own.steps), default=0)
        letters: Literal["exact", "top_k", "none"] = "exact" if exact else "top_k" if top else "none"
        return ServerCheck(
            model=self._chat.model,
            answered_as=None if own.model is None else self._chat.secrets.hidden(own.model),
            open_thought=modes[0],
            complete_thought=modes[1],
            repeats_prefill=None if mode is None else self._continuation.echoes(tags, mode),
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

    def _ask(self, side: int | None, limit: int, fields: Mapping[str, Any] | None = None) -> Reply:
        prompt = self._prompts[_SMALL if side is None else side]
        images = [data_url(image) for image in prompt.images]
        messages = messages_of(prompt, images, "", "last_message")
        if side is None:
            texts = [part for part in messages[-1]["content"] if part["type"] == "text"]
            messages = [*messages[:-1], {**messages[-1], "content": texts}]
        return self._chat.ask_greedily(messages, "last_message", limit, fields)

    def _answer(self, prefill: str, mode: PrefillMode) -> Reply:
        prompt = self._prompts[_SMALL].replace(prefill=prefill)
        images = [data_url(image) for image in prompt.images]
        limit = min(_ANSWER_TOKENS, self._chat.settings().get(self._chat.limit, _ANSWER_TOKENS))
        fields = self._letters.request_fields(prompt)
        return self._chat.ask_greedily(messages_of(prompt, images, prefill, mode), mode, limit, fields)

    def _dropped(self, replies: Sequence[Reply]) -> tuple[str, ...]:
        def dropped(reply: Reply, tag: str) -> bool:
            written = b"".join(reply.steps.tokens).decode(errors="replace")
            return written.count(tag) > (reply.content + (reply.reasoning or "")).count(tag)

        return tuple(tag for tag in self._tags() if any(dropped(reply, tag) for reply in replies))

    def _after_temperature(self) -> bool | None:
        """Return whether the log-probabilities of one position depend on the temperature."""
        if self._chat.top_logprobs is None or "temperature" not in self._chat.settings():
            return None
        found = []
        for temperature in _TEMPERATURES:
            steps = self._ask(_SMALL, 1, {"temperature": temperature, "seed": 0}).steps
            found.append(steps[0].logprobs if steps else {})
        common = [token for token in found[0] if token in found[1]]
        if len(common) < 2:
            return None
        # A confident model's likeliest token stays near 0 at any temperature, but the others do not.
        return max(abs(found[0][token] - found[1][token]) for token in common) > _DIFFERENCE

    def _seeds(self) -> tuple[bool | None, bool | None]:
        if "temperature" not in self._chat.settings():
            return None, None
        samples = [self._ask(_SMALL, _SAMPLED_TOKENS, {"temperature": 1.0, "seed": seed}) for seed in (1, 1, 2, 3)]
        texts = [reply.turn("", self._style.think_tags) for reply in samples]
        return texts[0] == texts[1], len(set(texts[1:])) > 1

    def _prompt_tokens(self, small: Reply) -> tuple[tuple[int, int] | None, int | None]:
        """Return the prompt's tokens with a small and a large image, and without an image."""
        counts = [reply.prompt_tokens for reply in (small, self._ask(_LARGE, 1), self._ask(None, 1))]
        known = [count for count in counts if count is not None]
        return ((known[0], known[1]), known[2]) if len(known) == len(counts) else (None, None)

    def _expected_tokens(self) -> tuple[int, int] | None:
        """Return the prompts' tokens by the checkpoint's processor; None = unknown."""
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
        models = self._chat.fetch("/v1/models")
        models = models if isinstance(models, list) else field_of(models, "data")  # of Together's, there is only a list
        entries = [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []
        own = [entry for entry in entries if same_model(self._chat.model, str(entry.get("id", "")))] or entries[:1]
        settings = field_of(self._chat.fetch("/props"), "default_generation_settings")
        for source, name in (
            *((entry, name) for entry in own for name in ("max_model_len", "context_length", "max_context_length")),
            (settings, "n_ctx"),
            *((entry.get("meta"), "n_ctx") for entry in own),
        ):
            if isinstance(value := field_of(source, name), int):
                return value
        return None


def _warnings(found: ServerCheck, chat: Chat) -> list[str]:
    """Return the limitations that change the experiment."""
    warnings: list[str] = []
    for kind, mode in (("open", found.open_thought), ("complete", found.complete_thought)):
        if mode == "user_text":
            warnings.append(
                f"{kind} thoughts cannot be prefilled and go into the user's message: a different experiment"
            )
    if found.answered_as is not None and not same_model(found.model, found.answered_as):
        warnings.append(f"requested the model {found.model!r}, the server answers as {found.answered_as!r}")
    if found.dropped_tags and not found.rebuilt:
        warnings.append(f"{', '.join(found.dropped_tags)} are hidden and cannot be restored: request log-probabilities")
    if found.letters == "none":
        warnings.append("no log-probabilities: letters cannot be read")
    settings = chat.settings()
    if found.after_temperature and settings.get("temperature") != 1:
        warnings.append(
            "log-probabilities are taken after the temperature and are not the model's own: set temperature to 1"
        )
    if settings.get("temperature") != 0 and found.same_seed_same_text is False:
        warnings.append("the same seed gives another text: draws cannot be reproduced")
    if found.image_is_seen is False:
        warnings.append("images are not seen: they add no tokens to the prompt")
    elif found.expected_tokens and found.prompt_tokens and found.expected_tokens != found.prompt_tokens:
        warnings.append(
            "images are scaled differently from the checkpoint's processor, or the chat template differs: with "
            f"{_SMALL} and {_LARGE} pixels a side, prompts have {found.prompt_tokens[0]} and {found.prompt_tokens[1]} "
            f"tokens, expected {found.expected_tokens[0]} and {found.expected_tokens[1]}"
        )
    limit = settings.get(chat.limit)
    if found.context is not None and limit is not None and found.context <= limit:
        warnings.append(f"the context of {found.context} tokens is too short for {chat.limit} {limit}")
    return warnings
