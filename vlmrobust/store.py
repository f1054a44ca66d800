"""The run directory: what was asked and answered so far, on disk as it comes.

    manifest.json           what the run was begun with
    samples-000.jsonl       what each sample asks, one a line
    responses-000.jsonl     one response a line, with the digest of its prompt

A file that ends in `.jsonl` is written by one process and appended to by no other: a resumed run begins files of its
own, and so does every worker, so a line that a kill has torn stays the last of its file and is dropped by every reader.
Lines that were written in one go say how many they are: a batch's, or as many answers as came together from a model
that is asked one by one. Where some of them are missing, all of them are asked again.

A worker needs the rows of a few samples out of millions: opening a directory notes where each sample's rows are, and
they are decoded when its batch is begun.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from .jsonl import OwnFile, create_atomically, files, json_safe, places, unexpected, write_atomically
from .manifest import Manifest, first_difference, prompt_digest, sample_content
from .secrecy import error_message
from .types import Prompt, Response, Sample

logger = logging.getLogger(__name__)

__all__ = ["RecordedRow", "RunDirectory", "changed", "decode_response", "encode_response"]

_TOGETHER = 64  # rows that are looked up at once where they were written one by one


class RecordedRow(NamedTuple):
    """A row of a run directory: where it stands, the digest of its prompt, and what was said."""

    file: Path
    line: int
    prompt: str
    response: Response


@dataclass(slots=True)
class _Begun:
    """A sample whose rows are in memory: its images' digests now and before, and its responses with their prompts'.

    Of each condition and draw the rows stand in the order of writing.
    """

    images: list[str | None]
    images_before: list[list[str | None]]
    recorded: dict[tuple[str, int], list[tuple[str, Response]]] = field(default_factory=dict)

    def is_answered_twice(self) -> bool:
        """Return whether base has two answers that differ, as two processes that did not know of each other left it."""
        for (condition, _), rows in self.recorded.items():
            answers = [response for _, response in rows if response.status != "error"]
            if condition == "base" and any(answer != answers[0] for answer in answers):
                return True
        return False


def encode_response(response: Response) -> dict[str, Any]:
    """Return a response as JSON values: the fields that differ from their default.

    Example:
        >>> encode_response(Response(sample_id="q1", condition="base", status="answered", answer=0))
        {'sample_id': 'q1', 'condition': 'base', 'answer': 0, 'status': 'answered'}
    """
    encoded: dict[str, Any] = json_safe(response.model_dump(exclude_defaults=True))
    return encoded


def decode_response(values: Mapping[str, Any]) -> Response:
    """Return the response that `encode_response` has written; every float is the same to the last bit."""
    return Response.model_validate(values)


class RunDirectory:
    """A run on disk: its manifest, the content of its samples, and every response.

    Responses with the status `error` are kept as a record and asked again by the next run: a server may have recovered,
    a file may have been put in its place. Everything else is finished.

    Any number of processes may have the same directory open, and record different samples in it.

    Args:
        path: the folder; made if it is not there.
        manifest: what the run is about to be begun, or resumed, with; None = what it was begun with.

    Raises:
        FileNotFoundError: `manifest` is None, and the folder holds no run.
        ValueError: the folder holds a run of another model, seed or style, or another condition under the same name;
            the message names the field and both values.
    """

    def __init__(self, path: str | Path, manifest: Manifest | None = None) -> None:
        self.path = Path(path)
        self.manifest = self._begun_or_joined(manifest)
        self._responses = OwnFile(self.path, "responses")
        self._samples = OwnFile(self.path, "samples")
        self._samples_at = places(files(self.path, "samples"), lambda row: (row["id"], (0, 1)))
        self._responses_at = places(
            files(self.path, "responses"),
            lambda row: (row["response"]["sample_id"], row["batch"]),
            together=_TOGETHER,
        )
        self._begun: dict[str, _Begun] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def join(self, manifest: Manifest) -> None:
        """Let the manifest hold what another adds to it.

        Raises:
            ValueError: it is of another run; see the class.
        """
        self.manifest = self._begun_or_joined(manifest)

    def close(self) -> None:
        """Close the files; what was recorded is on disk already."""
        self._responses.close()
        self._samples.close()

    def begin(self, samples: Sequence[Sample]) -> None:
        """Take up samples: read what was recorded of them before the directory was opened, and note what they ask.

        They stay in memory until `end`.

        Raises:
            ValueError: the run holds another sample under the same id; the message names the field and both values.
        """
        # Whatever is refused is refused before anything is written.
        content = [json.loads(json.dumps(sample_content(sample))) for sample in samples]
        added = list(self._not_yet_known(content))
        begun = {
            sample["id"]: _Begun(sample["images"], list(self._images_recorded(sample["id"]))) for sample in content
        }
        for row in self.rows(begun):
            recorded, key = begun[row.response.sample_id].recorded, (row.response.condition, row.response.draw)
            recorded.setdefault(key, []).append((row.prompt, row.response))
        self._begun |= begun
        self._samples.append(added)

    def end(self, samples: Iterable[Sample]) -> None:
        """Forget the rows of samples that were begun; on disk they stay."""
        for sample in samples:
            self._begun.pop(sample.id, None)

    def finished(self, prompt: Prompt) -> Response | None:
        """Return the response to a prompt of a sample that was begun, None if it is still to be asked.

        Raises:
            ValueError: what was answered was another prompt under the same key.
        """
        response = self.recorded(prompt)
        return None if response is None or response.status == "error" else response

    def recorded(self, prompt: Prompt) -> Response | None:
        """Return the last response to a prompt, a failed one where there is no other; see `finished`."""
        begun = self._begun[prompt.sample.id]
        rows = begun.recorded.get((prompt.condition, prompt.draw), [])
        answers = [row for row in rows if row[1].status != "error"]
        if not answers:
            return rows[-1][1] if rows else None
        if (found := _of_prompt(answers, prompt_digest(prompt, begun.images))) is not None:
            return found
        # The images' files may have been missing when it was answered, or may be missing now.
        for images in begun.images_before:
            if (found := _of_prompt(answers, prompt_digest(prompt, images))) is not None:
                return found
        if prompt.condition != "base" and begun.is_answered_twice():
            return None  # it was made of the other answer, and is asked again
        raise ValueError(
            f"run directory {self.path}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, "
            f"draw {prompt.draw}, field 'prompt': expected the prompt with digest {answers[-1][0]}, as it was "
            f"answered, got one with digest {prompt_digest(prompt, begun.images)}; a text source or the library's "
            "wording has changed, so use another directory"
        )

    def record(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> None:
        """Put answers to samples that were begun on disk, in one go."""
        count = len(responses)
        rows = [
            _line(prompt_digest(prompt, self._begun[prompt.sample.id].images), response, index, count)
            for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
        ]
        self._responses.append(rows)

    @property
    def samples(self) -> Sequence[str]:
        """The ids of the samples that were recorded before the directory was opened, in their order."""
        return tuple(self._samples_at)

    def contents(self, sample_id: str) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        """Yield what a sample asks, with file and line: again where an image that could not be read was there later."""
        for line in self._samples_at.get(sample_id, ()):
            for number, row in line.read():
                yield line.path, number, row

    def rows(self, samples: Collection[str]) -> Iterator[RecordedRow]:
        """Yield every row about some samples, in the order of writing; those of a torn batch are left out."""
        found = {lines for sample in samples for lines in self._responses_at.get(sample, ())}
        for lines in sorted(found, key=lambda lines: (len(lines.path.name), lines)):
            for number, row in lines.read():
                if row["response"]["sample_id"] in samples:
                    try:
                        yield RecordedRow(lines.path, number, row["prompt"], decode_response(row["response"]))
                    except (KeyError, ValueError) as error:
                        raise unexpected(lines.path, number, row, error) from None

    def add(self, contents: Iterable[Mapping[str, Any]], rows: Sequence[RecordedRow]) -> None:
        """Put samples and rows of another directory on disk, the rows of each sample in one go."""
        self._samples.append(contents)
        of_sample: dict[str, list[RecordedRow]] = {}
        for row in rows:
            of_sample.setdefault(row.response.sample_id, []).append(row)
        self._responses.append(
            _line(row.prompt, row.response, index, len(together))
            for together in of_sample.values()
            for index, row in enumerate(together)
        )

    def _begun_or_joined(self, manifest: Manifest | None) -> Manifest:
        path = self.path / "manifest.json"
        begun = self._read_manifest()
        if begun is None:
            if manifest is None:
                raise FileNotFoundError(f"run directory {self.path}: expected a run, found none")
            self.path.mkdir(parents=True, exist_ok=True)
            if create_atomically(path, _as_text(manifest)):
                return manifest
            begun = _manifest_of(path)  # another worker was first
        if manifest is None:
            return begun
        try:
            joined = begun.joined(manifest)
        except ValueError as error:
            raise ValueError(f"run directory {self.path}: {error}; use another directory") from None
        if joined != begun:
            write_atomically(path, _as_text(joined))
        for note in joined.notes[len(begun.notes) :]:
            logger.warning("run directory %s: %s", self.path, note)
        for entry in joined.resumed[len(begun.resumed) :]:
            logger.warning(
                "run directory %s: begun under %s, gone on with under %s: its rows are of both",
                self.path,
                _listed(begun.versions, entry["versions"]),
                _listed(entry["versions"], begun.versions),
            )
        return joined

    def _read_manifest(self) -> Manifest | None:
        path = self.path / "manifest.json"
        if path.exists():
            return _manifest_of(path)
        if stray := next(self.path.glob("responses-*.jsonl"), None):
            raise ValueError(f"run directory {self.path}: expected manifest.json beside {stray.name}, found none")
        return None

    def _images_recorded(self, sample_id: str) -> Iterator[list[str | None]]:
        for _, _, content in self.contents(sample_id):
            yield content["images"]

    def _not_yet_known(self, content: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield samples that are new, or whose images could not be read before; refuse those that have changed."""
        for sample in content:
            lines = self._samples_at.get(sample["id"])
            if lines is None:
                yield sample
                continue
            [(_, begun)] = lines[-1].read()
            self._refuse_change(begun, sample)
            if None in begun["images"] and sample != begun:
                yield sample

    def _refuse_change(self, begun: dict[str, Any], content: dict[str, Any]) -> None:
        if difference := changed(begun, content):
            field, old, new = difference
            raise ValueError(
                f"run directory {self.path}: sample {content['id']!r}, field {field!r}: expected {old}, as the run was "
                f"begun with, got {new}; use another directory, or another id for a changed sample"
            )


def changed(begun: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the field in which a sample asks something else than before, with both values; None = in none.

    An image that could not be read then, or cannot now, is no other image.
    """
    if len(begun["images"]) == len(content["images"]):
        pairs = zip(begun["images"], content["images"], strict=True)
        same = [new if old is None or new is None else old for old, new in pairs]
        begun = {**begun, "images": same}
    return first_difference(begun, content)


def _line(prompt: str, response: Response, index: int, count: int) -> dict[str, Any]:
    return {"prompt": prompt, "batch": [index, count], "response": encode_response(response)}


def _of_prompt(rows: Sequence[tuple[str, Response]], digest: str) -> Response | None:
    """Return the last response to the prompt with a digest."""
    return next((response for asked, response in reversed(rows) if asked == digest), None)


def _manifest_of(path: Path) -> Manifest:
    content = path.read_bytes()
    try:
        return Manifest.model_validate_json(content)
    except ValueError as error:
        got = f"{len(content)} bytes: {error_message(error)}" if content else "an empty file"
        raise ValueError(f"{path}: expected the manifest of a run, got {got}") from None


def _listed(versions: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Return the versions that differ from others."""
    return ", ".join(f"{name} {text}" for name, text in versions.items() if others.get(name, text) != text)


def _as_text(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=2) + "\n"
