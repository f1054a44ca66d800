"""Test `vlmrobust judge`: an existing run is judged again without running its model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from typer.testing import Result

from vlmrobust import Labels
from vlmrobust.functional import fleiss_kappa
from vlmrobust.judges import Judge, LMJudge, OpenAIJudge, Panel, RuleJudge, Verdicts, check
from vlmrobust.locking import DirectoryLock
from vlmrobust.metrics import Consistency
from vlmrobust.report import Report

Command = Callable[..., Result]
Runs = dict[str, Path]


class Coin(Judge):
    """A judge that names the first option for every other thought and is unsure about every seventh."""

    is_costly: ClassVar[bool] = False  # its verdicts depend on the order of the thoughts and must not be cached

    def conclude(self, responses: Any) -> Verdicts:
        place = torch.arange(len(responses))
        return Verdicts.of(place % 2, place % 7 == 0)

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"name": "org/coin"}


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def load(*arguments: Any, **settings: Any) -> Coin:
        calls.append((arguments, settings))
        return Coin()

    monkeypatch.setattr(LMJudge, "from_pretrained", load)
    return calls


def test_another_judge_changes_consistency_alone(command: Command, runs: Runs, tmp_path: Path, coin: list[Any]) -> None:
    file = tmp_path / "coin.jsonl"
    before = (runs["torn"] / "report.parquet").read_bytes()
    arguments = ("judge", runs["torn"], "--judge", "hf:org/coin", "--dtype", "bfloat16", "--device", "cpu")
    result = command(*arguments, "--out", file, "--json")
    assert result.exit_code == 0, result.output
    assert coin == [(("org/coin",), {"dtype": "bfloat16", "device": "cpu"})]
    assert (runs["torn"] / "report.parquet").read_bytes() == before
    old, new = Report.load(runs["torn"]), Report.load(file)
    expected = old.score([Consistency(judge=Coin())])
    assert new.frame["consistency"].equals(expected.frame["consistency"])
    family = [name for name in old.metrics if "consisten" in name]
    assert new.frame.drop(columns=family).equals(old.frame.drop(columns=family))
    rest = "metric not in @family"
    assert new.summary.query(rest).equals(old.summary.query(rest))
    assert new.summary["metric"].tolist() == old.summary["metric"].tolist()
    fresh = expected.summary.query("metric == 'consistency'")["value"].tolist()
    assert new.summary.query("metric == 'consistency'")["value"].tolist() == fresh
    assert new.manifest["judge"] == {"name": "org/coin", "class": "Coin"}
    assert new.manifest["model"] == old.manifest["model"]


def test_metrics_that_depend_on_the_judge_may_be_named(
    command: Command, runs: Runs, own: Path, tmp_path: Path, coin: list[Any]
) -> None:
    arguments = ("judge", runs["torn"], "--judge", "hf:org/coin", "--out", tmp_path / "a.jsonl")
    result = command(*arguments, "--metrics", f"consistent_accuracy,{own}:Sure", "--json")
    assert result.exit_code == 0, result.output
    assert {row["metric"] for row in json.loads(result.stdout)["summary"]} == {"consistent_accuracy", "sure"}
    frame = Report.load(tmp_path / "a.jsonl").frame
    assert frame["sure"].equals(frame["consistency"].rename("sure"))  # the coin's verdicts too
    assert not frame["sure"].equals(Report.load(runs["torn"]).frame["consistency"].rename("sure"))
    table = command(*arguments[:-1], tmp_path / "c.jsonl", "--metrics", "consistent_accuracy").stdout
    assert "consistent accuracy" in table
    for wrong, message in (
        ("accuracy", "expected metrics that depend on the judge, got 'accuracy'; "),
        ("consistancy", "got 'consistancy'; did you mean 'consistency'?"),
    ):
        refused = command(*arguments[:-1], tmp_path / "b.jsonl", "--metrics", wrong)
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert not (tmp_path / "b.jsonl").exists()


def test_changes_are_shown(command: Command, runs: Runs, tmp_path: Path, coin: list[Any]) -> None:
    arguments = ("judge", runs["torn"], "--judge", "hf:org/coin", "--out")
    found = json.loads(command(*arguments, tmp_path / "a.jsonl", "--json").stdout)
    sides = [Report.load(path).frame["consistency"] for path in (runs["torn"], tmp_path / "a.jsonl")]
    both = sides[0].notna() & sides[1].notna()
    agreed = found["agreement"]
    assert agreed["old_verdicts"] == int(sides[0].notna().sum())
    assert agreed["new_verdicts"] == int(sides[1].notna().sum())
    assert agreed["both"] == int(both.sum())
    assert agreed["same"] == pytest.approx(float((sides[0] == sides[1])[both].mean()))
    assert len(agreed["changed"]) == int((sides[0] != sides[1])[both].sum())
    ratings = torch.tensor([sides[0][both].tolist(), sides[1][both].tolist()]).T
    assert agreed["kappa"] == pytest.approx(fleiss_kappa(ratings))
    assert agreed["kappa"] == pytest.approx(cohen_kappa_score(*ratings.T.tolist()), abs=0.2)
    assert {row["metric"] for row in found["summary"]} == {
        name for name in Report.load(runs["torn"]).metrics if "consisten" in name
    }
    text = command(*arguments, tmp_path / "b.jsonl").stdout
    assert text.startswith("RuleJudge → Coin org/coin\n")
    assert f"the same on {agreed['same']:.1%} of the {agreed['both']} with both" in text
    sample, condition, _ = agreed["changed"][0]
    assert f"  changed: {sample}, {condition}\n" in text
    assert f"… and {len(agreed['changed']) - 5} more" in text


def test_the_same_judge_agrees_with_itself_and_is_saved_next_to_the_report(command: Command, runs: Runs) -> None:
    result = command("judge", runs["poor"], "--judge", "rules", "--json")
    assert json.loads(result.stdout)["agreement"]["same"] == 1.0
    file = runs["poor"] / "report-rules.parquet"
    assert str(file) in result.stderr
    saved = file.read_bytes()
    again = command("judge", runs["poor"], "--judge", "rules")
    assert (again.exit_code, again.stdout) == (2, "")
    assert f"expected a new file, but {file} exists; give another one with --out" in again.stderr
    assert file.read_bytes() == saved
    assert command("report", file).stdout == command("report", runs["poor"]).stdout
    assert saved.startswith(b"PAR1")
    file.unlink()


def test_a_judged_report_of_an_earlier_version_is_known_and_replaced_once_it_is_outdated(
    command: Command, runs: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    report = Report.load(runs["poor"])
    report.save(run / "report.jsonl")
    lines = report.save(run / "report-rules.jsonl")
    refused = command("judge", run, "--judge", "rules")
    assert refused.exit_code == 2
    assert f"expected a new file, but {lines} exists; give another one with --out" in refused.stderr
    report._select(range(6)).save(lines)
    assert command("judge", run, "--judge", "rules").exit_code == 0
    assert not lines.exists()
    assert len(Report.load(run / "report-rules.parquet")) == len(report)


@pytest.mark.parametrize(("name", "begin"), [("mine.jsonl", b"{"), ("mine.parquet", b"PAR1"), ("mine", b"PAR1")])
def test_the_suffix_decides_the_format(command: Command, runs: Runs, tmp_path: Path, name: str, begin: bytes) -> None:
    assert command("judge", runs["poor"], "--judge", "rules", "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_several_judges_are_a_panel(command: Command, runs: Runs, tmp_path: Path, coin: list[Any]) -> None:
    judges = ("--judge", "rules", "--judge", "hf:org/coin", "--rule", "strict")
    assert command("judge", runs["torn"], *judges, "--out", tmp_path / "panel.jsonl").exit_code == 0
    new = Report.load(tmp_path / "panel.jsonl")
    panel = Panel(RuleJudge(), Coin(), rule="strict")
    expected = Report.load(runs["torn"]).score([Consistency(judge=panel)])
    assert new.frame["consistency"].equals(expected.frame["consistency"])
    assert new.manifest["judge"] == {
        "class": "Panel",
        "rule": "strict",
        "judges": [{"class": "RuleJudge"}, {"name": "org/coin", "class": "Coin"}],
    }


def test_a_judge_behind_a_server_gets_its_key_from_the_environment(
    command: Command, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def conclude(self: OpenAIJudge, responses: Any) -> Verdicts:
        asked.append((self.model, self.base_url, self.api_key))
        return RuleJudge().conclude(responses)

    monkeypatch.setattr(OpenAIJudge, "conclude", conclude)
    monkeypatch.setenv("KEY_OF_THE_SERVER", "hunter2")
    server = ("--base-url", "http://localhost:8000/v1", "--api-key-env", "KEY_OF_THE_SERVER")
    file = tmp_path / "served.jsonl"
    result = command("judge", runs["good"], "--judge", "openai:org/judge", *server, "--out", file)
    assert result.exit_code == 0, result.output
    [(model, url, key)] = asked
    assert (model, url, key.get_secret_value()) == ("org/judge", "http://localhost:8000/v1", "hunter2")
    assert Report.load(file).manifest["judge"]["name"] == "org/judge"
    assert "hunter2" not in file.read_text() + result.output


@pytest.mark.parametrize("name", ["rule", "rules:x", "hf:", "hf", "vllm:", "openai:", "lm:org/name"])
def test_an_unknown_judge_is_refused(command: Command, runs: Runs, tmp_path: Path, name: str) -> None:
    result = command("judge", runs["good"], "--judge", name, "--out", tmp_path / "judged.jsonl")
    assert result.exit_code == 2
    assert result.stderr == f"Error: --judge: expected rules, self, hf:NAME, vllm:NAME or openai:NAME, got {name!r}\n"
    assert not (tmp_path / "judged.jsonl").exists()


def test_a_judge_is_checked_on_the_thoughts_of_the_package_or_of_a_file(command: Command, tmp_path: Path) -> None:
    shown = command("judge", "--check", "--judge", "rules")
    assert shown.exit_code == 0, shown.output
    assert "balanced accuracy" in shown.stdout
    assert "Thoughts of the package" in shown.stdout
    row = {"thought": "So it is blue.", "question": "Which?", "options": ["red", "blue"], "label": 1, "style": "x"}
    rows = [row, {**row, "label": 0}, {**row, "thought": "Who knows?", "style": "y"}]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    written = json.loads(command("judge", file, "--check", "--judge", "rules", "--json").stdout)
    assert (written["judge"], written["thoughts"], written["named"]) == (
        "RuleJudge",
        3,
        {**written["named"], "value": 0.5, "cases": 2},
    )
    assert set(written["styles"]) == {"x", "y"}
    assert written["styles"]["y"]["named"] == {"value": None, "low": None, "high": None, "cases": 0}
    assert "Thoughts of the package" not in command("judge", file, "--check", "--judge", "rules").stdout


def test_a_judge_without_thoughts_is_refused(command: Command, tmp_path: Path) -> None:
    result = command("judge", "--judge", "rules")
    assert result.exit_code == 2
    assert result.stderr == "Error: expected a run directory or a saved report, or --check, got neither\n"
    (tmp_path / "bad.jsonl").write_text('{"thought": 1}\n')
    result = command("judge", tmp_path / "bad.jsonl", "--check", "--judge", "rules")
    assert result.exit_code == 2
    assert "bad.jsonl, line 1, field 'thought': expected a str, got 1" in result.stderr


def test_the_first_sure_of_a_panel_decides(command: Command, runs: Runs, tmp_path: Path, coin: list[Any]) -> None:
    judges = ("--judge", "rules", "--judge", "hf:org/coin", "--rule", "first_sure")
    assert command("judge", runs["torn"], *judges, "--out", tmp_path / "panel.jsonl").exit_code == 0
    new = Report.load(tmp_path / "panel.jsonl")
    assert new.manifest["judge"]["rule"] == "first_sure"
    rules = Report.load(runs["torn"]).score([Consistency(judge=RuleJudge())]).frame["consistency"]
    assert (new.frame["consistency"][rules.notna()] == rules[rules.notna()]).all()


def test_self_is_the_model_of_the_run(
    command: Command, runs: Runs, tmp_path: Path, coin: list[tuple[tuple[Any, ...], dict[str, Any]]]
) -> None:
    refused = command("judge", "--check", "--judge", "self")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "Error: --judge: expected self beside a run of a checkpoint, got none; hf:NAME names one\n"
    )
    report = Report.load(runs["good"])
    report.manifest["model"] = {"name": "org/vlm", "weights": "0123"}
    report.save(tmp_path / "report.jsonl")
    result = command("judge", tmp_path / "report.jsonl", "--judge", "self", "--out", tmp_path / "new.jsonl")
    assert result.exit_code == 0, result.output
    assert coin == [(("org/vlm",), {"dtype": "auto", "device": None})]


def test_a_judge_on_vllm_gets_the_options_of_the_engine(
    command: Command, runs: Runs, tmp_path: Path, coin: list[tuple[tuple[Any, ...], dict[str, Any]]]
) -> None:
    report = Report.load(runs["good"])
    own = {"class": "vlmrobust.models.vllm.model.VLLMModel", "name": "org/vlm", "all_weights": "0123"}
    report.manifest["model"] = own | {"engine": {"max_model_len": 8192, "quantization": "fp8"}}
    report.save(tmp_path / "report.jsonl")
    options = ("--engine-option", "max_model_len=512", "--engine-option", "enforce_eager=true")
    judges = ("--judge", "vllm:org/judge", "--judge", "self", "--judge", "hf:org/other", "--device", "cpu")
    result = command("judge", tmp_path / "report.jsonl", *judges, *options, "--out", tmp_path / "new.jsonl")
    assert result.exit_code == 0, result.output
    given = {"max_model_len": 512, "enforce_eager": True}
    on_vllm = {"engine": "vllm", "dtype": "auto", "device": None}
    assert coin == [
        (("org/judge",), on_vllm | given),
        (("org/vlm",), on_vllm | {"quantization": "fp8"} | given),  # as it was run
        (("org/other",), {"dtype": "auto", "device": "cpu"}),
    ]
    refused = command("judge", runs["good"], "--judge", "rules", *options)
    assert refused.exit_code == 2
    assert refused.stderr == "Error: --engine-option: expected a judge on vLLM (vllm:NAME), got rules\n"
    for rest in (("--out", tmp_path / "new.jsonl"), ("--labels", tmp_path / "labels.json")):  # before anything is read
        refused = command("judge", tmp_path / "nowhere", "--judge", "rules", "--engine-option", "eager", *rest)
        assert refused.stderr == "Error: --engine-option: expected name=value, got 'eager'\n"


class FailingJudge(Judge):
    """A judge that names the first option and raises if a thought contains a word."""

    word: str

    def conclude(self, responses: Any) -> Verdicts:
        for thought in responses.think:
            if self.word in thought:
                raise ValueError(f"cannot read {self.word!r}")
        return Verdicts.of(
            torch.zeros(len(responses), dtype=torch.int64), torch.zeros(len(responses), dtype=torch.bool)
        )

    def identity(self) -> dict[str, Any]:
        return {"class": "FailingJudge"}


def test_thoughts_on_which_the_judge_failed_are_judged_again(
    command: Command, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thought = next(text for text in Report.load(runs["poor"]).responses.think if text.strip())
    monkeypatch.setattr(LMJudge, "from_pretrained", lambda *_, **__: FailingJudge(word=thought))
    arguments = ("judge", runs["poor"], "--judge", "hf:org/failing", "--out", tmp_path / "judged.jsonl")
    assert command(*arguments).exit_code == 0
    failed = Report.load(tmp_path / "judged.jsonl").frame["metric_error"]
    assert 0 < failed.notna().sum() < len(failed)
    assert failed.dropna().iloc[0].startswith("ValueError: cannot read")
    monkeypatch.setattr(LMJudge, "from_pretrained", lambda *_, **__: FailingJudge(word="nowhere"))
    assert command(*arguments).exit_code == 0
    assert Report.load(tmp_path / "judged.jsonl").frame["metric_error"].isna().all()
    refused = command(*arguments)
    assert refused.exit_code == 2
    assert "expected a new file, but" in refused.stderr


def test_a_judge_is_checked_on_the_runs_own_thoughts(command: Command, runs: Runs, tmp_path: Path) -> None:
    report = Report.load(runs["good"])
    read = [thought.labelled(thought.order[0]) for thought in report.draw_labels(5)]
    labels = Labels(seed=None, labels=tuple(read)).save(tmp_path / "labels.json")
    result = command("judge", runs["good"], "--check", "--labels", labels, "--judge", "rules", "--json")
    assert result.exit_code == 0, result.output
    checked = check(RuleJudge(), report.labelled(labels))
    assert json.loads(result.stdout)["coverage"]["value"] == pytest.approx(checked.coverage.value, nan_ok=True)
    for arguments in (("--check", "--labels", labels), (runs["good"], "--labels", labels)):
        refused = command("judge", *arguments, "--judge", "rules")
        assert refused.exit_code == 2
        assert refused.stderr == "Error: --labels: expected --check and the run of the labels with it\n"


def test_a_report_shows_consistency_as_estimated_with_labels(command: Command, runs: Runs, tmp_path: Path) -> None:
    import vlmrobust as vr

    run = vr.Evaluator(vr.testing.FakeModel(), [vr.perturbations.WrongThink()]).run(
        vr.demo.samples(50), tmp_path / "run"
    )
    read = [thought.labelled(thought.order[0]) for thought in run.draw_labels(40)]
    labels = Labels(seed=0, labels=tuple(read)).save(tmp_path / "labels.json")
    shown = command("report", tmp_path / "run", "--labels", labels)
    assert shown.exit_code == 0, shown.output
    row = run.consistency(labels).iloc[0]
    assert f"{row['value']:.3f} [{row['value_low']:.3f}, {row['value_high']:.3f}]" in shown.stdout
    listed = json.loads(command("report", tmp_path / "run", "--labels", labels, "--json").stdout)
    assert [one["verdict"] for one in listed] == ["consistent", "inconsistent"] * 2
    refused = command("report", tmp_path / "run", "--labels", labels, "--metrics", "accuracy")
    assert refused.exit_code == 2
    assert "--labels: cannot be combined with --by, --contrast or --metrics" in refused.stderr


def test_a_run_directory_in_use_is_not_written_to(
    command: Command, runs: Runs, tmp_path: Path, coin: list[Any]
) -> None:
    run = tmp_path / "run"
    Report.load(runs["torn"]).save(run / "report.jsonl")
    told = f"Error: run directory {run}: expected no other run in it, but process "
    with DirectoryLock(run):
        for given in (("hf:org/coin",), ("hf:org/coin", "--out", tmp_path / "else.jsonl"), ("rules",)):
            refused = command("judge", run, "--judge", *given)
            assert refused.exit_code == 2
            assert refused.stderr.startswith(told)
            assert "--debug" not in refused.stderr
        assert not coin, "the judge is not loaded"
        assert command("judge", run, "--judge", "rules", "--out", tmp_path / "rules.jsonl").exit_code == 0
    assert command("judge", run / "report.jsonl", "--judge", "hf:org/coin").exit_code == 0
    assert {path.name for path in run.iterdir()} == {"report.jsonl", "report-hf-org+coin.parquet"}


def test_a_judge_at_work_keeps_others_out(
    command: Command, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    Report.load(runs["torn"]).save(run / "report.jsonl")
    refused: list[Result] = []

    class Interrupted(Coin):
        def conclude(self, responses: Any) -> Verdicts:
            refused.append(command("judge", run, "--judge", "rules"))
            return super().conclude(responses)

    monkeypatch.setattr(LMJudge, "from_pretrained", lambda *_, **__: Interrupted())
    assert command("judge", run, "--judge", "hf:org/coin").exit_code == 0
    assert refused
    assert {result.exit_code for result in refused} == {2}
    assert not (run / "report-rules.parquet").exists()
