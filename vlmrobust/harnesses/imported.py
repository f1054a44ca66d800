"""What was read from another harness's log: questions as it wrote them, prompts and responses for a report."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from ..data import Row, RowsError, samples_from
from ..data.fields import index_of
from ..data.row import NUMBERED_MARK
from ..metrics import Metric, PairedMetric
from ..report import Report
from ..types import Prompt, Response, Sample
from ..types.image import DerivedImage

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Collected",
    "Disagreement",
    "Imported",
    "Lettered",
    "LoggedImage",
    "check_reader",
    "one_file",
    "opened",
    "sample_of",
    "split_options",
    "value_of",
]


# How the letter of an option is set off, "(A)", "A." and so on; `^` is put in front where it begins a line.
_MARKS = tuple(re.compile(rf"(?<!\w){mark}[ \t]*", re.MULTILINE) for mark in (r"\(([A-Z])\)", r"([A-Z])[.):]"))
_LABEL = re.compile(r"\s*\b(?:answer )?(?:options|choices)\s*:?\s*\Z", re.IGNORECASE)


class Lettered(NamedTuple):
    """A text taken apart.

    Attributes:
        question: what stands before the options.
        options: their texts, in the order of their letters.
        instruction: what stands after them.
    """

    question: str
    options: tuple[str, ...]
    instruction: str


def split_options(text: str) -> Lettered:
    r"""Take apart a question that ends in lettered options, one a line or all in one line.

    The options are the last marks "(A)", "A.", "A)" or "A:" that follow each other as A, B, C, …; marks at the
    beginning of a line come first. The last option ends with its line. A label such as "Options:" is no part of the
    question.

    Args:
        text: the question, its options and perhaps an instruction.

    Raises:
        ValueError: there are no options in it, or nothing before them.

    Example:
        >>> split_options("Which colour?\nA. red\nB. blue\nAnswer with the letter.")
        Lettered(question='Which colour?', options=('red', 'blue'), instruction='Answer with the letter.')
        >>> split_options("Which colour?\nOptions: A: red, B: blue").options
        ('red', 'blue')
    """
    for lines in (True, False):
        for mark in _MARKS:
            run = _last_run(text, mark, lines)
            if len(run) >= 2:
                return _between(text, run)
    raise ValueError(f"expected a question with lettered options, got {text!r:.200}")


def _last_run(text: str, mark: re.Pattern[str], lines: bool) -> list[re.Match[str]]:
    """Return the last marks A, B, C, … in a row; those at the beginning of a line alone, or all."""
    run: list[re.Match[str]] = []
    last: list[re.Match[str]] = []
    for match in _marks(text, mark, lines):
        if match[1] == "A":
            run = [match]
        elif run and match[1] == chr(ord("A") + len(run)):
            run.append(match)
        if len(run) >= 2:
            last = run
    return last


def _marks(text: str, mark: re.Pattern[str], lines: bool) -> Iterator[re.Match[str]]:
    for match in mark.finditer(text):
        before = text[: match.start()].rpartition("\n")[2]
        if not lines or not before.strip():
            yield match


def _between(text: str, run: list[re.Match[str]]) -> Lettered:
    end = text.find("\n", run[-1].end())
    end = len(text) if end < 0 else end
    stops = [match.start() for match in run[1:]] + [end]
    options = tuple(
        text[match.end() : stop].strip().rstrip(",;").rstrip() for match, stop in zip(run, stops, strict=True)
    )
    question = _LABEL.sub("", text[: run[0].start()]).strip()
    if not question:
        raise ValueError(f"expected a question before its options, got {text!r:.200}")
    return Lettered(question, options, text[end:].strip())


_HEAD = 65_536  # bytes, in which the first row of a log begins

Pair = tuple[Prompt, Response]


class LoggedImage(DerivedImage):
    """An image that a log points to: a path, perhaps of another machine, or the place of a question without one.

    Nothing is opened until somebody asks for the pixels; a report never does.
    """

    def derive(self, image: "Image") -> "Image":
        """Return the image as it is."""
        return image


class Disagreement(NamedTuple):
    """A response that the harness has read in another way.

    Attributes:
        sample_id, condition, draw: the key.
        harness: the index of the option that it has read, or None; True or False where its log says no more than right
            or wrong.
        ours: the index that our parser has read, or None; True or False likewise.
        text: what the model wrote.
    """

    sample_id: str
    condition: str
    draw: int
    harness: int | bool | None
    ours: int | bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Prompts and responses of a log, and what could not be read.

    Two logs are joined by `+`: the same questions under two conditions make one report.

    Attributes:
        prompts: what was asked. What the harness made of an answer is in `sample.metadata`: `harness_answer`, the text
            that it has extracted, and `harness_correct`, where its log has them.
        responses: what was said, in the same order, read by our parser.
        problems: one message per row that was left out: its place, and why.

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
        >>> prompt = Prompt.of(sample)
        >>> read = Imported((prompt,), (Response.parse(prompt, "<think>It is blue.</think><answer>B</answer>"),))
        >>> float(read.report().frame["consistency"].iloc[0])
        1.0
    """

    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.responses)

    def __add__(self, other: "Imported") -> "Imported":
        return Imported(self.prompts + other.prompts, self.responses + other.responses, self.problems + other.problems)

    @property
    def samples(self) -> list[Sample]:
        """The questions, each once, to be asked again under other conditions."""
        found: dict[str, Sample] = {}
        for prompt in self.prompts:
            found.setdefault(prompt.sample.id, prompt.sample)
        return list(found.values())

    def report(self, metrics: Sequence[Metric | PairedMetric | str] | None = None, *, seed: int = 0) -> Report:
        """Report on what was read, see `Report.from_responses`; its manifest lists the problems.

        Args:
            metrics: what is measured; None = `default_metrics()`.
            seed: keys the bootstrap.

        Raises:
            ValueError: a key (sample, condition, draw) occurs twice, as after joining two logs of one condition.
        """
        manifest = {"problems": list(self.problems)} if self.problems else {}
        return Report.from_responses(self.prompts, self.responses, metrics, seed=seed, manifest=manifest)

    def disagreements(self) -> list[Disagreement]:
        """Return the responses whose answer the harness has read in another way than our parser.

        Responses of which the log keeps no reading are passed over, and so are failed ones.
        """
        found = []
        for prompt, response in zip(self.prompts, self.responses, strict=True):
            readings = _readings(prompt.sample, response)
            if readings is not None and readings[0] != readings[1]:
                found.append(Disagreement(*response.key, *readings, response.text))
        return found


def _readings(sample: Sample, response: Response) -> tuple[int | bool | None, int | bool | None] | None:
    """Return the harness's reading and ours, None where there is nothing to compare."""
    if response.status in ("error", "not_applicable"):
        return None
    if "harness_answer" in sample.metadata:
        return _named(sample.metadata["harness_answer"], sample), response.answer
    if "harness_correct" in sample.metadata:
        return bool(sample.metadata["harness_correct"]), response.answer == sample.answer
    return None


def _named(extracted: Any, sample: Sample) -> int | None:
    """Return the option that a harness has extracted, a letter or else a text; None = it names none."""
    for written_as in ("letter", "text"):
        try:
            return index_of(extracted, sample.options, written_as)
        except ValueError:
            continue
    return None


class Collected:
    """Gathers what is read row by row; a row that cannot be read becomes a problem, and the others are read."""

    def __init__(self) -> None:
        self._pairs: list[Pair] = []
        self._problems: list[str] = []

    def add(self, place: str, read: Callable[..., Iterable[Pair]], *arguments: Any) -> None:
        """Read one row.

        Args:
            place: where it stands, for messages.
            read: reads it, given the place and the arguments; what it raises as a `ValueError` is listed.
            arguments: what else it is given.
        """
        try:
            self._pairs += list(read(place, *arguments))
        except RowsError as error:
            self._problems += error.problems
        except ValidationError as error:
            messages = (problem["msg"].removeprefix("Value error, ") for problem in error.errors(include_url=False))
            self._problems.append(f"{place}: {'; '.join(messages)}")
        except ValueError as error:
            self._problems.append(f"{place}: {error}")

    def imported(self, log: str) -> Imported:
        """Return all that was read.

        Raises:
            ValueError: nothing could be read, or two rows have one key; the message names the log.
        """
        if not self._pairs:
            problems = "\n".join(f"  {problem}" for problem in self._problems[:20]) or "  it is empty"
            raise ValueError(f"{log}: expected answered multiple-choice questions, got none:\n{problems}")
        counts = Counter(response.key for _, response in self._pairs)
        if twice := next((key for key, count in counts.items() if count > 1), None):
            raise ValueError(f"{log}: expected each sample, condition and draw once, got {twice} {counts[twice]} times")
        prompts, responses = zip(*self._pairs, strict=True)
        return Imported(prompts, responses, tuple(self._problems))


def sample_of(place: str, values: Mapping[str, Any]) -> Sample:
    """Make the sample of one row, with the checks of `data.samples_from`.

    Args:
        place: where the row stands.
        values: `id`, `question`, `options`, `answer`, `metadata`, and `images` where the log has them.

    Raises:
        RowsError: naming place, sample and field of everything that is wrong.
    """
    images = values.get("images") or [
        LoggedImage(source=f"{place}, sample {values.get('id')!r}{f', image {number}' if number > 1 else ''}")
        for number in range(1, max(1, _marked(values)) + 1)
    ]
    [sample] = samples_from([Row(place, {**values, "images": images})])
    return sample


def _marked(values: Mapping[str, Any]) -> int:
    """Return how many images a row's texts name by marks, numbered or not."""
    options = values.get("options")
    texts = [values.get("question"), *(options.values() if isinstance(options, Mapping) else options or ())]
    text = " ".join(text for text in texts if isinstance(text, str))
    return max([text.count("<image>"), *(int(number) for number in NUMBERED_MARK.findall(text))])


def value_of(row: Mapping[str, Any], name: str) -> Any:
    """Return a row's value, with an error that names what is there.

    Raises:
        ValueError: the row has no such value.
    """
    if name not in row:
        raise ValueError(f"field {name!r}: expected a value, got a row with {', '.join(map(repr, row)) or 'nothing'}")
    return row[name]


def check_reader(log: Path, reader: str) -> None:
    """Refuse a log that is another reader's, as far as its name and its beginning say it.

    Raises:
        ValueError: it is; the message names the reader that takes it.
    """
    found = _reader_of(log)
    if found is not None and found != reader:
        raise ValueError(f"{log.name}: expected a log that {reader} takes, got one of another harness: use {found}")


def _reader_of(log: Path) -> str | None:
    """Return the name of the reader that a log is for; None = it cannot be told."""
    if log.suffix in (".eval", ".xlsx"):
        return "read_inspect" if log.suffix == ".eval" else "read_vlmevalkit"
    if not log.is_file():
        return None
    with log.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", "replace").lstrip("\ufeff \n")
    if log.suffix == ".jsonl" and '"doc_id"' in head:
        return "read_lmms_eval"
    if log.suffix in (".tsv", ".csv") and "prediction" in head.partition("\n")[0]:
        return "read_vlmevalkit"
    if log.suffix == ".json" and head.startswith("["):
        return "read_vlmevalkit" if '"prediction"' in head else None
    return "read_inspect" if log.suffix == ".json" and '"eval"' in head and '"status"' in head else None


def opened(prompt: Prompt, opener: str) -> Prompt:
    """Return a prompt to read a logged text by, which goes on from what the chat template has written.

    Args:
        prompt: what was asked; one that has a prefill has the opener in it.
        opener: what the template has written; empty = nothing.
    """
    return prompt.replace(prefill=opener) if opener and not prompt.prefill else prompt


def one_file(path: str | Path, pattern: str) -> Path:
    """Return the log at a path: the file itself, or the only one of a folder that fits a pattern.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several; the message names them.
    """
    given = Path(path)
    if given.is_file():
        return given
    found = sorted(given.rglob(pattern)) if given.is_dir() else []
    if not found:
        raise FileNotFoundError(f"expected a log {pattern!r} at {str(path)!r}, found none")
    if len(found) > 1:
        names = ", ".join(file.relative_to(given).as_posix() for file in found)
        raise ValueError(f"expected one log {pattern!r} in {str(path)!r}, found {len(found)}: {names}; name the file")
    return found[0]
