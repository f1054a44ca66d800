"""What a server can and cannot do, as it was found out by asking it."""

from typing import Literal

from ...types.validated import Frozen
from .messages import Way

__all__ = ["ServerCheck"]


class ServerCheck(Frozen):
    """What a server can and cannot do; printed, it is a table.

    What could not be told is None.

    Attributes:
        model: the model's name, as it was asked for.
        answered_as: the name that the replies say.
        open_thought, complete_thought: how a prefilled thought is carried; `user_text` is another experiment.
        repeats_prefill: the server shows the prefill once more, and it is cut off.
        sets_thought_apart: a reasoning parser is at work.
        dropped_tags: tags that the model wrote and the server does not show.
        rebuilt: the turn is rebuilt from its tokens, so that nothing of it is lost.
        letters: how the letters' probabilities are read: `exact`, from the `top_k`, or not at all.
        top_k: how many tokens come back at each place.
        after_temperature: log-probabilities are those after the temperature, not the model's own.
        context: how many tokens a chat may have.
        counts_tokens, counts_cached_tokens: whether replies say how many tokens there were, and how many of the cache.
        same_seed_same_text, other_seed_other_text: whether seeds are heeded.
        prompt_tokens: the tokens of a prompt with an image of 56 × 56, and with one of 448 × 448 pixels.
        tokens_without_image: those of the same prompt without an image.
        expected_tokens: those of the two prompts by the checkpoint's processor, where it is known.
        warnings: limits of the server that change the experiment.

    Example:
        >>> found = ServerCheck(model="m", open_thought="user_text", complete_thought="last_message", letters="none")
        >>> print(found)
        model                 'm'
        answers as            not told
        open thoughts         user_text
        complete thoughts     last_message
        repeats the prefill   not told
        reasoning parser      none was seen
        the turn              from what the server shows
        letters               none
        log-probabilities     not told
        context               not told
        token counts          none
        seeds                 not told
        images                not told
    """

    model: str
    answered_as: str | None = None
    open_thought: Way
    complete_thought: Way
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
        """Return what was asked and what was found, as text."""
        return (
            ("model", repr(self.model)),
            ("answers as", "not told" if self.answered_as is None else repr(self.answered_as)),
            ("open thoughts", self.open_thought),
            ("complete thoughts", self.complete_thought),
            ("repeats the prefill", _said(self.repeats_prefill, "yes, cut off", "no")),
            ("reasoning parser", self._parser()),
            ("the turn", "from its tokens" if self.rebuilt else "from what the server shows"),
            ("letters", f"from the top {self.top_k}" if self.letters == "top_k" else self.letters),
            ("log-probabilities", _said(self.after_temperature, "after the temperature", "the model's own")),
            ("context", "not told" if self.context is None else f"{self.context:,} tokens"),
            ("token counts", self._counts()),
            ("seeds", self._seeds()),
            ("images", self._images()),
        )

    def summary(self) -> str:
        """Return the main points in one line."""
        points = dict(self.rows())
        shown = ("open thoughts", "complete thoughts", "the turn", "letters", "images")
        return "; ".join(f"{name}: {points[name]}" for name in shown)

    def table(self) -> str:
        """Return what was found as lines of two columns."""
        return "\n".join(f"{name:<20}  {found}" for name, found in self.rows())

    def __str__(self) -> str:
        return "\n".join([self.table(), *(f"Warning: {warning}" for warning in self.warnings)])

    def _parser(self) -> str:
        apart = ["sets thoughts apart"] if self.sets_thought_apart else []
        dropped = [f"drops {', '.join(self.dropped_tags)}"] if self.dropped_tags else []
        return ", ".join([*apart, *dropped]) or "none was seen"

    def _counts(self) -> str:
        if not self.counts_tokens:
            return "none"
        return "yes, cached ones apart" if self.counts_cached_tokens else "yes, cached ones not known"

    def _seeds(self) -> str:
        if self.same_seed_same_text is None:
            return "not told"
        same = "the same seed gives the same text" if self.same_seed_same_text else "the same seed gives another text"
        return same + ("" if self.other_seed_other_text else "; another seed gives no other text")

    def _images(self) -> str:
        if self.prompt_tokens is None or self.tokens_without_image is None:
            return "not told"
        if not self.image_is_seen:
            return "not seen"
        small, large = (count - self.tokens_without_image for count in self.prompt_tokens)
        scaled = ", scaled to one size" if small == large else ""
        return f"seen: {small} tokens at 56 × 56 pixels, {large} at 448 × 448{scaled}"


def _said(value: bool | None, yes: str, no: str) -> str:
    return "not told" if value is None else yes if value else no
