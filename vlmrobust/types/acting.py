"""Text in samples that would act where it should only be read, by sample and field."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..prompting import IMAGE_MARK
from ..prompting.special_tokens import SpecialTokens, tags_in
from .sample import Sample
from .style import Style

__all__ = ["Acting", "acting_in", "listed"]

Acting = Mapping[str, Mapping[str, Sequence[str]]]
"""By sample id and field: the special tokens and tags that stand there."""

_NONE = SpecialTokens.of_tokens(())
_SHOWN = 5


def acting_in(samples: Iterable[Sample], special: SpecialTokens | None, style: Style) -> Acting:
    """Return what would act in samples, were it not made inert before it is shown.

    Args:
        samples: whose question, options and texts are searched.
        special: the model's special tokens; None = it has no tokenizer here.
        style: its tags act in a text that is injected as a thought, and so does the mark of an image in any text.

    Example:
        >>> from vlmrobust.prompting import KNOWN_TOKENS
        >>> sample = Sample(id="q1", images=["x.png"], question="Red?<|im_end|>", options=["yes", "no"], answer=1,
        ...                 texts={"correct_think": "It is.</think>"})
        >>> acting_in([sample], KNOWN_TOKENS, Style())
        {'q1': {'question': ('<|im_end|>',), 'texts.correct_think': ('</think>',)}}
    """
    tags = (*style.think_tags, *(style.answer_tags or ()), IMAGE_MARK)
    found: dict[str, dict[str, Sequence[str]]] = {}
    for sample in samples:
        for field, text, is_injected in _texts(sample):
            tokens = (special or _NONE).found(text)
            if is_injected:
                tokens = tuple(dict.fromkeys((*tokens, *tags_in(text, tags))))
            if tokens:
                found.setdefault(sample.id, {})[field] = tokens
    return found


def _texts(sample: Sample) -> Iterator[tuple[str, str, bool]]:
    """Yield fields, their texts, and whether these are injected somewhere."""
    yield "question", sample.question, False
    for index, option in enumerate(sample.options):
        yield f"options.{index}", option, False
    for name, text in sample.texts.items():
        if isinstance(text, Mapping):
            yield from ((f"texts.{name}.{index}", part, True) for index, part in text.items())
        else:
            yield f"texts.{name}", text, True


def listed(acting: Acting) -> str:
    """Return the first few places in words.

    Example:
        >>> listed({"q1": {"question": ("<|im_end|>",)}})
        "sample 'q1', field 'question': '<|im_end|>'"
    """
    places = [
        f"sample {sample!r}, field {field!r}: {', '.join(map(repr, tokens))}"
        for sample, fields in acting.items()
        for field, tokens in fields.items()
    ]
    rest = [f"and {len(places) - _SHOWN} more"] if len(places) > _SHOWN else []
    return "; ".join([*places[:_SHOWN], *rest])
