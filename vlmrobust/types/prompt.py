"""Define prompts: the input of a model for one sample under one condition, with earlier turns of the chat."""

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
from .sample import Sample, Style

__all__ = ["Prompt", "Turn", "begun", "made_of_images"]

Made = TypeVar("Made")


class Turn(Frozen):
    """One turn of a chat, verbatim.

    Attributes:
        role: the speaker, "user" or "assistant".
        text: its text; for the assistant, the whole turn, tags included.

    Example:
        >>> Turn(role="user", text="Are you sure?")
        Turn(role='user', text='Are you sure?')
    """

    role: Literal["user", "assistant"]
    text: str


class Prompt(Frozen):
    """One sample under one condition: what a perturbation changes and a model answers.

    Attributes:
        sample: the unperturbed sample.
        condition: name of the perturbation.
        draw: index of the draw, where one prompt is answered several times.
        style: how the question is presented and the answer parsed.
        images: the images shown.
        context: text before the question, such as a caption; may be empty.
        question: the question as shown.
        options: the options as shown, lettered in this order by the style's letters.
        order: for each shown option its index in `sample.options`; None = an added option, such as "I'm not sure".
        history: the turns after the question in a multi-turn prompt, alternating: the model's answer, then the user's
            reply, and so on; empty = a single-turn prompt. The question itself is the first turn, and the style's
            instruction follows the user's last turn.
        prefill: raw text that the assistant's turn begins with, tags included; may be empty.
        distractor: index in `sample.options` of the wrong option that every condition of this sample asserts.
        asserted: index in `sample.options` of the option that the injected text asserts; None = no option.
        base: the response to the unperturbed prompt, for conditions that need it.

    Example:
        >>> sample = Sample(id="q1", images=["cube.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> prompt = Prompt.of(sample)
        >>> print(prompt.replace(context="A photo of a red cube.").text.splitlines()[0])
        A photo of a red cube.
        >>> turns = [{"role": "assistant", "text": "<answer>B</answer>"}, {"role": "user", "text": "Are you sure?"}]
        >>> [turn["role"] for turn in prompt.replace(history=turns).messages()]
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
    def _check_against_sample(self) -> "Prompt":
        def reject(field: str, expected: str, got: object) -> None:
            where = f"sample {self.sample.id!r}, condition {self.condition!r}, field {field!r}"
            raise ValueError(f"{where}: expected {expected}, got {got!r}")

        count = len(self.sample.options)
        if not 2 <= len(self.options) <= len(self.style.letters):
            reject("options", f"2 to {len(self.style.letters)} options, one per letter of the style", len(self.options))
        if len(self.order) != len(self.options):
            reject("order", f"one index per shown option ({len(self.options)})", self.order)
        known = [index for index in self.order if index is not None]
        if len(set(known)) != len(known) or any(not 0 <= index < count for index in known):
            reject("order", f"different indices of the sample's options (0 to {count - 1}), or None", self.order)
        if not self.question.strip():
            reject("question", "a question", self.question)
        if self.asserted is not None and not 0 <= self.asserted < count:
            reject("asserted", f"the index of one of {count} options", self.asserted)
        if self.distractor is not None and (not 0 <= self.distractor < count or self.distractor == self.sample.answer):
            reject("distractor", f"the index of a wrong option (0 to {count - 1})", self.distractor)
        for position, turn in enumerate(self.history):
            if turn.role != ("assistant", "user")[position % 2]:
                reject(f"history.{position}", "assistant and user alternating", turn.role)
            if not turn.text.strip():
                reject(f"history.{position}", "a text", turn.text)
        if len(self.history) % 2:
            reject(f"history.{len(self.history) - 1}", "the user as the last speaker", self.history[-1].role)
        return self

    @property
    def key(self) -> tuple[str, str, int]:
        """The key (sample id, condition, draw), shared with the response."""
        return self.sample.id, self.condition, self.draw

    @cached_property
    def text(self) -> str:
        """The user's first turn: context, question, lettered options, instruction."""
        question = self.style.question_text(self.question, self.options)
        # An <image> mark in the question or an option places an image; one in a caption would displace it.
        return f"{inert_tags(self.context, (IMAGE_MARK,))}\n\n{question}" if self.context else question

    def messages(self) -> list[dict[str, Any]]:
        """Return the chat turns: system, user, and later turns (`history`).

        The prefill is not included; it is appended to the rendered text. Image parts are `{"type": "image"}`
        placeholders, to be filled from `images` in order; all are in the turn of the question.
        """
        style = self.style
        turns = chat_turns(self.text, len(self.images), system=style.system, image_position=style.image_position)
        for number, turn in enumerate(self.history, start=1):
            text = inert_tags(turn.text, (IMAGE_MARK,))  # later turns have no images
            if number == len(self.history):
                text = style.asked_again(text)
            turns.append({"role": turn.role, "content": [{"type": "text", "text": text}]})
        return turns

    def render(self, processor: ChatTemplate, **arguments: Any) -> str:
        """Return the text for a model to continue: the rendered chat template, then the prefill.

        The text contains the template's special tokens; tokenize it with `add_special_tokens=False`. Special tokens in
        the data are made inert (`with_inert`).

        Args:
            processor: the model's Hugging Face processor or tokenizer.
            **arguments: for the chat template, such as `enable_thinking=False`.

        Raises:
            ValueError: the processor has no chat template, or the template drops the user's text.
        """
        return begun(self, processor, **arguments)[1]

    def transcript(self) -> str:
        """Return the chat turns as text, as they are sent to servers, which apply their own template.

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
        """Return the prompt with a model's special tokens made inert in all data; see `SpecialTokens.inert`.

        Data are context, question, options, history and prefill. The style's tags stay active in the prefill and in
        the assistant's earlier turns; in the latter, thought markers stay active too. Models call this before they
        tokenize a prompt. The style's own text comes from the user and is left unchanged.

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
        """Return the position at which option `index` of the sample is shown; None = it is not shown."""
        return self.order.index(index) if index in self.order else None

    def to_sample_order(self, values: Sequence[float], missing: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Split one value per shown option into values of the sample's options, in sample order, and of added options.

        Args:
            values: one per shown option.
            missing: the value for options that are not shown.
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
    """Return a prompt adapted to a chat template, and the text for a model to continue; see `Prompt.render`.

    The adapted prompt's prefill is the whole beginning of the assistant's turn, including a thought tag that the
    template opens. If the template uses other thought tags than the style, they replace the style's everywhere.
    """
    prompt = prompt.with_inert(SpecialTokens.of(processor))
    rendered, _ = render_turns(processor, prompt.messages(), **arguments)
    tags = template_tags(rendered, prompt.style.think_tags, template_source(processor))
    if (adapted := _with_template_tags(prompt, tags)) != prompt:
        prompt = adapted
        rendered, _ = render_turns(processor, prompt.messages(), **arguments)
    text, prefix = assistant_prefix(rendered, prompt.prefill, *tags)
    return (prompt if prefix == prompt.prefill else prompt.replace(prefill=prefix)), text


def _with_template_tags(prompt: Prompt, tags: tuple[str, str]) -> Prompt:
    """Return the prompt with the template's thought tags in its prefill and in the assistant's earlier turns.

    A tag opened by the template is missing from the model's text and is put back.
    """
    own = prompt.style.think_tags
    history = tuple(
        turn.replace(text=with_opener(_replace_tags(turn.text, own, tags), tags)) if turn.role == "assistant" else turn
        for turn in prompt.history
    )
    if tags == own:
        return prompt if history == prompt.history else prompt.replace(history=history)
    # The template's tags in a prefill were injected: so far only the style's own tags open or close a thought.
    prefill = _replace_tags(inert_tags(prompt.prefill, (tag for tag in tags if tag not in own)), own, tags)
    return prompt.replace(style=prompt.style.replace(think_tags=tags), history=history, prefill=prefill)


def _replace_tags(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    for tag, other in zip(old, new, strict=True):
        text = text.replace(tag, other)
    return text


def _inert_turn(turn: Turn, special: SpecialTokens, tags: Sequence[str]) -> str:
    """Return a turn's text with special tokens inert; the assistant's keeps thought markers and the style's tags."""
    if turn.role == "user":
        return special.inert(turn.text)
    return special.inert(turn.text, keep=(*tags, *filter(marks_thoughts, special.found(turn.text))))


def made_of_images(prompt: Prompt, make: Callable[[ImageLike], Made], made: dict[Any, Made]) -> list[Made]:
    """Return `make(image)` for each image of a prompt, such as its pixels, cached in `made` by image key.

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
