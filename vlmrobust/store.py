"""The run directory: what was asked and answered so far, on disk after every batch.

    manifest.json           what the run was begun with
    samples-000.jsonl       what each sample asks, one a line
    responses-000.jsonl     one response a line, with the digest of its prompt

A file that ends in `.jsonl` is written by one process and appended to by no other: a resumed run begins files of its
own, so a line that a kill has torn stays the last of its file and is dropped by every reader. Lines of one batch say
how many they are; a batch of which some are missing is asked again as a whole.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from .manifest import Manifest, first_difference, prompt_digest, sample_content
from .types import Prompt, Response, Sample

__all__ = ["RunDirectory", "decode_response", "encode_response", "json_safe", "read_lines", "write_atomically"]

Key = tuple[str, str, int]


class _Finished(NamedTuple):
    prompt: str
    response: Response


def json_safe(value: Any) -> Any:
    """Return a value with every infinity and NaN in it as a string, since JSON has no numbers for them.

    Example:
        >>> json_safe({"logprobs": (-0.5, -float("inf"))})
        {'logprobs': [-0.5, '-Infinity']}
    """
    if isinstance(value, Mapping):
        return {str(key): json_safe(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [json_safe(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


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


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line of a JSON Lines file; a last line without its end is dropped.

    Raises:
        ValueError: any other line is no JSON; the message names file and line.
    """
    *whole, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(whole, start=1):
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected JSON, got {line[:80]!r}: {error}") from None


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by a whole new one: a reader, or a kill, sees the old or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class _OwnFile:
    """A JSON Lines file that this process alone writes, created when there is something to write."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem
        self._file: BinaryIO | None = None

    def append(self, rows: Iterable[Any]) -> None:
        """Write rows in one go and wait until the disk has them."""
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n" for row in rows]
        if not lines:
            return
        self._file = self._file or self._create()
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _create(self) -> BinaryIO:
        index = 0
        while True:
            try:
                return (self._folder / f"{self._stem}-{index:03d}.jsonl").open("xb")
            except FileExistsError:
                index += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class RunDirectory:
    """A run on disk: its manifest, the content of its samples, and every finished response.

    Responses with the status `error` are kept as a record and asked again by the next run: a server may have recovered,
    a file may have been put in its place. Everything else is finished.

    Args:
        path: the folder; made if it is not there.
        manifest: what the run is about to be begun, or resumed, with.
        samples: what it is about to ask.

    Raises:
        ValueError: the folder holds a run of another model, seed or style, another condition under the same name, or
            another sample under the same id; the message names the field and both values.
    """

    def __init__(self, path: str | Path, manifest: Manifest, samples: Sequence[Sample]) -> None:
        self.path = Path(path)
        # Whatever is refused is refused before anything is written.
        begun = self._read_manifest()
        self.manifest = manifest if begun is None else self._joined(begun, manifest)
        content = [json.loads(json.dumps(sample_content(sample))) for sample in samples]
        added = list(self._not_yet_known(content))
        self._images: dict[str, list[str | None]] = {sample["id"]: sample["images"] for sample in content}
        self._finished = dict(self._read_finished())
        self.path.mkdir(parents=True, exist_ok=True)
        self._responses = _OwnFile(self.path, "responses")
        self._samples = _OwnFile(self.path, "samples")
        if self.manifest != begun:
            write_atomically(self.path / "manifest.json", self.manifest.model_dump_json(indent=2) + "\n")
        self._samples.append(added)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; what was recorded is on disk already."""
        self._responses.close()
        self._samples.close()

    def __len__(self) -> int:
        return len(self._finished)

    def finished(self, prompt: Prompt) -> Response | None:
        """Return the response to a prompt from an earlier run, None if it is still to be asked.

        Raises:
            ValueError: what was answered was another prompt under the same key.
        """
        key = (prompt.sample.id, prompt.condition, prompt.draw)
        found = self._finished.get(key)
        if found is None:
            return None
        digest = self._digest(prompt)
        if digest != found.prompt:
            raise ValueError(
                f"run directory {self.path}: sample {key[0]!r}, condition {key[1]!r}, draw {key[2]}, field 'prompt': "
                f"expected the prompt with digest {found.prompt}, as it was answered, got one with digest {digest}; a "
                "text source or the library's wording has changed, so use another directory"
            )
        return found.response

    def record(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> None:
        """Put a finished batch on disk."""
        count = len(responses)
        rows = [
            {"prompt": self._digest(prompt), "batch": [index, count], "response": encode_response(response)}
            for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
        ]
        self._responses.append(rows)

    def _digest(self, prompt: Prompt) -> str:
        return prompt_digest(prompt, self._images[prompt.sample.id])

    def _read_manifest(self) -> Manifest | None:
        path = self.path / "manifest.json"
        if path.exists():
            return Manifest.model_validate_json(path.read_bytes())
        if stray := next(self.path.glob("responses-*.jsonl"), None):
            raise ValueError(f"run directory {self.path}: expected manifest.json beside {stray.name}, found none")
        return None

    def _joined(self, begun: Manifest, manifest: Manifest) -> Manifest:
        try:
            return begun.joined(manifest)
        except ValueError as error:
            raise ValueError(f"run directory {self.path}: {error}; use another directory") from None

    def _not_yet_known(self, content: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield samples that are new, or whose images could not be read before; refuse those that have changed."""
        known = {row["id"]: row for path in self._files("samples") for _, row in read_lines(path)}
        for sample in content:
            begun = known.get(sample["id"])
            if begun is not None:
                self._refuse_change(begun, sample)
            if begun is None or (None in begun["images"] and sample != begun):
                yield sample

    def _refuse_change(self, begun: dict[str, Any], content: dict[str, Any]) -> None:
        # An image that could not be read then, or cannot now, is no other image.
        pairs = zip(begun["images"], content["images"], strict=False)
        if len(begun["images"]) == len(content["images"]):
            same = [new if old is None or new is None else old for old, new in pairs]
            begun = {**begun, "images": same}
        if difference := first_difference(begun, content):
            field, old, new = difference
            raise ValueError(
                f"run directory {self.path}: sample {content['id']!r}, field {field!r}: expected {old}, as the run was "
                f"begun with, got {new}; use another directory, or another id for a changed sample"
            )

    def _files(self, stem: str) -> list[Path]:
        return sorted(self.path.glob(f"{stem}-*.jsonl"))

    def _read_finished(self) -> Iterator[tuple[Key, _Finished]]:
        for path in self._files("responses"):
            batch: list[_Finished] = []
            for number, row in read_lines(path):
                try:
                    index, count = row["batch"]
                    response = decode_response(row["response"])
                    batch = [*(batch if index else ()), _Finished(row["prompt"], response)]
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{path}, line {number}: expected a response, got {row!r:.200}: {error}") from None
                if index + 1 == count == len(batch):
                    yield from ((done.response.key, done) for done in batch if done.response.status != "error")
