"""Store a run's samples and responses in a directory, as they arrive.

    manifest.json           the settings of the run
    samples-000.jsonl       the content of one sample per line
    responses-000.jsonl     one response per line, with the digest of its prompt

Each `.jsonl` file has a single writing process: every worker and every resumed run starts new files, so that a line
truncated by a kill is the last of its file and ignored by every reader. Lines that are written together, a batch's or
the responses that a concurrent model returned together, record their number. If some of them are missing, all of them
are requested again.

A worker needs the rows of a few samples out of millions: opening a directory locates each sample's rows, which are
decoded when its batch starts.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from .jsonl import OwnFile, create_atomically, files, invalid_row_error, json_safe, locate_samples, write_atomically
from .manifest import Manifest, first_difference, prompt_digest, sample_content
from .secrecy import error_message
from .types import Prompt, Response, Sample

logger = logging.getLogger(__name__)

__all__ = ["RecordedRow", "RunDirectory", "changed_field", "encode_response"]

_CHUNK = 64  # adjacent single rows that share a location


class RecordedRow(NamedTuple):
    """A row of a run directory: file and line, the digest of its prompt, and the response."""

    file: Path
    line: int
    prompt: str
    response: Response


@dataclass(slots=True)
class _OpenSample:
    """A sample with its rows in memory: image digests now and before, and responses with prompt digests.

    The rows of each condition and draw are in order of writing.
    """

    images: list[str | None]
    images_before: list[list[str | None]]
    recorded: dict[tuple[str, int], list[tuple[str, Response]]] = field(default_factory=dict)

    def is_answered_twice(self) -> bool:
        """Return whether base has two different answers, as two independent processes may have recorded."""
        for (condition, _), rows in self.recorded.items():
            answers = [response for _, response in rows if response.status != "error"]
            if condition == "base" and any(answer != answers[0] for answer in answers):
                return True
        return False


def encode_response(response: Response) -> dict[str, Any]:
    """Return a response as JSON values without default values; `Response.model_validate` restores the same floats.

    Example:
        >>> encode_response(Response(sample_id="q1", condition="base", status="answered", answer=0))
        {'sample_id': 'q1', 'condition': 'base', 'answer': 0, 'status': 'answered'}
    """
    encoded: dict[str, Any] = json_safe(response.model_dump(exclude_defaults=True))
    return encoded


class RunDirectory:
    """A run on disk: its manifest, the content of its samples, and every response.

    Responses with status `error` are recorded, but requested again by the next run, when a server may have recovered or
    a file may be available. All others are final.

    Any number of processes may open the same directory and record different samples.

    Args:
        path: the folder; created if necessary.
        manifest: the settings with which the run is started or resumed; None = those it was started with.

    Raises:
        FileNotFoundError: `manifest` is None, and the folder holds no run.
        ValueError: the folder holds a run of another model, seed or style, or another condition with the same name; the
            message names the field and both values.
    """

    def __init__(self, path: str | Path, manifest: Manifest | None = None) -> None:
        self.path = Path(path)
        self.manifest = self._create_or_join(manifest)
        self._responses = OwnFile(self.path, "responses")
        self._samples = OwnFile(self.path, "samples")
        self._samples_at = locate_samples(files(self.path, "samples"), lambda row: (row["id"], (0, 1)))
        self._responses_at = locate_samples(
            files(self.path, "responses"),
            lambda row: (row["response"]["sample_id"], row["batch"]),
            together=_CHUNK,
        )
        self._open: dict[str, _OpenSample] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def join(self, manifest: Manifest) -> None:
        """Add another manifest's conditions and fields to this run's.

        Raises:
            ValueError: it belongs to another run; see the class.
        """
        self.manifest = self._create_or_join(manifest)

    def close(self) -> None:
        """Close the files; recorded responses are already on disk."""
        self._responses.close()
        self._samples.close()

    def begin(self, samples: Sequence[Sample]) -> None:
        """Start samples: load the rows recorded before the directory was opened, and record the samples' content.

        They stay in memory until `end`.

        Raises:
            ValueError: the run holds another sample with the same id; the message names the field and both values.
        """
        # Check everything before writing anything.
        content = [json.loads(json.dumps(sample_content(sample))) for sample in samples]
        added = list(self._new_contents(content))
        opened = {
            sample["id"]: _OpenSample(
                sample["images"], [before["images"] for _, _, before in self.contents(sample["id"])]
            )
            for sample in content
        }
        for row in self.rows(opened):
            recorded, key = opened[row.response.sample_id].recorded, (row.response.condition, row.response.draw)
            recorded.setdefault(key, []).append((row.prompt, row.response))
        self._open |= opened
        self._samples.append(added)

    def end(self, samples: Iterable[Sample]) -> None:
        """Release the rows of started samples from memory."""
        for sample in samples:
            self._open.pop(sample.id, None)

    def finished(self, prompt: Prompt) -> Response | None:
        """Return the final response to a prompt of a started sample, or None if there is none yet.

        Raises:
            ValueError: the recorded response belongs to another prompt with the same key.
        """
        response = self.recorded(prompt)
        return None if response is None or response.status == "error" else response

    def recorded(self, prompt: Prompt) -> Response | None:
        """Return the last response to a prompt, which is a failed one only if there is no other; see `finished`."""
        sample = self._open[prompt.sample.id]
        rows = sample.recorded.get((prompt.condition, prompt.draw), [])
        answers = [row for row in rows if row[1].status != "error"]
        if not answers:
            return rows[-1][1] if rows else None
        # Image files may have been missing when the response was recorded, or may be missing now.
        for images in (sample.images, *sample.images_before):
            digest = prompt_digest(prompt, images)
            if same := [response for recorded, response in answers if recorded == digest]:
                return same[-1]
        if prompt.condition != "base" and sample.is_answered_twice():
            return None  # the prompt may depend on the other base answer, so it is answered again
        raise ValueError(
            f"run directory {self.path}: sample {prompt.sample.id!r}, condition {prompt.condition!r}, "
            f"draw {prompt.draw}, field 'prompt': expected the recorded prompt with digest {answers[-1][0]}, got one "
            f"with digest {prompt_digest(prompt, sample.images)}; a text source or the library's wording has changed, "
            "so use another directory"
        )

    def record(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> None:
        """Write responses to prompts of started samples, with a single write."""
        count = len(responses)
        rows = [
            _line(prompt_digest(prompt, self._open[prompt.sample.id].images), response, index, count)
            for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
        ]
        self._responses.append(rows)

    @property
    def samples(self) -> Sequence[str]:
        """The ids of the samples that were recorded before the directory was opened, in order."""
        return tuple(self._samples_at)

    def contents(self, sample_id: str) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        """Yield a sample's content with file and line, once more if a missing image was found later."""
        for line in self._samples_at.get(sample_id, ()):
            for number, row in line.read():
                yield line.path, number, row

    def rows(self, samples: Collection[str]) -> Iterator[RecordedRow]:
        """Yield every row of some samples in order of writing, without those of incomplete batches."""
        locations = {lines for sample in samples for lines in self._responses_at.get(sample, ())}
        for lines in sorted(locations, key=lambda lines: (len(lines.path.name), lines)):
            for number, row in lines.read():
                if row["response"]["sample_id"] in samples:
                    try:
                        yield RecordedRow(lines.path, number, row["prompt"], Response.model_validate(row["response"]))
                    except (KeyError, ValueError) as error:
                        raise invalid_row_error(lines.path, number, row, error) from None

    def add(self, contents: Iterable[Mapping[str, Any]], rows: Sequence[RecordedRow]) -> None:
        """Write samples and rows of another directory, the rows of each sample with a single write."""
        self._samples.append(contents)
        of_sample: dict[str, list[RecordedRow]] = {}
        for row in rows:
            of_sample.setdefault(row.response.sample_id, []).append(row)
        self._responses.append(
            _line(row.prompt, row.response, index, len(together))
            for together in of_sample.values()
            for index, row in enumerate(together)
        )

    def _create_or_join(self, manifest: Manifest | None) -> Manifest:
        path = self.path / "manifest.json"
        begun = self._read_manifest()
        if begun is None:
            if manifest is None:
                raise FileNotFoundError(f"run directory {self.path}: expected a run, found none")
            self.path.mkdir(parents=True, exist_ok=True)
            if create_atomically(path, _as_text(manifest)):
                return manifest
            begun = _manifest_of(path)  # another worker has just created it
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
                "run directory %s: started with %s, resumed with %s: its rows are from both",
                self.path,
                _listed_versions(begun.versions, entry["versions"]),
                _listed_versions(entry["versions"], begun.versions),
            )
        return joined

    def _read_manifest(self) -> Manifest | None:
        path = self.path / "manifest.json"
        if path.exists():
            return _manifest_of(path)
        if stray := next(self.path.glob("responses-*.jsonl"), None):
            raise ValueError(f"run directory {self.path}: expected manifest.json beside {stray.name}, found none")
        return None

    def _new_contents(self, content: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield samples that are new or had unreadable images; refuse changed samples."""
        for sample in content:
            lines = self._samples_at.get(sample["id"])
            if lines is None:
                yield sample
                continue
            [(_, begun)] = lines[-1].read()
            if difference := changed_field(begun, sample):
                field, old, new = difference
                raise ValueError(
                    f"run directory {self.path}: sample {sample['id']!r}, field {field!r}: expected {old}, as recorded "
                    f"in the run, got {new}; use another directory, or another id for a changed sample"
                )
            if None in begun["images"] and sample != begun:
                yield sample


def changed_field(begun: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the first field in which a sample's content has changed, with both values; None = unchanged.

    An image that was or is unreadable does not count as changed.
    """
    if len(begun["images"]) == len(content["images"]):
        pairs = zip(begun["images"], content["images"], strict=True)
        same = [new if old is None or new is None else old for old, new in pairs]
        begun = {**begun, "images": same}
    return first_difference(begun, content)


def _line(prompt: str, response: Response, index: int, count: int) -> dict[str, Any]:
    return {"prompt": prompt, "batch": [index, count], "response": encode_response(response)}


def _manifest_of(path: Path) -> Manifest:
    content = path.read_bytes()
    try:
        return Manifest.model_validate_json(content)
    except ValueError as error:
        got = f"{len(content)} bytes: {error_message(error)}" if content else "an empty file"
        raise ValueError(f"{path}: expected the manifest of a run, got {got}") from None


def _listed_versions(versions: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Return the versions that differ from others."""
    return ", ".join(f"{name} {text}" for name, text in versions.items() if others.get(name, text) != text)


def _as_text(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=2) + "\n"
