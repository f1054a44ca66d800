"""Combine judges in a panel, and cache a judge's verdicts on disk."""

import inspect
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..functional import fleiss_kappa, pairwise_agreement, strict_agreement
from ..jsonl import OwnFile, files, read_lines
from ..seeding import integer_key
from ..types import Responses
from .base import Judge, Verdicts

__all__ = ["Agreement", "Kept", "Panel"]


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """The agreement of a panel's judges on whether thoughts are consistent with their answers.

    Attributes:
        judges: their titles.
        count: the number of responses with a verdict of every judge; `strict`, `same_option` and `kappa` are on these.
        strict: the share with equal consistency verdicts of all judges, in [0, 1].
        same_option: the share for which all judges name the same option; at most `strict`, since two judges may name
            different options, both unlike the answer.
        kappa: Fleiss' κ of consistent and inconsistent, at most 1.
        pairwise: `(R, R)` float64, `strict` for every pair of judges, on responses with verdicts of both.
        coverage: `(R,)` float64, the share of answered responses with a verdict of each judge.
    """

    judges: tuple[str, ...]
    count: int
    strict: float
    same_option: float
    kappa: float
    pairwise: Tensor
    coverage: Tensor


class Panel(Judge):
    """Several judges that vote, or judge in sequence.

    By vote, more than half of the judges, or all, must name the same option; otherwise the panel is unsure. Votes have
    no probability. In sequence, the first judge that names an option decides, with its probability, and the others are
    skipped; a language model then reads only what the rules leave undecided.

    Args:
        *judges: at least two.

    Attributes:
        judges: the judges, in order.
        min_contradiction: as for every judge; by default the largest of its judges'.
        rule: "majority": more than half of all judges, those who are unsure included, say the same; "strict": all do;
            "first_sure": the first that names an option; where none does, what the last one says.

    Raises:
        pydantic.ValidationError: fewer than two judges.

    Example:
        >>> from vlmrobust.judges import RuleJudge
        >>> Panel(RuleJudge(name="one"), RuleJudge(name="two"), rule="strict").title
        'Panel'
    """

    judges: Annotated[tuple[Judge, ...], Field(min_length=2)]
    rule: Literal["majority", "strict", "first_sure"] = "majority"

    def __init__(self, *judges: Judge, **fields: Any) -> None:
        given: dict[str, Any] = ({"judges": judges} if judges else {}) | fields
        known = [judge for judge in given.get("judges", ()) if isinstance(judge, Judge)]
        strictest = max((judge.min_contradiction for judge in known), default=0.0)
        super().__init__(**{"min_contradiction": strictest} | given)

    def identity(self) -> dict[str, Any]:
        """Return what decides the verdicts: the rule, every judge, and the threshold where it is not theirs."""
        usual = max(judge.min_contradiction for judge in self.judges)
        own = {} if self.min_contradiction == usual else {"min_contradiction": self.min_contradiction}
        return {"class": "Panel", "rule": self.rule, "judges": [judge.identity() for judge in self.judges]} | own

    def conclude(self, responses: Responses) -> Verdicts:
        """Ask every judge and count, or ask one after another."""
        if self.rule == "first_sure":
            return self._first_sure(responses)
        verdicts = [judge.verdicts(responses) for judge in self.judges]
        votes = _votes(verdicts)
        supporters = (votes[:, :, None] == votes[:, None, :]).sum(dim=2)  # NaN, an unsure judge, equals nothing
        most, position = supporters.max(dim=1)
        needed = len(self.judges) if self.rule == "strict" else len(self.judges) // 2 + 1
        agreed = most >= needed
        leading = votes.gather(1, position[:, None])[:, 0]
        failures = {row: said for each in reversed(verdicts) for row, said in each.errors.items() if not agreed[row]}
        return replace(Verdicts.of(leading.where(agreed, torch.tensor(-1.0)).long(), ~agreed), errors=failures)

    def _first_sure(self, responses: Responses) -> Verdicts:
        count = len(responses)
        found = Verdicts.of(torch.full((count,), -1), torch.ones(count, dtype=torch.bool))
        failures: dict[int, str] = {}
        left = torch.arange(count)
        for judge in self.judges:
            rows = left.tolist()
            said = judge.verdicts_of_part(responses.select(rows), is_part=len(rows) < count)
            found.put(rows, said)
            failures |= {rows[place]: message for place, message in said.errors.items()}
            left = left[said.unsure.cpu() | (said.option.cpu() < 0)]
            if not len(left):
                break
        return replace(found, errors={row: failures[row] for row in left.tolist() if row in failures})

    def agreement(self, responses: Responses) -> Agreement:
        """Return how far the judges agree whether each thought asserts what was answered.

        Responses without an answer and empty thoughts are excluded; NaN if nothing remains.

        Args:
            responses: N responses.

        Source:
            Zhao et al., arXiv:2602.12506, Table 3: strict three-way agreement and Fleiss' κ of three judges.
        """
        verdicts = [judge.verdicts(responses) for judge in self.judges]
        consistent = torch.stack(
            [judge.agrees(each, responses) for judge, each in zip(self.judges, verdicts, strict=True)], dim=1
        )
        answered = responses.has_status("answered")
        judged = ~consistent.isnan()
        return Agreement(
            judges=tuple(judge.title for judge in self.judges),
            count=int(judged.all(dim=1).sum()),
            strict=strict_agreement(consistent),
            same_option=strict_agreement(_votes(verdicts).masked_fill(~judged, torch.nan)),
            kappa=fleiss_kappa(consistent),
            pairwise=pairwise_agreement(consistent),
            coverage=judged[answered].double().mean(dim=0),
        )


def _votes(verdicts: list[Verdicts]) -> Tensor:
    """Return the `(N, R)` options that judges name, -1 for none, NaN for unsure."""
    named = [each.option.cpu().double().masked_fill(each.unsure.cpu(), torch.nan) for each in verdicts]
    return torch.stack(named, dim=1)


_BATCH = 128


class Kept(Judge):
    """A judge whose verdicts are cached on disk.

    Verdicts are saved after every 128 thoughts, in separate files for every judge; the file name contains a hash of
    everything that determines the verdicts. A thought on which the judge failed is judged again the next time.

    Args:
        judge: the judge.
        folder: the folder for its verdicts, such as a run's.

    Attributes:
        judge: the judge.
        folder: the folder.
        min_contradiction: that of the judge.

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
        """Return the judge with its verdicts cached in a folder, or itself if it is not costly."""
        if isinstance(judge, Panel):
            return judge.replace(judges=tuple(cls.of(each, folder) for each in judge.judges))
        return cls(judge, folder) if judge.is_costly and not isinstance(judge, cls) else judge

    def identity(self) -> dict[str, Any]:
        """Return the identity of the judge."""
        return self.judge.identity()

    def conclude(self, responses: Responses) -> Verdicts:
        """Look up known verdicts, and judge the other thoughts."""
        stem = f"verdicts-{integer_key(*_identifiers(self.judge)):032x}"[:25]
        known = dict(_saved_verdicts(self.folder, stem))
        keys = [_key(responses, row) for row in range(len(responses))]
        missing = list({key: row for row, key in enumerate(keys) if key not in known}.values())
        failures: dict[str, str] = {}
        with closing(OwnFile(self.folder, stem)) as file:
            for begin in range(0, len(missing), _BATCH):
                rows = missing[begin : begin + _BATCH]
                # Whether every thought fails is checked over all responses, so tolerate a failed batch here.
                verdicts = self.judge.verdicts_of_part(responses.select(rows), is_part=True)
                columns = (verdicts.option.tolist(), verdicts.unsure.tolist(), verdicts.probability.tolist())
                new = {keys[row]: verdict for row, *verdict in zip(rows, *columns, strict=True)}
                failed = {keys[rows[index]]: message for index, message in verdicts.errors.items()}
                valid = {key: verdict for key, verdict in new.items() if key not in failed}
                self.folder.mkdir(parents=True, exist_ok=True)
                file.append(
                    {"thought": key, "option": option, "unsure": unsure, "probability": str(probability)}
                    for key, (option, unsure, probability) in valid.items()
                )
                known |= new
                failures |= failed
        option, unsure, probability = zip(*(known[key] for key in keys), strict=True) if keys else ((), (), ())
        verdicts = Verdicts(
            torch.tensor(option, dtype=torch.int64),
            torch.tensor(unsure, dtype=torch.bool),
            torch.tensor(probability, dtype=torch.float32),
        )
        return replace(verdicts, errors={row: failures[key] for row, key in enumerate(keys) if key in failures})


def _identifiers(judge: Judge) -> Iterator[str]:
    """Yield everything that identifies a judge: class, name, identity and, for a custom class, its source.

    A class in a notebook may be changed and run again under the same name.
    """
    kind = type(judge)
    yield kind.__qualname__
    yield judge.name
    yield json.dumps(judge.identity(), sort_keys=True, default=str)
    if not kind.__module__.startswith("vlmrobust."):
        try:
            yield inspect.getsource(kind)
        except (OSError, TypeError):  # no source, as in an interpreter
            yield kind.__module__


def _key(responses: Responses, row: int) -> str:
    """Return the key of a verdict, a hash of everything that the judge sees."""
    order = ("-" if index is None else str(index) for index in responses.order[row])
    shown = (responses.question[row], *responses.options[row], responses.letters[row], *order)
    return f"{integer_key(*shown, responses.think[row], responses.own_think[row], responses.prefill[row]):032x}"


def _saved_verdicts(folder: Path, stem: str) -> Iterator[tuple[str, list[Any]]]:
    for path in files(folder, stem):
        for number, row in read_lines(path):
            try:
                yield row["thought"], [int(row["option"]), bool(row["unsure"]), float(row["probability"])]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: expected a verdict, got {row!r:.200}: {error}") from None
