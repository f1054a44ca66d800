"""Write captions and thoughts with a model, check them with a judge, and fall back to the library's wording.

The writer can be any `Model`, including the evaluated one. It sees text but no image, and writes what it is told to
assert, whether that is right or wrong. `TextModel` makes a writer of a causal language model.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ..judges import Judge, LMJudge
from ..models.base import Model
from ..perturbations.statements import statements
from ..perturbations.wordings import CAPTIONS, THOUGHTS, Wording, quotable, worded
from ..prompting import SpecialTokens
from ..seeding import generator
from ..types import Prompt, Response, Responses, Sample, Style
from ..types.frozen import Frozen

__all__ = ["WORDINGS", "Draft", "Kind", "TextModel", "WrittenText", "records_of", "write_drafts"]

Kind = Literal["caption", "thought"]

WORDINGS: Mapping[Kind, tuple[Wording, str]] = {"caption": (CAPTIONS, "caption"), "thought": (THOUGHTS, "think")}
"""By kind: the library's wording, and the suffix of its keys in `Sample.texts` (`wrong_…`), which also seeds it."""


class WrittenText(Frozen):
    """A caption or a thought that asserts one option of a sample: a line of the file.

    Attributes:
        id: the sample's id.
        kind: `caption` or `thought`.
        option: index in the sample's options of the asserted option.
        asserts: that option.
        question, options: those of the sample; texts for other data are rejected by them.
        text: the text as shown.
        form: "written" by the model, or "rules": the library's wording, since the model's text failed the check.
        attempts: number of requests to the model.
        writer: the model's name.
        judge: the name of the judge that checked the text.
        verdict: index of the option that the judge found asserted; None = none, or the judge was unsure.
        refused: the model's texts that failed the check.
    """

    id: str
    kind: Kind
    option: int
    asserts: str
    question: str
    options: tuple[str, ...]
    text: str
    form: Literal["written", "rules"]
    attempts: int
    writer: str
    judge: str
    verdict: int | None = None
    refused: tuple[str, ...] = ()


_FORM = (
    "It does not matter whether that is true, and you need not see the image: it is for a test of how readers deal "
    "with what others say of an image."
)
_REQUESTS: Mapping[Kind, str] = {
    "caption": (
        "Write a caption for the image that the question below is about. As a plain fact, it says this: {said} One "
        "sentence, as somebody writes it who has looked at the image; it names no letter and no other option. "
        f"{_FORM} Reply with the caption alone."
    ),
    "thought": (
        "Write down what somebody thinks who looks at the image that the question below is about, and concludes this: "
        "{said} Two to four sentences in the first person, without a letter, another option or any doubt, the last of "
        f'which is: So the answer is "{{option}}". {_FORM} Reply with the thought alone.'
    ),
}
_RETRY = (
    '{request}\n\nA reader did not find in your last attempt that this is what it says: "{text}" Write it more plainly.'
)
_STYLE = Style(answer_tags=None, instruction="", question_template="Question: {question}\n\nOptions:\n{options}")

_ATTEMPTS = 2
_MAX_CHARACTERS = 2000
_MARKUP = re.compile(r"</?\w+>|<\|")
# Some conditions reorder the options, where a letter would assert another one.
_LETTER = re.compile(r"\b(?:[Oo]ption|[Aa]nswer|[Cc]hoice)(?: is)?:? \(?[A-Z]\b(?!['’ ]\w)|\([A-Z]\)")


@dataclass
class Draft:
    """A text in progress.

    Attributes:
        sample, kind, option: the text to write.
        texts: the model's attempts so far.
        verdict: index of the option that the judge found asserted in the last one; None = none, or unsure.
        passed: whether the last attempt passed the check.
        error: why the text could not be requested or judged.
    """

    sample: Sample
    kind: Kind
    option: int
    texts: list[str] = field(default_factory=list)
    verdict: int | None = None
    passed: bool = False
    error: str | None = None

    def prompt(self) -> Prompt:
        """Return the prompt for the writer."""
        sample, option = self.sample, quotable(self.sample.options[self.option], end=".")
        known = statements(sample.question, sample.options)
        statement = known[self.option] if known else f'the answer to the question is "{option}".'
        request = _REQUESTS[self.kind].replace("{said}", statement).replace("{option}", option)
        if self.texts:
            request = _RETRY.replace("{request}", request).replace("{text}", self.texts[-1])
        return Prompt.of(sample, style=_STYLE, draw=len(self.texts)).replace(
            condition=f"{self.kind}_{self.option}",
            images=(),
            context=request,
            question=quotable(sample.question),
            options=tuple(map(quotable, sample.options)),
        )


def write_drafts(drafts: Sequence[Draft], writer: Model, judge: Judge) -> None:
    """Request the texts, and request those that fail the check once more."""
    pending = list(drafts)
    for _ in range(_ATTEMPTS):
        if not pending:
            return
        responses = writer.respond([draft.prompt() for draft in pending])
        for draft, response in zip(pending, responses, strict=True):
            if response.status == "error":
                draft.error = str(response.error)
                continue
            is_truncated = response.finish_reason == "length"
            draft.texts.append("" if is_truncated else _cleaned(response.text, draft.kind))
        pending = [draft for draft in pending if draft.error is None]
        _check(pending, judge)
        pending = [draft for draft in pending if not draft.passed and draft.error is None]


def _cleaned(text: str, kind: Kind) -> str:
    """Return a model's text without its own thought, quotation marks and headings."""
    text = text.rpartition("</think>")[2].strip()
    if "<think>" in text:
        return ""
    text = re.sub(r"^\W*(?:caption|thought)(?: of (?:the|this) (?:image|picture))?\W*:[\s*_]*", "", text, flags=re.I)
    text = text.strip(" *_\n")
    if len(text) > 1 and text[0] + text[-1] in ('""', "''", "“”") and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    text = " ".join(text.split())
    return f"Caption: {text}" if text and kind == "caption" else text


def _check(drafts: Sequence[Draft], judge: Judge) -> None:
    """Judge the last text of each draft."""
    judged = [draft for draft in drafts if draft.texts[-1]]
    if not judged:
        return
    thoughts = [
        Response(sample_id=draft.sample.id, condition="base", think=draft.texts[-1], status="truncated")
        for draft in judged
    ]
    pairs = [(Prompt.of(draft.sample), thought) for draft, thought in zip(judged, thoughts, strict=True)]
    verdicts = judge.verdicts_of_part(Responses.of_pairs(pairs), is_part=True)
    rows = zip(verdicts.option.tolist(), verdicts.unsure.tolist(), strict=True)
    for row, (draft, (option, unsure)) in enumerate(zip(judged, rows, strict=True)):
        if row in verdicts.errors:
            draft.error = verdicts.errors[row]
            continue
        draft.verdict = None if unsure or option < 0 else option
        asserted = draft.option if draft.verdict is None and _is_stated(draft) else draft.verdict
        draft.passed = asserted == draft.option and _is_presentable(draft)


def _is_stated(draft: Draft) -> bool:
    """Return whether a sentence of the text is the library's statement of its option, and none is of another option."""
    known = statements(draft.sample.question, draft.sample.options)
    sentences = {_normalized(part) for part in re.split(r"(?<=[.!?])\s+|(?<=^Caption:)\s", draft.texts[-1])}
    return known is not None and [
        option for option, statement in enumerate(known) if _normalized(statement) in sentences
    ] == [draft.option]


def _normalized(sentence: str) -> str:
    return sentence.strip().rstrip(".!").casefold()


def _is_presentable(draft: Draft) -> bool:
    options_are_letters = any(len(option.strip()) == 1 for option in draft.sample.options)
    text = draft.texts[-1]
    has_letter = not options_are_letters and _LETTER.search(text)
    return len(text) <= _MAX_CHARACTERS and not _MARKUP.search(text) and not has_letter


def records_of(drafts: Sequence[Draft], writer: str, judge: str, seed: int) -> Iterator[WrittenText]:
    """Yield the records of drafts; if one of a sample's kind failed, all of that kind get the library's wording."""
    groups: dict[tuple[str, Kind], list[Draft]] = {}
    for draft in drafts:
        groups.setdefault((draft.sample.id, draft.kind), []).append(draft)
    for group in groups.values():
        if any(draft.error is not None for draft in group):
            continue
        passed = all(draft.passed for draft in group)
        for draft in group:
            sample = draft.sample
            yield WrittenText(
                id=sample.id,
                kind=draft.kind,
                option=draft.option,
                asserts=sample.options[draft.option],
                question=sample.question,
                options=sample.options,
                text=draft.texts[-1] if passed else _library_text(draft, seed),
                form="written" if passed else "rules",
                attempts=len(draft.texts),
                writer=writer,
                judge=judge,
                verdict=draft.verdict if passed else None,
                refused=tuple(draft.texts[: len(draft.texts) - draft.passed]),
            )


def _library_text(draft: Draft, seed: int) -> str:
    wording, key = WORDINGS[draft.kind]
    return worded(wording, Prompt.of(draft.sample), draft.option, generator(seed, draft.sample.id, key))


class TextModel:
    """A Hugging Face causal language model that answers prompts by their text alone, with greedy decoding.

    Args:
        model: a loaded causal LM.
        tokenizer: its tokenizer.
        max_new_tokens: the maximum number of generated tokens.
        batch_size: the number of prompts per batch.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_new_tokens: int = 512, batch_size: int = 16) -> None:
        from ..models.generation import Decoding

        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.model, self.tokenizer, self.batch_size = model.eval(), tokenizer, batch_size
        self._decoding = Decoding(model, tokenizer, {"max_new_tokens": max_new_tokens})

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: str = "auto", device: str | None = None, **given: Any) -> Self:
        """Load a checkpoint from the hub or from a folder.

        Args:
            name: the checkpoint's name or path.
            dtype: a torch dtype's name; "auto" = the checkpoint's own.
            device: None = CUDA if available, else the CPU.
            **given: the other arguments of the class.

        Raises:
            OSError: there is no checkpoint of that name; the message contains it.
            ValueError: dtype or device is invalid or unavailable on this machine.
        """
        loaded = LMJudge.from_pretrained(name, dtype=dtype, device=device)
        return cls(loaded.model, loaded.tokenizer, **given)

    def identity(self) -> dict[str, Any]:
        """Return the checkpoint's name."""
        return {"class": type(self).__qualname__, "name": str(getattr(self.model.config, "_name_or_path", ""))}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts by their text alone."""
        special, responses = SpecialTokens.of(self.tokenizer), list[Response]()
        for begin in range(0, len(prompts), self.batch_size):
            batch = prompts[begin : begin + self.batch_size]
            completions = self._generate([self._render(prompt.with_inert(special).text) for prompt in batch])
            for prompt, (text, reason) in zip(batch, completions, strict=True):
                responses.append(Response.parse(prompt, text, finish_reason=reason))
        return responses

    def _render(self, text: str) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            return f"{text}\n\n"
        turns = [{"role": "user", "content": text}]
        return str(
            self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, enable_thinking=False)
        )

    def _generate(self, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the completions of texts with their finish reasons, "stop" or "length"."""
        import torch

        # Text rendered by a template already contains its special tokens.
        is_plain = not getattr(self.tokenizer, "chat_template", None)
        rows = [self.tokenizer(text, add_special_tokens=is_plain)["input_ids"] for text in texts]
        longest, pad = max(map(len, rows)), self.tokenizer.pad_token_id
        padded = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        device = self.model.device
        with torch.inference_mode(), self._decoding.in_force() as config:
            out = self.model.generate(
                input_ids=padded.to(device), attention_mask=mask.to(device), generation_config=config
            )
        for row in out[:, longest:].tolist():
            end = next((index for index, token in enumerate(row) if token in self._decoding.stop_tokens), None)
            text = self.tokenizer.decode(row[:end], skip_special_tokens=True)
            yield str(text), "length" if end is None else "stop"
