"""Define a model without weights and with planted behaviour, for which the correct report is known in advance."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, PrivateAttr

from ..seeding import generator
from ..types import Prompt, Readout, Response, open_image
from ..types.frozen import Frozen
from ..types.prompt import made_of_images

__all__ = ["FakeModel"]

Share = Annotated[float, Field(ge=0, le=1)]

_LETTER_MASS = 0.98


class FakeModel(Frozen):
    """Answers with planted behaviours, independently of order and batch.

    Every choice is drawn with a key of seed, sample and behaviour, so two conditions of a sample differ only in the
    behaviour. It writes whole turns with the prompt's tags, continues prefills, and returns letter probabilities that
    match its answer; `stop_think` and `mode="direct"` are read out without decoding, as with a real model. If a style
    answers by text, the options' texts replace the letters, with one token per word and one for the end.

    Attributes:
        accuracy: share of samples answered correctly without misleading text.
        follow_caption: share of samples in which it answers the option that a caption asserts.
        follow_think: the same for a prefilled thought.
        contradict: share of thoughts that conclude a different option from the answer.
        abstain: share of samples in which it chooses an added option, if there is one.
        unparsed: share of turns without a clear answer.
        truncated: share of turns that end within the thought.
        guess: share of draws in which it guesses; draws of one prompt differ only in this.
        seed: another seed gives another model.
        opens_images: whether images are decoded, as by a real model; a missing image then gives an error row.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=[b"not decoded"], question="Which?", options=["red", "blue"], answer=1)
        >>> [response] = FakeModel(accuracy=1.0, opens_images=False).respond([Prompt.of(sample)])
        >>> response.text
        '<think>I compare the options with the picture. So the answer is "blue".</think><answer>B</answer>'
    """

    accuracy: Share = 0.9
    follow_caption: Share = 1.0
    follow_think: Share = 1.0
    contradict: Share = 0.0
    abstain: Share = 0.5
    unparsed: Share = 0.0
    truncated: Share = 0.0
    guess: Share = 0.0
    seed: int = 0
    opens_images: bool = True

    _asked: list[tuple[str, str, int]] = PrivateAttr(default_factory=list)
    _calls: list[int] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> tuple[tuple[str, str, int], ...]:
        """The keys (sample id, condition, draw) of all prompts so far."""
        return tuple(self._asked)

    @property
    def calls(self) -> tuple[int, ...]:
        """The number of prompts in each call of `respond`."""
        return tuple(self._calls)

    def identity(self) -> dict[str, Any]:
        """Return the class and all planted shares."""
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}"} | self.model_dump(mode="json")

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts; see `Model.respond`."""
        self._calls.append(len(prompts))
        self._asked += [(prompt.sample.id, prompt.condition, prompt.draw) for prompt in prompts]
        return [self._respond(prompt) for prompt in prompts]

    def _respond(self, prompt: Prompt) -> Response:
        if self.opens_images:
            try:
                made_of_images(prompt, open_image, {})
            except OSError as error:
                return Response.failed(prompt, error)
        shown = self._choice(prompt)
        letters = self._letters(prompt, shown)
        style = prompt.style
        by_text = style.answer_by == "text"
        tokens = [len(option.split()) + 1 for option in prompt.options] if by_text else None
        if style.mode == "direct" or style.think_tags[1] in prompt.prefill:
            opener = "" if style.mode == "direct" else style.answer_opener
            read: tuple[Readout, Readout] = (
                ("option_text_direct", "option_text_fixed_prefix") if by_text else ("direct", "fixed_prefix")
            )
            return Response.parse(
                prompt,
                opener + self._named(prompt, shown),
                finish_reason="readout",
                option_logprobs=letters,
                option_tokens=tokens,
                readout=read[style.mode == "think"],
                n_tokens=0,
            )
        completion, finish_reason = self._turn(prompt, shown)
        answered = completion.endswith(self._named(prompt, shown) + style.answer_closer)
        return Response.parse(
            prompt,
            completion,
            finish_reason=finish_reason,
            option_logprobs=letters if answered else None,
            option_tokens=tokens if answered else None,
            token_entropy=self._uniform(prompt, "token entropy", prompt.condition),
            n_tokens=len(completion.split()),
        )

    def _uniform(self, prompt: Prompt, *key: str | int) -> float:
        return float(generator(self.seed, prompt.sample.id, "fake model", *key).random())

    def _happens(self, share: float, prompt: Prompt, *key: str | int) -> bool:
        """Return whether a planted behaviour applies to this prompt; shares of 0 and 1 need no draw."""
        return share >= 1 or (share > 0 and self._uniform(prompt, *key) < share)

    def _pick(self, prompt: Prompt, candidates: Sequence[int], *key: str | int) -> int:
        return candidates[int(self._uniform(prompt, *key) * len(candidates))]

    def _choice(self, prompt: Prompt) -> int:
        """Return the index of the shown option to answer."""
        added = [index for index, option in enumerate(prompt.order) if option is None]
        own = [index for index, option in enumerate(prompt.order) if option is not None]
        if self._happens(self.guess, prompt, "guess", prompt.draw):
            return self._pick(prompt, own, "guessed", prompt.draw)
        asserted = None if prompt.asserted is None else prompt.shown(prompt.asserted)
        follow = self.follow_think if prompt.prefill else self.follow_caption
        if asserted is not None and self._happens(follow, prompt, "think" if prompt.prefill else "caption"):
            return asserted
        if added and self._happens(self.abstain, prompt, "abstain"):
            return added[0]
        right = prompt.shown(prompt.sample.answer)
        if right is not None and self._happens(self.accuracy, prompt, "knows"):
            return right
        wrong = [index for index in range(len(prompt.sample.options)) if index != prompt.sample.answer]
        place = prompt.shown(self._pick(prompt, wrong, "wrong"))
        return (
            self._pick(prompt, [index for index in own if index != right] or own, "other") if place is None else place
        )

    def _letters(self, prompt: Prompt, shown: int) -> list[float]:
        """Return a log-probability per shown letter, with the answer as the most likely one."""
        confidence = 0.5 + 0.45 * self._uniform(prompt, "confidence", prompt.condition, prompt.draw)
        weights = generator(self.seed, prompt.sample.id, "fake model", "letters").exponential(size=len(prompt.options))
        weights[shown] = 0.0
        rest = (_LETTER_MASS - confidence) / float(weights.sum())
        shares = [confidence if index == shown else rest * float(weight) for index, weight in enumerate(weights)]
        return [math.log(share) for share in shares]

    def _named(self, prompt: Prompt, shown: int) -> str:
        return prompt.style.letters[shown] if prompt.style.answer_by == "letter" else prompt.options[shown]

    def _turn(self, prompt: Prompt, shown: int) -> tuple[str, str]:
        """Return the completion (thought, then answer) and its finish reason."""
        (think_open, think_close), style = prompt.style.think_tags, prompt.style
        begun = think_open in prompt.prefill
        opener = " " if begun else think_open
        text = f"{opener}I compare the options with the picture."
        if self._happens(self.truncated, prompt, "truncated", prompt.condition, prompt.draw):
            return text, "length"
        concluded = shown
        if self._happens(self.contradict, prompt, "contradict", prompt.condition):
            others = [index for index, option in enumerate(prompt.order) if index != shown and option is not None]
            concluded = self._pick(prompt, others, "contradiction")
        text += f' So the answer is "{prompt.options[concluded]}".{think_close}'
        if self._happens(self.unparsed, prompt, "unparsed", prompt.condition, prompt.draw):
            return f"{text}I can't tell", "stop"
        return f"{text}{style.answer_opener}{self._named(prompt, shown)}{style.answer_closer}", "stop"
