"""The rows of a study's own tables; what a report has already is its own, with names in front."""

from dataclasses import dataclass

__all__ = ["AgreementRow", "FindingRow", "JudgementRow", "RunRow"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One model, at one checkpoint, asked one benchmark.

    Attributes:
        model, checkpoint, benchmark: their names; the checkpoint's is empty where a model has but one.
        step: of the checkpoint, as text; empty = not given.
        status: finished, or failed.
        samples: how many were asked.
        left_out: rows of the benchmark that made no sample: no multiple-choice question, or with a problem.
        responses: how many there are.
        errors: those among them whose call failed.
        folder: the run directory, below that of the study.
        error: why it failed; empty if it did not.
    """

    model: str
    checkpoint: str
    step: str
    benchmark: str
    status: str
    samples: int
    left_out: int
    responses: int
    errors: int
    folder: str
    error: str


@dataclass(frozen=True, slots=True)
class JudgementRow:
    """One judge's reading of one run.

    Attributes:
        model, checkpoint, benchmark, judge: names.
        status: judged, or failed.
        answered: number of answered responses.
        verdicts: of how many of them the judge says whether thought and answer are consistent.
        file: the judged report, below the folder of the study.
        error: why it failed.
    """

    model: str
    checkpoint: str
    benchmark: str
    judge: str
    status: str
    answered: int
    verdicts: int
    file: str
    error: str


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """How far judges agree whether the thoughts of a run are consistent with its answers.

    Attributes:
        model, checkpoint, benchmark: of the run.
        judges: their names.
        n: number of responses on which all of them have a verdict; everything is on these.
        strict: the share of which all say the same, in [0, 1].
        strict_low, strict_high: 95 % bootstrap interval over groups of samples.
        kappa: Fleiss' κ, at most 1.
        low, high: its 95 % interval, likewise.
        note: why something is undefined.
    """

    model: str
    checkpoint: str
    benchmark: str
    judges: str
    n: int
    strict: float
    strict_low: float
    strict_high: float
    kappa: float
    low: float
    high: float
    note: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One sentence that the numbers of a run support.

    Attributes:
        model, checkpoint, benchmark: which run.
        condition: what it is about; "" = the whole run.
        kind: one of `report.findings.KINDS`.
        is_limit: it says what can't be concluded.
        text: the sentence.
    """

    model: str
    checkpoint: str
    benchmark: str
    condition: str
    kind: str
    is_limit: bool
    text: str
