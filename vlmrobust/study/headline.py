"""What a study comes to, in at most five sentences."""

from typing import TYPE_CHECKING

from ..naming import readable

if TYPE_CHECKING:
    from .result import StudyResult

__all__ = ["headline"]

_NAMED = 3


def headline(result: "StudyResult") -> tuple[str, ...]:
    """Return how much is finished, and under which conditions accuracy falls in how many runs, most often first."""
    finished = sum(row.status == "finished" for row in result.run_rows)
    all_of_them = len(result.run_rows)
    failed = "" if finished == all_of_them else "; the table of runs says what failed"
    said = [f"{finished} of {all_of_them} runs finished{failed}."]
    found = result.findings
    falls = found.loc[found["kind"] == "falls", "condition"].tolist()
    by_count = sorted(dict.fromkeys(falls), key=falls.count, reverse=True)
    changes = result.summary[result.summary["metric"] == "accuracy"]
    for condition in by_count[:_NAMED]:
        most = -changes.loc[changes["condition"] == condition, "difference"].min()
        count = falls.count(condition)
        said.append(f"Accuracy falls under {readable(condition)} in {count} of {finished} runs, by up to {most:.3f}.")
    if others := len(by_count[_NAMED:]):
        said.append(f"It falls in some run under {others} more condition{'s' * (others > 1)}.")
    if finished and not falls:
        said.append("No run shows a fall of accuracy, corrected for all that is compared.")
    return tuple(said)
