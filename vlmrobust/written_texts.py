"""Captions and thoughts that a model writes once: checked by a judge, kept in a file, used by every run.

The writer is any `Model`, the evaluated one or another. It is asked in text alone, no image is shown: it writes what it
is told to assert, whether that is right or wrong.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

from .jsonl import read_lines, write_lines_atomically
from .judges import Judge, RuleJudge
from .models.base import Model, identity_of
from .perturbations.statements import statements
from .perturbations.texts import CAPTIONS, THOUGHTS, Wording, draw_distractor, quotable, worded
from .prompting import SpecialTokens
from .seeding import generator
from .types import Prompt, Response, Responses, Sample, Style, check_samples
from .types.frozen import Frozen

__all__ = ["TextModel", "WrittenText", "WrittenTexts"]

logger = logging.getLogger(__name__)

Kind = Literal["caption", "thought"]

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
_AGAIN = (
    '{request}\n\nA reader did not find in your last attempt that this is what it says: "{text}" Write it more plainly.'
)
_STYLE = Style(answer_tags=None, instruction="", question_template="Question: {question}\n\nOptions:\n{options}")
_WORDINGS: Mapping[Kind, tuple[Wording, str]] = {"caption": (CAPTIONS, "caption"), "thought": (THOUGHTS, "think")}
"""Of each kind the library's words, and its name behind `wrong_` in `Sample.texts`, which keys the words too."""

_LONGEST = 2000  # characters
_MARKUP = re.compile(r"</?\w+>|<\|")
# Options move about under some conditions: a letter would assert another one there.
_LETTER = re.compile(r"\b(?:[Oo]ption|[Aa]nswer|[Cc]hoice)(?: is)?:? \(?[A-Z]\b(?!['’ ]\w)|\([A-Z]\)")


class WrittenText(Frozen):
    """A caption or a thought that asserts one option of a sample: a line of the file.

    Attributes:
        id: the sample's.
        kind: `caption` or `thought`.
        option: index in the sample's options of the one that it asserts.
        asserts: that option.
        question, options: the sample's, by which texts of other data are refused.
        text: what is shown.
        form: "written", by the model, or "rules": the library's words, since the model's did not pass.
        attempts: how often the model was asked.
        writer: the model's name.
        judge: who checked it.
        verdict: index of the option that the judge found asserted, None where it found none, or was not sure.
        refused: what the model wrote that did not pass.
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


@dataclass
class _Draft:
    """A text that is being written."""

    sample: Sample
    kind: Kind
    option: int
    texts: list[str] = field(default_factory=list)
    verdict: int | None = None
    passed: bool = False
    error: str | None = None

    def prompt(self) -> Prompt:
        """Return what the writer is asked."""
        sample, option = self.sample, quotable(self.sample.options[self.option], end=".")
        said = statements(sample.question, sample.options)
        told = said[self.option] if said else f'the answer to the question is "{option}".'
        request = _REQUESTS[self.kind].replace("{said}", told).replace("{option}", option)
        if self.texts:
            request = _AGAIN.replace("{request}", request).replace("{text}", self.texts[-1])
        return Prompt.of(sample, style=_STYLE, draw=len(self.texts)).replace(
            condition=f"{self.kind}_{self.option}",
            images=(),
            context=request,
            question=quotable(sample.question),
            options=tuple(map(quotable, sample.options)),
        )


class WrittenTexts:
    """Captions and thoughts of some samples, as a file keeps them.

    Args:
        rows: the texts.

    Example:
        >>> import tempfile
        >>> import vlmrobust as vr
        >>> class Writer:
        ...     def respond(self, prompts):
        ...         wanted = [prompt.context.split("says this: ")[-1].split(" One")[0] for prompt in prompts]
        ...         return [vr.Response.parse(*pair) for pair in zip(prompts, wanted)]
        >>> sample = vr.Sample(id="q1", images=["cube.png"], question="What colour is the cube?",
        ...                    options=["red", "blue"], answer=1)
        >>> file = f"{tempfile.mkdtemp()}/texts.jsonl"
        >>> texts = vr.WrittenTexts.write([sample], Writer(), file, kinds=["caption"])
        >>> texts.counts
        {'texts': 2, 'at once': 2, 'asked again': 0, 'by rules': 0}
        >>> [ready] = vr.WrittenTexts.load(file).given([sample])  # without the writer
        >>> vr.perturbations.WrongCaption()(vr.Prompt.of(ready)).context
        'Caption: The cube is red.'
    """

    def __init__(self, rows: Iterable[WrittenText]) -> None:
        self.rows = tuple(rows)
        self._found: dict[tuple[str, Kind], dict[int, WrittenText]] = {}
        for row in self.rows:
            self._found.setdefault((row.id, row.kind), {})[row.option] = row

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{number} {name}' for name, number in self.counts.items())})"

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read a file of texts.

        Raises:
            ValueError: a line is no text; the message names file and line.
        """
        return cls(_read(Path(file)))

    @classmethod
    def write(
        cls,
        samples: Iterable[Sample],
        writer: Model,
        file: str | Path,
        *,
        judge: Judge | None = None,
        seed: int = 0,
        every_option: bool = False,
        kinds: Sequence[Kind] = ("caption", "thought"),
        batch_size: int = 32,
    ) -> Self:
        """Let a model write what a file lacks of the texts of some samples, and return all that it holds.

        A sample gets texts for its distractor and its correct option. What the judge does not read as that option is
        asked once more; where one of a sample's captions (or thoughts) fails then too, all of them are the library's
        words, so that wrong and correct texts have one form. Samples with such a text of their own keep it.

        Args:
            samples: whose texts they are.
            writer: who is asked: any model, also the one that is evaluated.
            file: where they are kept, JSON Lines; what was written stays there at once, and the same call goes on.
            judge: who reads what they assert; None = `RuleJudge()`. Where the judge is not sure, a text passes that
                says the library's own statement of the option, and of no other, as a sentence.
            seed: the run's: it draws the distractor, and the library's words.
            every_option: write texts for all wrong options, for runs whose distractor is the runner-up.
            kinds: what is written.
            batch_size: how many samples are written for at a time.

        Raises:
            ValueError: the file is of other data, of another writer or of another judge; the message names the sample
                and the field. A text could not be asked for, or not be judged; the message says how many.
        """
        samples, place, judge = check_samples(samples), Path(file), RuleJudge() if judge is None else judge
        name = _name_of(writer)
        rows = list(_read(place)) if place.exists() else []
        for row in rows:
            for what, own, given in (("writer", row.writer, name), ("judge", row.judge, judge.title)):
                if own != given:
                    raise ValueError(
                        f"{place}, sample {row.id!r}, field {what!r}: expected {own!r}, as in the file, got {given!r}; "
                        "name another file"
                    )
        known = cls(rows)
        wanted = [drafts for sample in samples if (drafts := known._lacking(sample, kinds, seed, every_option))]
        failed: list[_Draft] = []
        for begin in range(0, len(wanted), batch_size):
            drafts = [draft for drafts in wanted[begin : begin + batch_size] for draft in drafts]
            _write(drafts, writer, judge)
            failed += [draft for draft in drafts if draft.error is not None]
            rows += _rows(drafts, name, judge.title, seed)
            write_lines_atomically(place, (row.model_dump(mode="json") for row in rows))
            logger.info("texts of %d of %d samples are written", min(begin + batch_size, len(wanted)), len(wanted))
        if failed:
            first = failed[0]
            raise ValueError(
                f"{len(failed)} texts could not be asked for or judged, the first, a {first.kind} of sample "
                f"{first.sample.id!r}, with {first.error}; {place} has the others, and the same call goes on"
            )
        return cls(rows)

    @property
    def counts(self) -> dict[str, int]:
        """How many texts there are, by how they came about."""
        written = [row for row in self.rows if row.form == "written"]
        return {
            "texts": len(self.rows),
            "at once": sum(row.attempts == 1 for row in written),
            "asked again": sum(row.attempts > 1 for row in written),
            "by rules": len(self.rows) - len(written),
        }

    @property
    def digest(self) -> str:
        """Identifies the texts. A run knows them sample by sample, and is not gone on with in others."""
        keys = sorted((row.id, row.kind, row.option, row.text) for row in self.rows)
        return hashlib.blake2b(json.dumps(keys).encode(), digest_size=8).hexdigest()

    def given(self, samples: Iterable[Sample], *, every_option: bool = False) -> list[Sample]:
        """Return the samples with these texts; those that a sample has of its own stay.

        Where the file has texts for one wrong option of a sample, that becomes its distractor.

        Args:
            samples: those that the texts are of, or some of them.
            every_option: texts for all wrong options have to be there.

        Raises:
            ValueError: there are none for a sample, or they are of another question, other options, or another
                distractor or correct option; the message names the sample and the field.
        """
        return [self._given(sample, every_option) for sample in check_samples(samples)]

    def _given(self, sample: Sample, every_option: bool) -> Sample:
        kinds = [kind for kind in _WORDINGS if not _own_texts(sample, kind)]
        if kinds and not any((sample.id, kind) in self._found for kind in _WORDINGS):
            _refuse(sample, "id", "a sample that there are texts for", sample.id)
        changes: dict[str, Any] = {}
        distractor = sample.distractor
        for kind in kinds:
            found = self._fitting(sample, kind)
            if not found:
                continue  # only the other kind was asked for
            wrong = {option: row.text for option, row in found.items() if option != sample.answer}
            if sample.answer not in found:
                _refuse(sample, "answer", f"one of the options that texts assert ({sorted(found)})", sample.answer)
            if sample.distractor is not None and sample.distractor not in wrong:
                _refuse(sample, "distractor", f"one of the options that texts assert ({sorted(wrong)})", distractor)
            if every_option and len(wrong) < len(sample.options) - 1:
                _refuse(sample, "options", "texts for all wrong options", f"some for {sorted(wrong)}")
            if len(wrong) == 1:
                distractor = next(iter(wrong))
            name = _WORDINGS[kind][1]
            changes |= {f"wrong_{name}": wrong, f"correct_{name}": found[sample.answer].text}
        return sample.replace(texts={**changes, **sample.texts}, distractor=distractor) if changes else sample

    def _fitting(self, sample: Sample, kind: Kind) -> dict[int, WrittenText]:
        """Return by option the texts of a sample, refusing those that are of another one."""
        found = self._found.get((sample.id, kind), {})
        for row in found.values():
            for name in ("question", "options"):
                if (own := getattr(row, name)) != (given := getattr(sample, name)):
                    _refuse(sample, name, f"{own!r}, which the texts are of", given)
        return found

    def _lacking(self, sample: Sample, kinds: Sequence[Kind], seed: int, every_option: bool) -> list[_Draft]:
        """Return the texts of a sample that are to be written: all of a kind, or none."""
        wrong = [index for index in range(len(sample.options)) if index != sample.answer]
        options = [*wrong, sample.answer] if every_option else [draw_distractor(sample, seed), sample.answer]
        drafts = []
        for kind in kinds:
            found = self._fitting(sample, kind)
            if _own_texts(sample, kind) or found.keys() >= {*options}:
                continue
            if found:
                expected = f"the options that texts assert ({sorted(found)}); name another file"
                _refuse(sample, "distractor", expected, options)
            drafts += [_Draft(sample, kind, option) for option in options]
        return drafts


def _own_texts(sample: Sample, kind: Kind) -> bool:
    return any(f"{truth}_{_WORDINGS[kind][1]}" in sample.texts for truth in ("wrong", "correct"))


def _refuse(sample: Sample, name: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"sample {sample.id!r}, field {name!r}: expected {expected}, got {got!r}")


def _read(file: Path) -> Iterator[WrittenText]:
    for number, row in read_lines(file):
        try:
            yield WrittenText.model_validate(row)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: expected a text and what it asserts: {error}") from None


def _name_of(writer: Model) -> str:
    name = str(identity_of(writer).get("name") or type(writer).__name__)
    return Path(name).name if Path(name).is_dir() else name  # where a checkpoint lies is nobody else's business


def _write(drafts: Sequence[_Draft], writer: Model, judge: Judge) -> None:
    """Ask for texts, and once more for those that do not pass."""
    left = list(drafts)
    for _ in range(2):
        if not left:
            return
        said = writer.respond([draft.prompt() for draft in left])
        for draft, response in zip(left, said, strict=True):
            if response.status == "error":
                draft.error = str(response.error)
                continue
            cut = response.finish_reason == "length"
            draft.texts.append("" if cut else _cleaned(response.text, draft.kind))
        left = [draft for draft in left if draft.error is None]
        _check(left, judge)
        left = [draft for draft in left if not draft.passed and draft.error is None]


def _cleaned(text: str, kind: Kind) -> str:
    """Return what a model wrote, without its own thought, quotation marks and headings."""
    text = text.rpartition("</think>")[2].strip()
    if "<think>" in text:
        return ""
    text = re.sub(r"^\W*(?:caption|thought)(?: of (?:the|this) (?:image|picture))?\W*:[\s*_]*", "", text, flags=re.I)
    text = text.strip(" *_\n")
    if len(text) > 1 and text[0] + text[-1] in ('""', "''", "“”") and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    text = " ".join(text.split())
    return f"Caption: {text}" if text and kind == "caption" else text


def _check(drafts: Sequence[_Draft], judge: Judge) -> None:
    """Let the judge read the last text of each."""
    judged = [draft for draft in drafts if draft.texts[-1]]
    if not judged:
        return
    pairs = [
        (
            Prompt.of(draft.sample),
            Response(sample_id=draft.sample.id, condition="base", think=draft.texts[-1], status="truncated"),
        )
        for draft in judged
    ]
    verdicts = judge.verdicts_of_part(Responses.of_pairs(pairs), is_part=True)
    rows = zip(verdicts.option.tolist(), verdicts.unsure.tolist(), strict=True)
    for place, (draft, (option, unsure)) in enumerate(zip(judged, rows, strict=True)):
        if place in verdicts.errors:
            draft.error = verdicts.errors[place]
            continue
        draft.verdict = None if unsure or option < 0 else option
        read = draft.option if draft.verdict is None and _is_stated(draft) else draft.verdict
        draft.passed = read == draft.option and _is_fit(draft)


def _is_stated(draft: _Draft) -> bool:
    """Return whether a text says the library's statement of its option as a sentence, and that of no other."""
    said = statements(draft.sample.question, draft.sample.options)
    sentences = {_bare(part) for part in re.split(r"(?<=[.!?])\s+|(?<=^Caption:)\s", draft.texts[-1])}
    return said is not None and [place for place, text in enumerate(said) if _bare(text) in sentences] == [draft.option]


def _bare(sentence: str) -> str:
    return sentence.strip().rstrip(".!").casefold()


def _is_fit(draft: _Draft) -> bool:
    lettered = any(len(option.strip()) == 1 for option in draft.sample.options)
    text = draft.texts[-1]
    return len(text) <= _LONGEST and not _MARKUP.search(text) and (lettered or not _LETTER.search(text))


def _rows(drafts: Sequence[_Draft], writer: str, judge: str, seed: int) -> Iterator[WrittenText]:
    """Yield texts that passed; of a sample of which one did not, the library's words for all of the kind."""
    groups: dict[tuple[str, Kind], list[_Draft]] = {}
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
                text=draft.texts[-1] if passed else _by_rules(draft, seed),
                form="written" if passed else "rules",
                attempts=len(draft.texts),
                writer=writer,
                judge=judge,
                verdict=draft.verdict if passed else None,
                refused=tuple(draft.texts[: len(draft.texts) - draft.passed]),
            )


def _by_rules(draft: _Draft, seed: int) -> str:
    wording, key = _WORDINGS[draft.kind]
    return worded(wording, Prompt.of(draft.sample), draft.option, generator(seed, draft.sample.id, key))


class TextModel:
    """A Hugging Face causal language model that writes without seeing: greedily, a batch at a time.

    Args:
        model: a loaded causal LM.
        tokenizer: its tokenizer.
        max_new_tokens: the most that it writes.
        batch_size: how many prompts are processed together.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_new_tokens: int = 512, batch_size: int = 16) -> None:
        from .models.generation import Decoding

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
            device: None = CUDA where there is one, else the CPU.
            **given: the class's other arguments.

        Raises:
            OSError: nothing is found under the name; the message has it.
            ValueError: dtype or device is none, or none of this machine.
        """
        from .judges import LMJudge

        loaded = LMJudge.from_pretrained(name, dtype=dtype, device=device)
        return cls(loaded.model, loaded.tokenizer, **given)

    def identity(self) -> dict[str, Any]:
        """Return the checkpoint's name."""
        return {"class": type(self).__qualname__, "name": str(getattr(self.model.config, "_name_or_path", ""))}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts by their text alone."""
        special, found = SpecialTokens.of(self.tokenizer), list[Response]()
        for begin in range(0, len(prompts), self.batch_size):
            batch = prompts[begin : begin + self.batch_size]
            texts = self._written([self._rendered(prompt.with_inert(special).text) for prompt in batch])
            for prompt, (text, reason) in zip(batch, texts, strict=True):
                found.append(Response.parse(prompt, text, finish_reason=reason))
        return found

    def _rendered(self, text: str) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            return f"{text}\n\n"
        turns = [{"role": "user", "content": text}]
        return str(
            self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, enable_thinking=False)
        )

    def _written(self, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield what is written after texts, and whether it ended by itself ("stop") or at the limit ("length")."""
        import torch

        # A template's rendering has its special tokens; a plain text has none yet.
        special = not getattr(self.tokenizer, "chat_template", None)
        rows = [self.tokenizer(text, add_special_tokens=special)["input_ids"] for text in texts]
        longest, filler = max(map(len, rows)), self.tokenizer.pad_token_id
        padded = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        device = self.model.device
        with torch.inference_mode(), self._decoding.in_force() as config:
            out = self.model.generate(
                input_ids=padded.to(device), attention_mask=mask.to(device), generation_config=config
            )
        for row in out[:, longest:].tolist():
            end = next((place for place, token in enumerate(row) if token in self._decoding.stop_tokens), None)
            text = self.tokenizer.decode(row[:end], skip_special_tokens=True)
            yield str(text), "length" if end is None else "stop"
