"""Test that every judge of a study has its own file, whatever its name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Report
from vlmrobust.catalogue import slug_of
from vlmrobust.study import Study
from vlmrobust.study.entries import JudgeEntry

NAMES = st.builds("{}:{}".format, st.sampled_from(["hf", "openai"]), st.text("ab/-+%:._ é\\", min_size=1, max_size=6))


@given(NAMES, NAMES)
def test_no_two_judges_have_the_same_slug(one: str, other: str) -> None:
    assert (slug_of(one) == slug_of(other)) == (one == other)
    assert Path(slug_of(one)).name == slug_of(one)
    assert JudgeEntry(name=one).name == one


@pytest.mark.usefixtures("quick", "loaded")
def test_judges_whose_names_differ_by_a_slash_keep_two_files(study: Callable[..., Study], folder: Path) -> None:
    entries = {
        "models": [{"name": "other", "factory": "models.py:planted"}],
        "benchmarks": [{"name": "few", "data": "rows.jsonl", "limit": 4}],
    }
    result = study(**entries, judges=["hf:org/contrary", "hf:org-contrary"]).run(folder / "out")
    files = sorted(path.name for path in (folder / "out").rglob("report-*"))
    assert files == ["report-hf-org+contrary.parquet", "report-hf-org-contrary.parquet"]
    assert set(result.judged["judge"]) == {"hf:org/contrary", "hf:org-contrary"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["rules", "hf:org/contrary"])
def test_judged_reports_of_earlier_versions_are_taken_over(
    study: Callable[..., Study], folder: Path, loaded: list[str], name: str
) -> None:
    entries = {
        "models": [{"name": "other", "factory": "models.py:planted"}],
        "benchmarks": [{"name": "few", "data": "rows.jsonl", "limit": 4}],
    }
    first = study(**entries, judges=[name]).run(folder / "out")
    [file] = (folder / "out").rglob("report-*")
    lines = Report.load(file).save(file.with_suffix(".jsonl"))
    file.unlink()
    del loaded[:]
    again = study(**entries, judges=[name]).run(folder / "out")
    assert loaded == []  # what is in the lines is not judged anew
    assert (file.is_file(), lines.exists()) == (True, False)
    assert again.judged.equals(first.judged)
    assert [row.file for row in again.judgement_rows] == [str(file.relative_to(folder / "out"))]
