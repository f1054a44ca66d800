"""Store written captions and thoughts in a file, and add them to samples."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from ..jsonl import read_lines, write_lines_atomically
from ..judges import Judge, RuleJudge
from ..models.base import Model, identity_of
from ..perturbations.wordings import draw_distractor
from ..types import Sample, check_samples
from .drafts import WORDINGS, Draft, Kind, WrittenText, records_of, write_drafts

__all__ = ["WrittenTexts"]

logger = logging.getLogger(__name__)


class WrittenTexts:
    """Captions and thoughts written for samples, stored in a file.

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
            ValueError: a line is not a written text; the message names file and line.
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
        """Let a model write the texts that a file lacks for some samples, and return all texts in the file.

        A sample gets texts for its distractor and its correct option. A text that the judge does not find to assert
        its option is requested once more. If one of a sample's captions (or thoughts) fails again, all of them get the
        library's wording, so that wrong and correct texts have the same form. Samples keep their own texts.

        Args:
            samples: the samples to write for.
            writer: any model, including the evaluated one.
            file: the JSON Lines file. It is saved after every batch; repeat the call to resume.
            judge: finds the option that a text asserts; None = `RuleJudge()`. If it is unsure, a text still passes
                that contains the library's statement of its option, and of no other, as a sentence.
            seed: the run's seed, for the distractor and the library's wording.
            every_option: write texts for all wrong options, for runs whose distractor is the runner-up.
            kinds: the kinds of text to write.
            batch_size: the number of samples per batch.

        Raises:
            ValueError: the file is for other data, another writer or another judge; the message names the sample and
                the field. Texts could not be requested or judged; the message says how many.
        """
        samples, path, judge = check_samples(samples), Path(file), RuleJudge() if judge is None else judge
        name = _name_of(writer)
        rows = list(_read(path)) if path.exists() else []
        for row in rows:
            for what, stored, given in (("writer", row.writer, name), ("judge", row.judge, judge.title)):
                if stored != given:
                    raise ValueError(
                        f"{path}, sample {row.id!r}, field {what!r}: expected {stored!r}, as in the file, got "
                        f"{given!r}; use another file"
                    )
        known = cls(rows)
        missing = [drafts for sample in samples if (drafts := known._missing(sample, kinds, seed, every_option))]
        failed: list[Draft] = []
        for begin in range(0, len(missing), batch_size):
            drafts = [draft for drafts in missing[begin : begin + batch_size] for draft in drafts]
            write_drafts(drafts, writer, judge)
            failed += [draft for draft in drafts if draft.error is not None]
            rows += records_of(drafts, name, judge.title, seed)
            write_lines_atomically(path, (row.model_dump(mode="json") for row in rows))
            logger.info("wrote texts for %d of %d samples", min(begin + batch_size, len(missing)), len(missing))
        if failed:
            first = failed[0]
            raise ValueError(
                f"{len(failed)} texts could not be requested or judged, the first, a {first.kind} for sample "
                f"{first.sample.id!r}, with {first.error}; {path} has the others, repeat the call to resume"
            )
        return cls(rows)

    @property
    def counts(self) -> dict[str, int]:
        """The number of texts, by origin."""
        written = [row for row in self.rows if row.form == "written"]
        return {
            "texts": len(self.rows),
            "at once": sum(row.attempts == 1 for row in written),
            "asked again": sum(row.attempts > 1 for row in written),
            "by rules": len(self.rows) - len(written),
        }

    @property
    def digest(self) -> str:
        """Hash of the texts. Runs store the texts per sample, and cannot be resumed with others."""
        keys = sorted((row.id, row.kind, row.option, row.text) for row in self.rows)
        return hashlib.blake2b(json.dumps(keys).encode(), digest_size=8).hexdigest()

    def given(self, samples: Iterable[Sample], *, every_option: bool = False) -> list[Sample]:
        """Return the samples with these texts added; a sample's own texts are kept.

        If the file has texts for one wrong option of a sample, that becomes its distractor.

        Args:
            samples: all or some of the samples that the texts were written for.
            every_option: require texts for all wrong options.

        Raises:
            ValueError: there are none for a sample, or they are for another question, other options, or another
                distractor or correct option; the message names the sample and the field.
        """
        return [self._with_texts(sample, every_option) for sample in check_samples(samples)]

    def _with_texts(self, sample: Sample, every_option: bool) -> Sample:
        kinds = [kind for kind in WORDINGS if not _has_own_texts(sample, kind)]
        if kinds and not any((sample.id, kind) in self._found for kind in WORDINGS):
            _reject(sample, "id", "a sample with texts in the file", sample.id)
        changes: dict[str, Any] = {}
        distractor = sample.distractor
        for kind in kinds:
            found = self._texts_for(sample, kind)
            if not found:
                continue  # only the other kind was written
            wrong = {option: row.text for option, row in found.items() if option != sample.answer}
            if sample.answer not in found:
                _reject(sample, "answer", f"one of the options that texts assert ({sorted(found)})", sample.answer)
            if sample.distractor is not None and sample.distractor not in wrong:
                _reject(sample, "distractor", f"one of the options that texts assert ({sorted(wrong)})", distractor)
            if every_option and len(wrong) < len(sample.options) - 1:
                _reject(sample, "options", "texts for all wrong options", f"some for {sorted(wrong)}")
            if len(wrong) == 1:
                distractor = next(iter(wrong))
            name = WORDINGS[kind][1]
            changes |= {f"wrong_{name}": wrong, f"correct_{name}": found[sample.answer].text}
        return sample.replace(texts={**changes, **sample.texts}, distractor=distractor) if changes else sample

    def _texts_for(self, sample: Sample, kind: Kind) -> dict[int, WrittenText]:
        """Return the texts for a sample by option; raise if they were written for other data."""
        found = self._found.get((sample.id, kind), {})
        for row in found.values():
            for name in ("question", "options"):
                if (stored := getattr(row, name)) != (given := getattr(sample, name)):
                    _reject(sample, name, f"{stored!r}, as in the file", given)
        return found

    def _missing(self, sample: Sample, kinds: Sequence[Kind], seed: int, every_option: bool) -> list[Draft]:
        """Return drafts for the texts of a sample that are missing: all of a kind, or none."""
        wrong = [index for index in range(len(sample.options)) if index != sample.answer]
        options = [*wrong, sample.answer] if every_option else [draw_distractor(sample, seed), sample.answer]
        drafts = []
        for kind in kinds:
            found = self._texts_for(sample, kind)
            if _has_own_texts(sample, kind) or found.keys() >= {*options}:
                continue
            if found:
                expected = f"the options that texts assert ({sorted(found)}), or another file"
                _reject(sample, "distractor", expected, options)
            drafts += [Draft(sample, kind, option) for option in options]
        return drafts


def _has_own_texts(sample: Sample, kind: Kind) -> bool:
    return any(f"{truth}_{WORDINGS[kind][1]}" in sample.texts for truth in ("wrong", "correct"))


def _reject(sample: Sample, name: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"sample {sample.id!r}, field {name!r}: expected {expected}, got {got!r}")


def _read(file: Path) -> Iterator[WrittenText]:
    for number, row in read_lines(file):
        try:
            yield WrittenText.model_validate(row)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: expected a written text: {error}") from None


def _name_of(writer: Model) -> str:
    name = str(identity_of(writer).get("name") or type(writer).__name__)
    return Path(name).name if Path(name).is_dir() else name  # do not write local paths to the file
