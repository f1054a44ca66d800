"""Nothing that users call, see or keep changes unnoticed: it is compared with what was recorded in this folder.

Where a change is meant, `python tests/golden` records what is there now, and the difference is reviewed like code.
"""

import importlib
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from recorded import PICKLES, RUN, TEXTS, Differences, compared, recorded
from runs import CONDITIONS, METRICS, SAMPLES, go_on, planted
from signatures import broken_by
from values import difference, names_of_today, unpickled, value_of

import vlmrobust as vr

RECORD = "if this is meant, run `python tests/golden`, look at the difference and commit it"
_SHOWN = 30


@cache
def differences(name: str) -> Differences:
    return compared(recorded(name), TEXTS[name]())


def listed(lines: list[str]) -> str:
    more = f"\n  … and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "".join(f"\n  {line}" for line in lines[:_SHOWN]) + more


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "import_paths.txt"])
def test_nothing_is_gone_or_changed(name: str) -> None:
    gone, added = differences(name)
    if gone:
        instead = f"\nand instead, or as well:{listed(added)}" if added else ""
        pytest.fail(
            f"{name}: {len(gone)} lines are gone or changed, which users may rely on:{listed(gone)}{instead}\n"
            f"{RECORD}, with an entry under Changed or Removed in CHANGELOG.md",
            pytrace=False,
        )


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_added_is_recorded(name: str) -> None:
    gone, added = differences(name)
    if added and (not gone or name == "import_paths.txt"):
        pytest.fail(f"{name}: {len(added)} lines are new, none is lost:{listed(added)}\n{RECORD}", pytrace=False)


def test_calls_of_today_still_work() -> None:
    """A new parameter without a default is an addition that breaks them."""
    assert broken_by(differences("signatures.txt").added, recorded("signatures.txt")) == []


@pytest.mark.parametrize("path", recorded("import_paths.txt"))
def test_import_paths_lead_to_what_they_named(path: str) -> None:
    module, _, name = path.partition(":")
    value = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    assert value.__name__ == name.rpartition(".")[2]


@cache
def pickles() -> dict[str, str]:
    found: dict[str, str] = json.loads(PICKLES.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", pickles())
def test_pickles_of_before_load_to_equal_values(name: str) -> None:
    assert difference(unpickled(pickles()[name]), value_of(name), name) is None


def test_every_kind_of_value_is_among_the_pickles() -> None:
    assert set(names_of_today()) <= pickles().keys(), RECORD


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def test_a_run_of_before_is_finished(run: Path) -> None:
    """Nothing is asked again: model, style, conditions and every prompt are those that were asked."""
    model = planted()
    report = go_on(run, model)
    assert model.asked == ()
    assert report.conditions == ("base", *CONDITIONS)
    assert len(report) == SAMPLES * (1 + len(CONDITIONS)) * 2


def test_a_run_of_before_is_gone_on_with_where_it_stopped(run: Path) -> None:
    rows = (run / "responses-000.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if json.loads(row)["response"]["condition"] != "correct_think"]
    alone = [json.dumps(json.loads(row) | {"batch": [0, 1]}) for row in kept]
    (run / "responses-000.jsonl").write_text("\n".join(alone) + "\n", encoding="utf-8")
    model, whole = planted(), vr.Report.load(RUN)
    report = go_on(run, model, "casing")
    asked = {condition for _, condition, _ in model.asked}
    assert asked == {"correct_think", "casing"}
    assert len(model.asked) == 2 * 2 * SAMPLES
    before, now = (side.frame.set_index(["sample_id", "condition", "draw"]) for side in (whole, report))
    assert now.loc[before.index, ["answer", "status", "text", *METRICS]].equals(
        before[["answer", "status", "text", *METRICS]]
    )


def test_a_report_of_before_loads(run: Path) -> None:
    loaded = vr.Report.load(run)
    new = go_on(run, planted())
    assert loaded.conditions == new.conditions
    assert loaded.metrics == METRICS
    columns = ["condition", "metric", "value", "difference", "low", "high", "n"]
    old, now = ({name: side.summary[name].tolist() for name in columns} for side in (loaded, new))
    assert difference(old, now, "summary") is None
    assert list(loaded.frame["text"]) == list(new.frame["text"])


def test_no_path_of_a_machine_is_recorded() -> None:
    for path in (*(PICKLES.parent / name for name in TEXTS), RUN / "manifest.json"):
        text = path.read_text(encoding="utf-8")
        assert "/home/" not in text, path.name
        assert "/tmp/" not in text, path.name


def test_the_comparison_tells_changes_from_additions() -> None:
    assert compared(["a  1", "b  2"], ["b  2", "a  1"]) == ([], [])
    assert compared(["a  1"], ["a  1", "b  2"]) == ([], ["b  2"])
    assert compared(["a  1", "b  2"], ["a  1"]) == (["b  2"], [])
    assert compared(["a  1"], ["a  2"]) == (["a  1"], ["a  2"])
    assert compared(["a  0.500", "a  0.700"], ["a  0.501", "a  0.700"]) == ([], [])
    assert compared(["a  0.500"], ["a  0.510"]) == (["a  0.500"], ["a  0.510"])


def test_an_addition_that_has_to_be_given_breaks_calls() -> None:
    known = ["vlmrobust.f()  -> int", "vlmrobust.Style  class ()", "vlmrobust.Style.system  field: str = ''"]
    needed = ["vlmrobust.f(x)  keyword: int, required", "vlmrobust.Style.mode  field: str, required"]
    fine = ["vlmrobust.f(y)  keyword: int = 1", "vlmrobust.g()  -> int", "vlmrobust.g(x)  positional 1, required"]
    assert broken_by([*needed, *fine], known) == needed


def test_a_changed_value_is_told_by_its_field() -> None:
    old = value_of("response")
    assert difference(old, old.replace(n_tokens=13), "response") == "response.n_tokens: 12, now 13"
    assert difference(old, value_of("sample"), "value").startswith("value: Response ")
    assert difference(value_of("reliability"), value_of("reliability"), "") is None
