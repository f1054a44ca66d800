"""A judge whose verdicts stay on disk, thought by thought: after a kill it goes on where it was."""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..jsonl import OwnFile, files, read_lines
from ..keyed import integer_key
from ..types import Responses
from .base import Judge, Verdicts
from .panel import Panel

__all__ = ["Kept"]

_TOGETHER = 128


class Kept(Judge):
    """Another judge, asked only about thoughts of which its verdict is not on disk yet.

    Verdicts are on disk after every 128 thoughts, in files of their own for every judge: what decides its verdicts is
    part of their name. A thought on which the judge failed is asked about again the next time.

    Args:
        judge: who is asked.
        folder: where its verdicts are, such as a run's.

    Attributes:
        judge: the same.
        folder: the same.
        min_contradiction: the judge's.

    Example:
        >>> from vlmrobust.judges import LMJudge
        >>> judge = Kept(LMJudge.from_pretrained("Qwen/Qwen3-32B"), "runs/qwen/verdicts")  # doctest: +SKIP
    """

    judge: Judge
    folder: Path

    def __init__(self, judge: Any = None, folder: Any = None, **fields: Any) -> None:
        given = {"judge": judge, "folder": folder} | fields
        inner = given["judge"]
        own = {"name": inner.title, "min_contradiction": inner.min_contradiction} if isinstance(inner, Judge) else {}
        super().__init__(**own | given)

    @classmethod
    def of(cls, judge: Judge, folder: Path) -> Judge:
        """Return the judge with its verdicts kept in a folder, or itself where that costs more than it saves."""
        if isinstance(judge, Panel):
            return judge.replace(judges=tuple(cls.of(each, folder) for each in judge.judges))
        return cls(judge, folder) if judge.is_costly and not isinstance(judge, cls) else judge

    def identity(self) -> dict[str, Any]:
        """Return what decides the verdicts: the judge's own identity."""
        return self.judge.identity()

    def conclude(self, responses: Responses) -> Verdicts:
        """Look up what is known, and ask about the rest."""
        stem = f"verdicts-{integer_key(*_decisive(self.judge)):032x}"[:25]
        known = dict(_known(self.folder, stem))
        keys = [_key(responses, row) for row in range(len(responses))]
        asked = list({key: row for row, key in enumerate(keys) if key not in known}.values())
        failures: dict[str, str] = {}
        with closing(OwnFile(self.folder, stem)) as file:
            for begin in range(0, len(asked), _TOGETHER):
                rows = asked[begin : begin + _TOGETHER]
                # Whether all of them fail is seen where all of them are: a few here are no fault of the whole.
                said = self.judge.verdicts_of_part(responses.select(rows), is_part=True)
                columns = (said.option.tolist(), said.unsure.tolist(), said.probability.tolist())
                new = {keys[row]: verdict for row, *verdict in zip(rows, *columns, strict=True)}
                failed = {keys[rows[place]]: message for place, message in said.errors.items()}
                kept = {key: verdict for key, verdict in new.items() if key not in failed}
                self.folder.mkdir(parents=True, exist_ok=True)
                file.append(_line(key, *verdict) for key, verdict in kept.items())
                known |= new
                failures |= failed
        option, unsure, probability = zip(*(known[key] for key in keys), strict=True) if keys else ((), (), ())
        verdicts = Verdicts(
            torch.tensor(option, dtype=torch.int64),
            torch.tensor(unsure, dtype=torch.bool),
            torch.tensor(probability, dtype=torch.float32),
        )
        return replace(verdicts, errors={row: failures[key] for row, key in enumerate(keys) if key in failures})


def _decisive(judge: Judge) -> Iterator[str]:
    """Yield what tells a judge from others: its class, its name, its identity and, of a class of one's own, its source.

    A class in a notebook is changed and run again under the same name.
    """
    kind = type(judge)
    yield kind.__qualname__
    yield judge.name
    yield json.dumps(judge.identity(), sort_keys=True, default=str)
    if not kind.__module__.startswith("vlmrobust."):
        try:
            yield inspect.getsource(kind)
        except (OSError, TypeError):  # none, as in an interpreter
            yield kind.__module__


def _key(responses: Responses, row: int) -> str:
    """Return what a verdict is about, all of it: two thoughts of one key are the same thought."""
    order = ("-" if index is None else str(index) for index in responses.order[row])
    shown = (responses.question[row], *responses.options[row], responses.letters[row], *order)
    return f"{integer_key(*shown, responses.think[row], responses.own_think[row], responses.prefill[row]):032x}"


def _line(key: str, option: int, unsure: bool, probability: float) -> Mapping[str, Any]:
    return {"thought": key, "option": option, "unsure": unsure, "probability": str(probability)}


def _known(folder: Path, stem: str) -> Iterator[tuple[str, list[Any]]]:
    for path in files(folder, stem):
        for number, row in read_lines(path):
            try:
                yield row["thought"], [int(row["option"]), bool(row["unsure"]), float(row["probability"])]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: expected a verdict, got {row!r:.200}: {error}") from None
