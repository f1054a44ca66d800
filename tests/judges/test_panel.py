"""Panels of judges, and verdicts cached on disk, which are requested once and survive a kill."""

import copy
import dataclasses
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import make_samples
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import fleiss_kappa

from vlmrobust import Prompt, Response, Responses
from vlmrobust.judges import Agreement, Judge, Kept, LMJudge, Panel, RuleJudge, Verdicts
from vlmrobust.metrics import Consistency, default_metrics
from vlmrobust.report import Report

UNSURE = None


class FixedJudge(Judge):
    """Returns fixed verdicts."""

    says: tuple[int | None, ...]
    asked: Any = None

    def conclude(self, responses):
        if self.asked is not None:
            self.asked.append(len(responses))
        options = torch.tensor([-1 if option is UNSURE else option for option in self.says], dtype=torch.int64)
        return Verdicts.of(options, torch.tensor([option is UNSURE for option in self.says], dtype=torch.bool))


def make_responses(choices, status="answered", think="It is so."):
    samples = make_samples(len(choices), answer=0)
    said = [
        Response(sample_id=sample.id, condition="base", think=think, answer=choice, status=status)
        for sample, choice in zip(samples, choices, strict=True)
    ]
    return Responses.of([Prompt.of(sample) for sample in samples], said)


VOTES = st.integers(2, 5).flatmap(
    lambda judges: st.lists(
        st.lists(st.sampled_from([UNSURE, -1, 0, 1, 2]), min_size=judges, max_size=judges), min_size=1, max_size=12
    )
)


def panel_of(votes, rule="majority", **fields):
    judges = [
        FixedJudge(says=tuple(row[i] for row in votes), name=f"judge {i}", **fields) for i in range(len(votes[0]))
    ]
    return Panel(*judges, rule=rule)


@given(VOTES)
def test_the_vote_is_counted(votes):
    responses = make_responses([0] * len(votes))
    for rule in ("majority", "strict"):
        verdicts = panel_of(votes, rule).verdicts(responses)
        assert verdicts.probability.isnan().all()
        for row, option, unsure in zip(votes, verdicts.option.tolist(), verdicts.unsure.tolist(), strict=True):
            named = Counter(vote for vote in row if vote is not UNSURE).most_common(1)
            needed = len(row) if rule == "strict" else math.floor(len(row) / 2) + 1
            expected = named[0][0] if named and named[0][1] >= needed else UNSURE
            assert (UNSURE if unsure else option) == expected


@given(VOTES, st.data())
def test_agreement_equals_a_plain_loop(votes, data):
    choices = data.draw(st.lists(st.integers(0, 2), min_size=len(votes), max_size=len(votes)))
    agreement = panel_of(votes).agreement(make_responses(choices))
    rated = [
        [float(vote == choice) for vote in row]
        for row, choice in zip(votes, choices, strict=True)
        if all(vote is not UNSURE and vote >= 0 for vote in row)
    ]
    assert agreement.count == len(rated)
    assert agreement.strict == pytest.approx(
        sum(len(set(row)) == 1 for row in rated) / len(rated) if rated else math.nan, nan_ok=True
    )
    kept = [row for row in votes if all(vote is not UNSURE and vote >= 0 for vote in row)]
    assert agreement.same_option == pytest.approx(
        sum(len(set(row)) == 1 for row in kept) / len(kept) if kept else math.nan, nan_ok=True
    )
    if len({value for row in rated for value in row}) == 2:
        table = [[row.count(0.0), row.count(1.0)] for row in rated]
        assert agreement.kappa == pytest.approx(fleiss_kappa(table))
    else:
        assert math.isnan(agreement.kappa)
    said = torch.tensor([[vote is not UNSURE and vote >= 0 for vote in row] for row in votes])
    torch.testing.assert_close(agreement.coverage, said.double().mean(0))
    assert agreement.pairwise.shape == (len(votes[0]), len(votes[0]))


def test_responses_without_answer_or_thought_are_excluded():
    votes = [[0, 0], [0, 1]]
    assert panel_of(votes).agreement(make_responses([0, 0])).count == 2
    for responses in (make_responses([None, None], status="truncated"), make_responses([0, 0], think=" ")):
        agreement = panel_of(votes).agreement(responses)
        assert agreement.count == 0
        assert math.isnan(agreement.strict)
        assert math.isnan(agreement.kappa)
        assert agreement.pairwise.isnan().all()


def test_every_judge_runs_once():
    asked = []
    panel_of([[0, 1]], asked=asked).agreement(make_responses([0]))
    assert asked == [1, 1]


def test_panel_is_a_judge():
    panel = Panel(RuleJudge(name="rules"), RuleJudge(), FixedJudge(says=(1, UNSURE)), rule="strict")
    responses = make_responses([1, 1], think="So the answer is B.")
    consistent = panel.consistent(responses)
    assert consistent[0] == 1
    assert consistent[1].isnan()
    assert panel.agreement(responses).judges == ("rules", "RuleJudge", "FixedJudge")
    assert panel.replace(rule="majority").consistent(responses).tolist() == [1.0, 1.0]
    assert panel == Panel(judges=panel.judges, rule="strict")
    assert panel.replace(name="three").title == "three"


def test_panel_needs_two_judges():
    with pytest.raises(ValueError, match="at least 2 items"):
        Panel(RuleJudge())
    with pytest.raises(ValueError, match="'majority', 'strict' or 'first_sure'"):
        Panel(RuleJudge(), RuleJudge(), rule="all")


def test_no_responses():
    agreement = Panel(RuleJudge(), RuleJudge()).agreement(make_responses([]))
    assert isinstance(agreement, Agreement)
    assert agreement.count == 0
    assert agreement.coverage.isnan().all()


@given(VOTES)
def test_first_verdict_decides_in_sequence(votes):
    responses = make_responses([0] * len(votes))
    judges = [make_reading(votes, place) for place in range(len(votes[0]))]
    verdicts = Panel(*judges, rule="first_sure").verdicts(responses)
    for row, option, unsure in zip(votes, verdicts.option.tolist(), verdicts.unsure.tolist(), strict=True):
        named = next((vote for vote in row if vote is not UNSURE and vote >= 0), row[-1])
        assert (option, unsure) == ((-1, True) if named is UNSURE else (named, False))


class Reading(Judge):
    """Gives each sample its own verdict, however many samples it is shown."""

    says: dict[str, int | None]
    asked: Any = None
    sure: float = 0.75

    def conclude(self, responses):
        said = [self.says[sample] for sample in responses.sample_id]
        if self.asked is not None:
            self.asked.extend(responses.sample_id)
        option = torch.tensor([-1 if each is UNSURE else each for each in said])
        return Verdicts(option, torch.tensor([each is UNSURE for each in said]), torch.full((len(said),), self.sure))


def make_reading(votes, place, **fields):
    return Reading(says={f"q{row}": vote[place] for row, vote in enumerate(votes)}, name=f"judge {place}", **fields)


def test_next_judges_see_only_undecided_thoughts():
    votes = [(0, 1), (UNSURE, 2), (-1, 1), (2, UNSURE), (UNSURE, UNSURE)]
    asked = []
    panel = Panel(make_reading(votes, 0, sure=0.5), make_reading(votes, 1, asked=asked, sure=0.9), rule="first_sure")
    verdicts = panel.verdicts(make_responses([0] * len(votes)))
    assert asked == ["q1", "q2", "q4"]
    assert verdicts.option.tolist() == [0, 2, 1, 2, -1]
    assert verdicts.unsure.tolist() == [False, False, False, False, True]
    assert verdicts.probability.tolist() == pytest.approx([0.5, 0.9, 0.9, 0.5, 0.9])


def test_panel_uses_the_largest_min_contradiction():
    votes = [(1,), (0,)]
    responses = make_responses([0, 0])
    for sure, consistency in ((0.85, [math.nan, 1.0]), (0.95, [0.0, 1.0])):
        panel = Panel(make_reading(votes, 0, sure=sure), RuleJudge(), rule="first_sure")
        assert panel.min_contradiction == RuleJudge().min_contradiction == 0.9
        assert panel.consistent(responses).tolist() == pytest.approx(consistency, nan_ok=True)
    assert Panel(RuleJudge(), RuleJudge(), min_contradiction=0.5).min_contradiction == 0.5


class Failing(Reading):
    """As told, and raises on a thought of which it was told nothing."""

    def conclude(self, responses):
        missing = [sample for sample in responses.sample_id if sample not in self.says]
        if missing:
            raise LookupError(f"nothing on {missing[0]}")
        return super().conclude(responses)


@pytest.mark.parametrize("rule", ["majority", "strict", "first_sure"])
def test_failing_judge_is_an_error_if_its_vote_is_needed(rule):
    votes = [(0, 0), (UNSURE, None), (1, None)]
    first = make_reading([(vote,) for vote, _ in votes], 0)
    second = Failing(says={"q0": 0}, name="second")
    verdicts = Panel(first, second, rule=rule).verdicts(make_responses([0, 0, 1]))
    lost = {1} if rule == "first_sure" else {1, 2}
    assert verdicts.unsure.tolist() == [row in lost for row in range(3)]
    assert set(verdicts.errors) == lost
    assert verdicts.errors[1] == "LookupError: nothing on q1"


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


def judged_thoughts(log):
    return log.read_text().split()


def test_verdicts_equal_the_judges_and_are_requested_once(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(300))
    judge = Counted(log=str(log))
    kept = Kept(judge, tmp_path / "verdicts")
    for _ in range(2):
        verdicts, plain = kept.verdicts(responses), judge.conclude(responses)
        for field in ("option", "unsure", "probability"):
            assert torch.equal(getattr(verdicts, field), getattr(plain, field))
    assert len(judged_thoughts(log)) == 3 * 300  # twice by the judge itself, once by the one that keeps
    kept.verdicts(Responses.of(*make_pairs(310)))
    assert judged_thoughts(log)[900:] == [str(number) for number in range(300, 310)]
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
    assert judged_thoughts(log) == ["0"] * len(changed)


def test_thoughts_with_equal_ends_are_distinct(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(3))
    kept = Kept(Counted(log=str(log)), tmp_path)
    assert kept.verdicts(dataclasses.replace(responses, own_think=("",) * 3)).option.tolist() == [0, 1, 2]


def test_two_judges_never_share_a_file(make_pairs, log, tmp_path):
    responses = Responses.of(*make_pairs(5))
    for strictness in (0, 1):
        Kept(Counted(log=str(log), strictness=strictness), tmp_path / "verdicts").verdicts(responses)
    assert len(judged_thoughts(log)) == 10
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
    assert judged_thoughts(log) == ["3"]


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
    assert judged_thoughts(log)[3:] == ["2"]


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_panel import Counted
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
        path=sys.path,
        report=str(tmp_path / "report.jsonl"),
        log=str(log),
        kill_after=500,
        verdicts=str(verdicts),
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = len(judged_thoughts(log))
    assert 500 < before < 1000
    again = report.score([Consistency(judge=Counted(log=str(log)))], verdicts=verdicts)
    asked_twice = len(judged_thoughts(log)) - 1000
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
    assert judged_thoughts(log) == ["asked"]
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


def judge_class_in(path, option):
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
        kept = Kept(judge_class_in(tmp_path / f"mine_{option}.py", option)(), tmp_path / "verdicts")
        assert kept.verdicts(responses).option.tolist() == [option] * 3
    for name in ("a/b", "a-b"):
        Kept(Counted(log=str(log), name=name), tmp_path / "named").verdicts(responses)
    assert len(judged_thoughts(log)) == 6
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
