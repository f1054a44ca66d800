"""Verdicts cached on disk are requested once, and survive a kill."""

import copy
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vlmrobust import Prompt, Response, Responses
from vlmrobust.judges import Judge, Kept, LMJudge, Panel, RuleJudge, Verdicts
from vlmrobust.metrics import Consistency, default_metrics
from vlmrobust.report import Report


class Counted(Judge):
    """Returns the option given by the thought's number, and logs every thought."""

    log: str
    strictness: int = 0
    broken: tuple[str, ...] = ()
    kill_after: int | None = None

    def conclude(self, responses):
        for thought in responses.think:
            if thought in self.broken:
                raise ValueError(f"cannot read {thought}")
        with Path(self.log).open("a") as file:
            file.write("".join(f"{thought}\n" for thought in responses.think))
        if self.kill_after is not None and len(Path(self.log).read_text().split()) > self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        option = torch.tensor([int(thought) % 3 for thought in responses.think])
        return Verdicts(option, option == 2, option / 4)

    def identity(self):
        return {"class": "Counted", "strictness": self.strictness}


@pytest.fixture
def make_pairs(make_sample):
    def build(count, first=0):
        prompts = [Prompt.of(make_sample(sample_id=f"q{number}")) for number in range(first, first + count)]
        said = [
            Response.parse(prompt, f"<think>{number}</think><answer>A</answer>")
            for number, prompt in enumerate(prompts, start=first)
        ]
        return prompts, said

    return build


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return path


def seen(log):
    return log.read_text().split()


def test_verdicts_equal_the_judges_and_are_requested_once(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(300))
    judge = Counted(log=str(log))
    kept = Kept(judge, tmp_path / "verdicts")
    for _ in range(2):
        verdicts, plain = kept.verdicts(responses), judge.conclude(responses)
        for field in ("option", "unsure", "probability"):
            assert torch.equal(getattr(verdicts, field), getattr(plain, field))
    assert len(seen(log)) == 3 * 300  # twice by the judge itself, once by the one that keeps
    kept.verdicts(Responses.of(*make_pairs(310)))
    assert seen(log)[900:] == [str(number) for number in range(300, 310)]
    assert (kept.title, kept.identity()) == ("Counted", judge.identity())


def test_verdicts_depend_on_question_options_and_letters(make_pairs, log, tmp_path):
    prompts, said = make_pairs(1)
    changed = [
        prompts,
        [prompts[0].replace(question="Which one?")],
        [prompts[0].replace(options=("pink", *prompts[0].options[1:]))],
        [prompts[0].replace(style=prompts[0].style.replace(letters="QRSTUV"))],
    ]
    kept = Kept(Counted(log=str(log)), tmp_path)
    for asked_of in changed:
        kept.verdicts(Responses.of(asked_of, said))
    assert seen(log) == ["0"] * len(changed)


def test_thoughts_with_equal_ends_are_distinct(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(3))
    kept = Kept(Counted(log=str(log)), tmp_path)
    assert kept.verdicts(dataclasses.replace(responses, own_think=("",) * 3)).option.tolist() == [0, 1, 2]


def test_two_judges_never_share_a_file(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(5))
    for strictness in (0, 1):
        Kept(Counted(log=str(log), strictness=strictness), tmp_path / "verdicts").verdicts(responses)
    assert len(seen(log)) == 10
    files = sorted(path.name for path in (tmp_path / "verdicts").iterdir())
    assert len({name.rsplit("-", 1)[0] for name in files}) == 2


def test_only_failed_thoughts_are_judged_again(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(8))
    broken = Counted(log=str(log), broken=("3",))
    verdicts = Kept(broken, tmp_path).verdicts(responses)
    assert verdicts.errors == {3: "ValueError: cannot read 3"}
    again = Kept(broken, tmp_path).verdicts(responses)  # one thought is left, it fails again, and that is one row
    assert (again.errors, again.option.tolist()) == (verdicts.errors, verdicts.option.tolist())
    log.write_text("")
    assert Kept(Counted(log=str(log)), tmp_path).verdicts(responses).errors == {}
    assert seen(log) == ["3"]


def test_error_names_an_invalid_line(make_pairs, log, tmp_path):
    kept = Kept(Counted(log=str(log)), tmp_path / "verdicts")
    kept.verdicts(Responses.of(*make_pairs(2)))
    (file,) = (tmp_path / "verdicts").iterdir()
    file.write_text(file.read_text() + '{"thought": "5f"}\n')
    with pytest.raises(ValueError, match=rf"{file.name}, line 3: expected a verdict, got .*'5f'"):
        kept.verdicts(Responses.of(*make_pairs(2)))


def test_truncated_line_is_judged_again(make_pairs, log, tmp_path):
    kept = Kept(Counted(log=str(log)), tmp_path / "verdicts")
    kept.verdicts(Responses.of(*make_pairs(3)))
    (file,) = (tmp_path / "verdicts").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    kept.verdicts(Responses.of(*make_pairs(3)))
    assert seen(log)[3:] == ["2"]


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{folder!r}]
from test_kept import Counted
from vlmrobust.judges import Kept
from vlmrobust.report import Report
report = Report.load({report!r})
Kept(Counted(log={log!r}, kill_after={kill_after}), {verdicts!r}).verdicts(report.responses)
"""


def test_killed_judge_resumes(make_pairs, log, tmp_path):
    report = Report.from_responses(*make_pairs(1000), [])
    report.save(tmp_path / "report.jsonl")
    verdicts = tmp_path / "verdicts"
    program = KILLED.format(
        folder=str(Path(__file__).parent),
        report=str(tmp_path / "report.jsonl"),
        log=str(log),
        kill_after=500,
        verdicts=str(verdicts),
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = len(seen(log))
    assert 500 < before < 1000
    again = report.score([Consistency(judge=Counted(log=str(log)))], verdicts=verdicts)
    asked_twice = len(seen(log)) - 1000
    assert 0 < asked_twice <= 128  # the batch that the kill took, and no other
    plain = report.score([Consistency(judge=Counted(log=str(log)))])
    assert again.frame["consistency"].equals(plain.frame["consistency"])


def test_evaluator_caches_costly_verdicts(log, tmp_path, make_sample):
    from vlmrobust import Evaluator
    from vlmrobust.testing import FakeModel

    samples = [make_sample(sample_id=f"q{number}") for number in range(5)]
    judge = Numbering(log=str(log))
    metrics = [*default_metrics()[:1], Consistency(judge=judge), Consistency(name="rules", judge=RuleJudge())]
    reports = [Evaluator(FakeModel(opens_images=False), [], metrics).run(samples, tmp_path / "run") for _ in range(2)]
    assert seen(log) == ["asked"]
    assert reports[0].frame.equals(reports[1].frame)
    assert len(list((tmp_path / "run" / "verdicts").iterdir())) == 1
    # What the report holds is the user's judge: two runs of it can be put together.
    both = Report.concat(reports, ["one", "two"])
    assert both.score([Consistency(judge=judge)]).metrics == ("consistency",)


class Numbering(Judge):
    log: str

    def conclude(self, responses):
        with Path(self.log).open("a") as file:
            file.write("asked\n")
        return RuleJudge().conclude(responses)


def test_one_failed_request_of_eight_leaves_seven_verdicts_and_an_error(make_pairs, log, tmp_path):
    prompts, said = make_pairs(8)
    metrics = [*default_metrics()[:1], Consistency(judge=Counted(log=str(log), broken=("5",)))]
    report = Report.from_responses(prompts, said, metrics)
    frame = report.frame
    assert frame["metric_error"].notna().tolist() == [row == 5 for row in range(8)]
    assert frame["metric_error"][5] == "ValueError: cannot read 5"
    assert frame["consistency"].notna().tolist() == [row != 5 and row % 3 != 2 for row in range(8)]
    assert frame["accuracy"].notna().all()
    loaded = Report.load(report.save(tmp_path / "report.jsonl"))
    assert loaded.frame.equals(frame)
    assert json.loads((tmp_path / "report.jsonl").read_text().splitlines()[0])["metrics"][1]["failures"]
    both = Report.concat([report, loaded], ["one", "two"])
    assert [row for row, text in enumerate(both.frame["metric_error"]) if isinstance(text, str)] == [5, 13]
    (finding,) = [finding for finding in report.findings() if finding.kind == "judge_failed"]
    assert finding.text == (
        "base: the judge failed on 1 of 8 thoughts: they have no verdict. The first, of sample 'q5': ValueError: "
        "cannot read 5. Where verdicts are kept, judging again asks for these alone."
    )


def test_panel_keeps_verdicts_if_its_last_judge_fails(make_pairs, log, tmp_path):
    """The rules decide seven of eight, and the only request fails: an error row, with and without a folder."""
    prompts, said = make_pairs(8)
    said = [
        response if number == 3 else response.model_copy(update={"think": "So the answer is A."})
        for number, response in enumerate(said)
    ]
    panel = Panel(RuleJudge(), Counted(log=str(log), broken=("3",)), rule="first_sure")
    report = Report.from_responses(prompts, said, [])
    for folder in (None, tmp_path / "verdicts"):
        frame = report.score([Consistency(judge=panel)], verdicts=folder).frame
        assert frame["metric_error"].notna().tolist() == [number == 3 for number in range(8)]
        assert frame["consistency"].notna().sum() == 7


def of_file(path, option):
    """Return a class `Mine` from a module of its own, which names one option of every thought."""
    path.write_text(
        "import torch\n"
        "from vlmrobust.judges import Judge, Verdicts\n\n\n"
        "class Mine(Judge):\n"
        "    def conclude(self, responses):\n"
        f"        option = torch.full((len(responses),), {option})\n"
        "        return Verdicts.of(option, torch.zeros(len(responses), dtype=torch.bool))\n"
    )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module.Mine


def test_judges_are_distinguished_by_class_source_and_name(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(3))
    for option in (0, 1):
        kept = Kept(of_file(tmp_path / f"mine_{option}.py", option)(), tmp_path / "verdicts")
        assert kept.verdicts(responses).option.tolist() == [option] * 3
    for name in ("a/b", "a-b"):
        Kept(Counted(log=str(log), name=name), tmp_path / "named").verdicts(responses)
    assert len(seen(log)) == 6
    assert len(list((tmp_path / "named").iterdir())) == 2


def test_verdicts_depend_on_the_weights():
    from vlmrobust import demo

    model = copy.deepcopy(demo.model())
    before = LMJudge.of(model).identity()
    with torch.no_grad():
        next(iter(model.model.parameters())).add_(0.1)
    assert LMJudge.of(model).identity() != before


def test_reports_of_different_judges_cannot_be_concatenated_after_loading(make_pairs, log, tmp_path):
    prompts, said = make_pairs(6)
    report = Report.from_responses(prompts, said, [])
    files = [
        report.score([Consistency(judge=judge)]).save(tmp_path / f"{place}.jsonl")
        for place, judge in enumerate((RuleJudge(), Counted(log=str(log))))
    ]
    loaded = [Report.load(file) for file in files]
    assert [one.judge["class"] for one in loaded] == ["RuleJudge", "Counted"]
    assert "how often it errs is not known here" in " ".join(str(loaded[1]).split())  # however it is wrapped
    for pair in (loaded, loaded[::-1]):
        with pytest.raises(ValueError, match="field 'judge"):
            Report.concat(pair, ["one", "two"])
