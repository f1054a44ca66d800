"""Find another harness's log, collect its rows, and hold what was read: prompts, responses and problems.

Finding: `one_file` finds the log in a folder, and `check_reader` refuses that of another harness.
Reading: `LogRows` collects rows, of which an invalid one becomes a problem; `split_options` parses a question that ends
in lettered options, and `sample_of` makes the sample.
Using: `Imported` makes the report (`report`), and lists the answers that harness and parser read differently
(`disagreements`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from ..data import Row, RowsError, samples_from
from ..data.fields import index_of
from ..data.row import NUMBERED_MARK
from ..metrics import Metric, PairedMetric
from ..prompting import LETTERS
from ..report import Report
from ..types import Prompt, Response, Sample
from ..types.image import DerivedImage

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Disagreement",
    "Imported",
    "Lettered",
    "LogRows",
    "LoggedImage",
    "check_reader",
    "one_file",
    "sample_of",
    "split_options",
    "value_of",
    "with_opener",
]


# Marks of option letters: "(A)", "A." and so on.
_MARKS = tuple(re.compile(rf"(?<!\w){mark}[ \t]*", re.MULTILINE) for mark in (r"\(([A-Z])\)", r"([A-Z])[.):]"))
_HEAD = 65_536  # number of bytes read to recognise a log
# The end of a log's name, its reader, and how the log begins.
_READERS = (
    (".eval", "read_inspect", ""),
    (".json", "read_inspect", r'(?s)(?!\[)(?=.*"eval").*"status"'),
    (".jsonl", "read_lmms_eval", r'(?s).*"doc_id"'),
    (".xlsx", "read_vlmevalkit", ""),
    (".tsv", "read_vlmevalkit", ".*prediction"),
    (".csv", "read_vlmevalkit", ".*prediction"),
    (".json", "read_vlmevalkit", r'(?s)\[.*"prediction"'),
)
_LABEL = re.compile(r"\s*\b(?:answer )?(?:options|choices)\s*:?\s*\Z", re.IGNORECASE)


class Lettered(NamedTuple):
    """A question text split into its parts.

    Attributes:
        question: the text before the options.
        options: their texts, in the order of their letters.
        instruction: the text after the options.
    """

    question: str
    options: tuple[str, ...]
    instruction: str


def split_options(text: str) -> Lettered:
    r"""Split a question that ends in lettered options, one per line or all in one line.

    The options start at the last marks "(A)", "A.", "A)" or "A:" that follow each other as A, B, C, …; marks at the
    beginning of a line take precedence. The last option ends with its line. A label such as "Options:" is not part of
    the question.

    Args:
        text: the question, its options and perhaps an instruction.

    Raises:
        ValueError: the text has no options, or nothing before them.

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
    """Return the last sequence of marks A, B, C, …; with `lines`, only marks at the beginning of a line count."""
    run: list[re.Match[str]] = []
    last: list[re.Match[str]] = []
    for match in mark.finditer(text):
        if lines and text[: match.start()].rpartition("\n")[2].strip():
            continue
        if match[1] == "A":
            run = [match]
        elif run and match[1] == chr(ord("A") + len(run)):
            run.append(match)
        if len(run) >= 2:
            last = run
    return last


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


Pair = tuple[Prompt, Response]


class LoggedImage(DerivedImage):
    """An image that a log refers to: a path, perhaps on another machine, or the place of a question without an image.

    The file is opened only when the pixels are needed; a report never needs them.
    """

    def derive(self, image: "Image") -> "Image":
        """Return the image unchanged."""
        return image


class Disagreement(NamedTuple):
    """A response whose answer the harness and our parser read differently.

    Attributes:
        sample_id, condition, draw: the key.
        harness: index of the option that the harness read, or None; True or False if its log only says right or wrong.
        ours: index that our parser read, or None; True or False likewise.
        text: the response.
    """

    sample_id: str
    condition: str
    draw: int
    harness: int | bool | None
    ours: int | bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Prompts and responses of a log, and the problems of reading it.

    `+` joins two logs: the same questions under two conditions make one report.

    Attributes:
        prompts: the prompts. `sample.metadata` has the harness's reading of the response, if the log has it:
            `harness_answer`, the extracted text, and `harness_correct`.
        responses: the responses in the same order, parsed by our parser.
        problems: one message per row left out, with its place and the reason.

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
        """The distinct samples, for example to evaluate them under other conditions."""
        found: dict[str, Sample] = {}
        for prompt in self.prompts:
            found.setdefault(prompt.sample.id, prompt.sample)
        return list(found.values())

    def report(self, metrics: Sequence[Metric | PairedMetric | str] | None = None, *, seed: int = 0) -> Report:
        """Make a report of the responses, see `Report.from_responses`; its manifest lists the problems.

        Args:
            metrics: the metrics; None = `default_metrics()`.
            seed: keys the resampling.

        Raises:
            ValueError: a key (sample, condition, draw) occurs twice, as after joining two logs of one condition.
        """
        manifest = {"problems": list(self.problems)} if self.problems else {}
        return Report.from_responses(self.prompts, self.responses, metrics, seed=seed, manifest=manifest)

    def disagreements(self) -> list[Disagreement]:
        """Return the responses whose answer the harness and our parser read differently.

        Failed responses, and those without a reading in the log, are skipped.
        """
        found = []
        for prompt, response in zip(self.prompts, self.responses, strict=True):
            readings = _readings(prompt.sample, response)
            if readings is not None and readings[0] != readings[1]:
                found.append(Disagreement(*response.key, *readings, response.text))
        return found


def _readings(sample: Sample, response: Response) -> tuple[int | bool | None, int | bool | None] | None:
    """Return the harness's reading and ours; None if there is nothing to compare."""
    if response.status in ("error", "not_applicable"):
        return None
    if "harness_answer" in sample.metadata:
        return _option_of(sample.metadata["harness_answer"], sample), response.answer
    if "harness_correct" in sample.metadata:
        return bool(sample.metadata["harness_correct"]), response.answer == sample.answer
    return None


def _option_of(extracted: Any, sample: Sample) -> int | None:
    """Return the option that a harness extracted as a letter or a text; None = it names none."""
    for written_as in ("letter", "text"):
        try:
            return index_of(extracted, sample.options, written_as)
        except ValueError:
            continue
    return None


class LogRows:
    """Collect prompts and responses row by row; an invalid row becomes a problem, and the others are read."""

    def __init__(self) -> None:
        self._pairs: list[Pair] = []
        self._problems: list[str] = []

    def add(self, place: str, read: Callable[..., Iterable[Pair]], *arguments: Any) -> None:
        """Read one row.

        Args:
            place: the place of the row, for messages.
            read: reads the row, called with the place and the arguments; a `ValueError` becomes a problem.
            arguments: further arguments of `read`.
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
        """Return everything that was read.

        Raises:
            ValueError: nothing could be read, or two rows have the same key; the message names the log.
        """
        if not self._pairs:
            problems = "\n".join(f"  {problem}" for problem in self._problems[:20]) or "  it is empty"
            raise ValueError(f"{log}: expected answered multiple-choice questions, got none:\n{problems}")
        counts = Counter(response.key for _, response in self._pairs)
        if twice := next((key for key, count in counts.items() if count > 1), None):
            raise ValueError(f"{log}: expected each sample, condition and draw once, got {twice} {counts[twice]} times")
        prompts, responses = zip(*self._pairs, strict=True)
        return Imported(prompts, responses, tuple(self._problems))


def sample_of(place: str, values: Mapping[str, Any], *, lettered: bool = False) -> Sample:
    """Make the sample of one row, with the checks of `data.samples_from`.

    Args:
        place: the place of the row, for messages.
        values: `id`, `question`, `options`, `answer`, `metadata`, and `images` if the log has them.
        lettered: the harness writes answers as letters, so that "A" means the first option, whatever its text.

    Raises:
        RowsError: the row is invalid; the message names place, sample and field of each problem.
    """
    images = values.get("images") or [
        LoggedImage(source=f"{place}, sample {values.get('id')!r}{f', image {number}' if number > 1 else ''}")
        for number in range(1, max(1, _image_count(values)) + 1)
    ]
    options = values.get("options") or ()
    is_letter = lettered and values.get("distractor") is None and values.get("answer") in [*LETTERS[: len(options)]]
    [sample] = samples_from([Row(place, {**values, "images": images})], answer_as="letter" if is_letter else "any")
    return sample


def _image_count(values: Mapping[str, Any]) -> int:
    """Return the number of images that marks in a row's texts refer to, numbered or not."""
    options = values.get("options")
    texts = [values.get("question"), *(options.values() if isinstance(options, Mapping) else options or ())]
    text = " ".join(text for text in texts if isinstance(text, str))
    return max([text.count("<image>"), *(int(number) for number in NUMBERED_MARK.findall(text))])


def value_of(row: Mapping[str, Any], name: str) -> Any:
    """Return a value of a row.

    Raises:
        ValueError: the row has no such value; the message names those it has.
    """
    if name not in row:
        raise ValueError(f"field {name!r}: expected a value, got a row with {', '.join(map(repr, row)) or 'nothing'}")
    return row[name]


def check_reader(log: Path, reader: str) -> None:
    """Refuse a log of another harness, recognised by its name and beginning.

    Raises:
        ValueError: the log is of another harness; the message names its reader.
    """
    head = ""
    if log.is_file():
        with log.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8", "replace").lstrip("\ufeff \n")
    found = [name for suffix, name, beginning in _READERS if log.suffix == suffix and re.match(beginning, head)]
    if found not in ([], [reader]):
        raise ValueError(f"{log.name}: expected a log for {reader}, got one of another harness: use {found[0]}")


def with_opener(prompt: Prompt, opener: str) -> Prompt:
    """Return a prompt for parsing a logged text that continues what the chat template has written.

    If the prompt has a prefill, the opener is part of that.
    """
    return prompt.replace(prefill=opener) if opener and not prompt.prefill else prompt


def one_file(path: str | Path, pattern: str) -> Path:
    """Return the log at a path: the file itself, or the only file of a folder that matches a pattern.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are several; the message names them.
    """
    place = Path(path)
    if place.is_file():
        return place
    found = sorted(place.rglob(pattern)) if place.is_dir() else []
    if not found:
        raise FileNotFoundError(f"expected a log {pattern!r} at {str(path)!r}, found none")
    if len(found) > 1:
        names = ", ".join(file.relative_to(place).as_posix() for file in found)
        raise ValueError(f"expected one log {pattern!r} in {str(path)!r}, found {len(found)}: {names}; give one file")
    return found[0]
