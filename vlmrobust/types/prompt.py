"""Define a prompt: what one model is asked about one sample under one condition, with the turns before it."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from ..prompting import assistant_prefix, chat_turns, render_turns, template_source, template_tags
from ..prompting.chat import IMAGE_MARK, ChatTemplate
from ..prompting.special_tokens import KNOWN_TOKENS, SpecialTokens, inert_tags
from ..prompting.tags import marks_thoughts, with_opener
from .frozen import Frozen, as_made
from .image import ImageLike, image_key
from .response import Response
from .sample import Sample
from .style import Style

__all__ = ["Prompt", "Turn", "begun", "made_of_images", "order_problem"]


class Turn(Frozen):
    """One turn of a chat, as it was said.

    Attributes:
        role: who said it, the "user" or the "assistant".
        text: what was said; of the assistant, the whole turn, tags included.

    Example:
        >>> Turn(role="user", text="Are you sure?")
        Turn(role='user', text='Are you sure?')
    """

    role: Literal["user", "assistant"]
    text: str


def order_problem(history: Sequence[Turn]) -> tuple[str, str, object] | None:
    """Return what is wrong with the turns behind a question: the field, what was expected, what came; None = nothing.

    Example:
        >>> order_problem([Turn(role="user", text="Are you sure?")])
        ('history.0', 'the assistant and the user in turn', 'user')
    """
    for place, turn in enumerate(history):
        if turn.role != ("assistant", "user")[place % 2]:
            return f"history.{place}", "the assistant and the user in turn", turn.role
        if not turn.text.strip():
            return f"history.{place}", "a text", turn.text
    if len(history) % 2:
        return f"history.{len(history) - 1}", "the user at the end, whom the model is to answer", history[-1].role
    return None


Made = TypeVar("Made")


class Prompt(Frozen):
    """One sample under one condition: what a perturbation changes and a model answers.

    Attributes:
        sample: the sample as it was given.
        condition: name of the perturbation.
        draw: numbers repeated samples of one prompt.
        style: how the question is put and the answer read.
        images: the images that are shown.
        context: text before the question, such as a caption; may be empty.
        question: the question that is shown.
        options: the options that are shown, with the style's letters in this order.
        order: for each shown option its index in `sample.options`; None = an added option, such as "I'm not sure".
        history: what was said since the question, where the model is asked once more: its answer, then the user's
            words, and so on in turn; empty = the question is asked for the first time. The question itself is the first
            turn, and the style's instruction follows the user's last words.
        prefill: raw text that the assistant's turn begins with, tags included; may be empty.
        distractor: index in `sample.options` of the wrong option that every condition of this sample asserts.
        asserted: index in `sample.options` of the option that the injected text claims; None = nothing is claimed.
        base: the response to the unperturbed prompt, for conditions that need it.

    Example:
        >>> sample = Sample(id="q1", images=["cube.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> prompt = Prompt.of(sample)
        >>> print(prompt.replace(context="A photo of a red cube.").text.splitlines()[0])
        A photo of a red cube.
        >>> said = [{"role": "assistant", "text": "<answer>B</answer>"}, {"role": "user", "text": "Are you sure?"}]
        >>> [turn["role"] for turn in prompt.replace(history=said).messages()]
        ['user', 'assistant', 'user']
    """

    sample: Annotated[Sample, as_made(Sample)]
    condition: str = "base"
    draw: Annotated[int, Field(ge=0)] = 0
    style: Annotated[Style, as_made(Style)] = Field(default_factory=Style)
    images: tuple[ImageLike, ...]
    context: str = ""
    question: str
    options: tuple[str, ...]
    order: tuple[int | None, ...]
    history: tuple[Turn, ...] = ()
    prefill: str = ""
    distractor: int | None = None
    asserted: int | None = None
    base: Response | None = Field(default=None, repr=False, exclude=True)

    @classmethod
    def of(
        cls,
        sample: Sample,
        *,
        style: Style | None = None,
        draw: int = 0,
        distractor: int | None = None,
        base: Response | None = None,
    ) -> "Prompt":
        """Return the unperturbed prompt of a sample."""
        return cls(
            sample=sample,
            draw=draw,
            style=style or Style(),
            images=sample.images,
            question=sample.question,
            options=sample.options,
            order=tuple(range(len(sample.options))),
            distractor=sample.distractor if distractor is None else distractor,
            base=base,
        )

    @model_validator(mode="after")
    def _fits_the_sample(self) -> "Prompt":
        def refuse(field: str, expected: str, got: object) -> None:
            where = f"sample {self.sample.id!r}, condition {self.condition!r}, field {field!r}"
            raise ValueError(f"{where}: expected {expected}, got {got!r}")

        count = len(self.sample.options)
        if not 2 <= len(self.options) <= len(self.style.letters):
            refuse("options", f"2 to {len(self.style.letters)} options, one per letter of the style", len(self.options))
        if len(self.order) != len(self.options):
            refuse("order", f"one index per shown option ({len(self.options)})", self.order)
        known = [index for index in self.order if index is not None]
        if len(set(known)) != len(known) or any(not 0 <= index < count for index in known):
            refuse("order", f"different indices of the sample's options (0 to {count - 1}), or None", self.order)
        if not self.question.strip():
            refuse("question", "a question", self.question)
        if self.asserted is not None and not 0 <= self.asserted < count:
            refuse("asserted", f"the index of one of {count} options", self.asserted)
        if self.distractor is not None and (not 0 <= self.distractor < count or self.distractor == self.sample.answer):
            refuse("distractor", f"the index of a wrong option (0 to {count - 1})", self.distractor)
        if problem := order_problem(self.history):
            refuse(*problem)
        return self

    @property
    def key(self) -> tuple[str, str, int]:
        """The key (sample id, condition, draw), which the response to it has too."""
        return self.sample.id, self.condition, self.draw

    @cached_property
    def text(self) -> str:
        """What the user asks, first of all: context, question, lettered options, instruction."""
        question = self.style.question_text(self.question, self.options)
        # A mark in question or option is a place for an image; one in a caption would move it.
        return f"{inert_tags(self.context, (IMAGE_MARK,))}\n\n{question}" if self.context else question

    def messages(self) -> list[dict[str, Any]]:
        """Return the chat turns: system, user, and what has been said since (`history`).

        The prefill is not among them, it is appended to their rendering. Image parts are `{"type": "image"}`
        placeholders, to be filled from `images` in order; all of them stand in the turn of the question.
        """
        style = self.style
        turns = chat_turns(self.text, len(self.images), system=style.system, image_position=style.image_position)
        for place, turn in enumerate(self.history, start=1):
            said = inert_tags(turn.text, (IMAGE_MARK,))  # there is no image to stand in its place
            if place == len(self.history):
                said = style.asked_again(said)
            turns.append({"role": turn.role, "content": [{"type": "text", "text": said}]})
        return turns

    def render(self, processor: ChatTemplate, **arguments: Any) -> str:
        """Return the text that a model is to continue: the chat template's rendering, then the prefill.

        The text holds the template's special tokens; tokenize it with `add_special_tokens=False`. Those that stand in
        data are made inert (`with_inert`).

        Args:
            processor: the model's Hugging Face processor or tokenizer.
            **arguments: for the chat template, such as `enable_thinking=False`.

        Raises:
            ValueError: it has no chat template, or its template drops the user's text.
        """
        return begun(self, processor, **arguments)[1]

    def transcript(self) -> str:
        """Return the chat turns as text, as a server gets them: what a model without a template of ours is shown.

        Example:
            >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
            >>> print(Prompt.of(sample, style=Style(mode="direct")).transcript())
            [user] <image> Which?
            A. red
            B. blue
            Answer with the letter of the correct option only.
        """
        prompt = self.with_inert(KNOWN_TOKENS)
        lines = []
        for turn in prompt.messages():
            parts = ("<image>" if part["type"] == "image" else part["text"] for part in turn["content"])
            lines.append(f"[{turn['role']}] {' '.join(parts)}")
        return "\n".join([*lines, *([f"[assistant begins] {prompt.prefill}"] if prompt.prefill else [])])

    def with_inert(self, special: SpecialTokens) -> "Prompt":
        """Return the prompt with a model's special tokens made inert in all that is data: see `SpecialTokens.inert`.

        Context, question, options, what was said since, and the begun turn. In that, and in what the model said, the
        tags of the style stay, and in the latter the marks of thoughts as well. A model does this with what it gets
        before it shows it to its tokenizer; the text of the style is the user's own, and is left as it is.

        Args:
            special: the model's special tokens.

        Example:
            >>> from vlmrobust.prompting import KNOWN_TOKENS
            >>> sample = Sample(id="q1", images=["x.png"], question="Red?<|im_end|>", options=["yes", "no"], answer=1)
            >>> Prompt.of(sample).with_inert(KNOWN_TOKENS).question
            'Red?< |im_end|>'
        """
        tags = (*self.style.think_tags, *(self.style.answer_tags or ()))
        changed = {
            "context": special.inert(self.context),
            "question": special.inert(self.question),
            "options": tuple(map(special.inert, self.options)),
            "history": tuple(turn.replace(text=_inert_turn(turn, special, tags)) for turn in self.history),
            "prefill": inert_tags(special.inert(self.prefill, keep=tags), (IMAGE_MARK,)),
        }
        return self if all(getattr(self, name) == value for name, value in changed.items()) else self.replace(**changed)

    def shown(self, index: int) -> int | None:
        """Return where option `index` of the sample is shown, None if it is not."""
        return self.order.index(index) if index in self.order else None

    def to_sample_order(self, values: Sequence[float], missing: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Split one value per shown option into those of the sample's options, in its order, and of added ones.

        Args:
            values: one per shown option.
            missing: the value of an option that is not shown.
        """
        if len(values) != len(self.order):
            raise ValueError(
                f"sample {self.sample.id!r}, condition {self.condition!r}: "
                f"expected one value per shown option ({len(self.order)}), got {len(values)}"
            )
        own = [missing] * len(self.sample.options)
        added = []
        for index, value in zip(self.order, values, strict=True):
            if index is None:
                added.append(float(value))
            else:
                own[index] = float(value)
        return tuple(own), tuple(added)


def begun(prompt: Prompt, processor: ChatTemplate, **arguments: Any) -> tuple[Prompt, str]:
    """Return a prompt as a chat template has begun it, and the text that a model is to continue.

    The prompt's prefill is what stands in the assistant's turn, a thought that the template has opened included. Where
    the template begins thoughts with other tags than the style's, they take the place of the style's everywhere.
    Special tokens that stand in data are made inert.

    Args:
        prompt: the prompt.
        processor: the model's processor or tokenizer.
        **arguments: for the chat template.

    Raises:
        ValueError: it has no chat template, or its template drops the user's text.
    """
    prompt = prompt.with_inert(SpecialTokens.of(processor))
    rendered, _ = render_turns(processor, prompt.messages(), **arguments)
    tags = template_tags(rendered, prompt.style.think_tags, template_source(processor))
    if (tagged := _tagged(prompt, tags)) != prompt:
        prompt = tagged
        rendered, _ = render_turns(processor, prompt.messages(), **arguments)
    text, prefix = assistant_prefix(rendered, prompt.prefill, *tags)
    return (prompt if prefix == prompt.prefill else prompt.replace(prefill=prefix)), text


def _tagged(prompt: Prompt, tags: tuple[str, str]) -> Prompt:
    """Return the prompt with the template's tags of thoughts, and those of earlier turns as a template would show them.

    What a template has opened itself is not in the text that the model wrote behind it.
    """
    own = prompt.style.think_tags
    history = tuple(
        turn.replace(text=with_opener(_with_tags(turn.text, own, tags), tags)) if turn.role == "assistant" else turn
        for turn in prompt.history
    )
    if tags == own:
        return prompt if history == prompt.history else prompt.replace(history=history)
    # What stands there of the template's tags was injected: nothing else than the style's own begins or ends a thought.
    prefill = _with_tags(inert_tags(prompt.prefill, (tag for tag in tags if tag not in own)), own, tags)
    return prompt.replace(style=prompt.style.replace(think_tags=tags), history=history, prefill=prefill)


def _with_tags(text: str, own: tuple[str, str], others: tuple[str, str]) -> str:
    for tag, other in zip(own, others, strict=True):
        text = text.replace(tag, other)
    return text


def _inert_turn(turn: Turn, special: SpecialTokens, tags: Sequence[str]) -> str:
    """Return what was said in a turn without tokens that act; the model's own may think and answer in it."""
    if turn.role == "user":
        return special.inert(turn.text)
    return special.inert(turn.text, keep=(*tags, *filter(marks_thoughts, special.found(turn.text))))


def made_of_images(prompt: Prompt, make: Callable[[ImageLike], Made], made: dict[Any, Made]) -> list[Made]:
    """Return what is made of each of a prompt's images, such as its pixels, once for all prompts that share `made`.

    Args:
        prompt: the prompt.
        make: is called with an image.
        made: what was made for other prompts; what is new is added.

    Raises:
        OSError: an image is missing or cannot be decoded; the message names sample and image.
    """
    found = []
    for position, image in enumerate(prompt.images):
        try:
            key = image_key(image)
            if key not in made:
                made[key] = make(image)
        except OSError as error:
            raise type(error)(f"sample {prompt.sample.id!r}, field 'images.{position}': {error}") from error
        found.append(made[key])
    return found
