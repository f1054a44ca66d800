import json
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from counted import BATCH_SIZE, CONDITIONS, METRICS, SAMPLES, evaluator, repeated, same

from vlmrobust import Evaluator
from vlmrobust.models.huggingface import _own_device
from vlmrobust.report import Report
from vlmrobust.testing import FakeModel
from vlmrobust.workers import Ranks, ThisProcess
from vlmrobust.workers.ranks import ModelSource, default_workers

HERE = Path(__file__).parent
WELL = ""
made = []


def make_fake_model():
    made.append(FakeModel(opens_images=False))
    return made[-1]


def test_a_model_function_is_called_once_and_lazily():
    made.clear()
    evaluator = Evaluator(make_fake_model, CONDITIONS, METRICS)
    assert made == []
    evaluator.run(SAMPLES[:2])
    evaluator.run(SAMPLES[:2])
    assert evaluator.model is made[0]
    assert len(made) == 1


def test_another_process_creates_its_own_model():
    made.clear()
    source = ModelSource(make_fake_model)
    assert source.model is made[0]
    assert pickle.loads(pickle.dumps(source)).model is made[1]


def test_a_function_that_returns_something_else_is_refused():
    with pytest.raises(TypeError, match=r"expected it to return a model with respond\(prompts\).*, got int"):
        Evaluator(lambda: 3, CONDITIONS).run(SAMPLES[:1])


def no_model(**settings):
    return len(settings)


class NoModel:
    def __call__(self):
        return 3


@pytest.mark.parametrize(
    ("given", "name"), [(no_model, "no_model"), (partial(no_model, api_key="sk-1"), "no_model"), (NoModel(), "NoModel")]
)
def test_errors_show_a_functions_name_without_arguments_that_may_be_secret(given, name):
    with pytest.raises(TypeError) as raised:
        ModelSource(given).model  # noqa: B018
    assert str(raised.value).startswith(f"{name}: expected it to return a model")
    assert "sk-1" not in str(raised.value)


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """What came out of runs by ranks that were forked; see `forked_ranks.py`."""
    command = [sys.executable, "-W", "error", HERE / "forked_ranks.py", tmp_path_factory.mktemp("ranks")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_every_rank_returns_the_report_of_one_process(forked, world_size):
    assert forked[f"{world_size} ranks"] == [WELL] * world_size
    assert forked[f"asked by {world_size}"] == forked["asked by one"]
    assert forked[f"repeated by {world_size}"] == []


def test_a_complete_run_sends_no_prompts_with_any_number_of_ranks(forked):
    assert forked["by 2 after 4"] == [WELL, WELL]
    assert forked["asked when complete"] == 0


def test_after_a_killed_rank_only_its_unfinished_batch_is_repeated(forked):
    first, second = forked["killed"]
    assert first.startswith("RuntimeError: rank 0 of 2: expected all ranks to get here, but one has died or failed")
    assert second == "signal 9"
    assert forked["asked before"] < forked["asked by one"]
    assert forked["resumed by 3"] == [WELL] * 3
    assert forked["repeated after a kill"] == ["q10", "q11"]
    # Each of the two was asked for an early answer in two draws; base, which came before, was on disk.
    assert forked["asked in all"] == forked["asked by one"] + forked["early answers of the batch"]


def test_ranks_keep_a_concurrent_model_busy(forked):
    assert forked["queued, killed"][1] == "signal 9"
    assert forked["queued, resumed by 2"] == [WELL, WELL]
    assert forked["queued, asked"] == forked["asked by one"]
    # What is asked again was on its way at the kill: at most six prompts of each rank, and what was just answered.
    assert 1 <= forked["queued, repeated"] <= 2 * 2 * 6
    assert forked["queued, busy"][-3:] == [6, 6, 6]


def test_on_error_raise_names_the_place_and_ends_the_other_ranks(forked):
    first, second = forked["raised"]
    assert first.startswith("RuntimeError: rank 0 of 2: expected all ranks to get here")
    assert second == "in CountedModel.respond, first of 16 prompts: sample 'q2', condition 'base'"


def test_ranks_need_a_directory(forked):
    message = "ValueError: field 'out': expected a run directory in which all ranks collect their responses, got None"
    assert [said.partition(";")[0] for said in forked["no directory"]] == [message] * 2


def test_torchrun_and_accelerate_start_ranks_that_resume_each_others_runs(tmp_path):
    one = evaluator(tmp_path / "one" / "log").run(SAMPLES)
    out = tmp_path / "run"
    launchers = {
        "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2"],
        "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"],
    }
    ends = {}
    for name, arguments in launchers.items():
        command = [sys.executable, "-m", *arguments, HERE / "counted.py", out]
        ends[name] = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "(SIGKILL)" in ends["torchrun"].stderr
    assert ends["accelerate"].returncode == 0, ends["accelerate"].stderr
    assert same(Report.load(out), one)
    # torchrun ends the other rank too, which may have been at a batch of its own.
    assert {"q10", "q11"} <= set(repeated(out / "log"))
    assert len(repeated(out / "log")) <= 2 * BATCH_SIZE


def test_ranks_can_run_several_evaluations(forked):
    assert forked["in turn"] == [WELL, WELL]


def test_default_workers_are_ranks_or_this_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(default_workers(), ThisProcess)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert isinstance(default_workers(), ThisProcess)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert default_workers() == Ranks(rank=3, world_size=8)


def test_this_process_runs_everything_even_as_a_rank(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    report = evaluator(tmp_path / "log").run(SAMPLES[:3], workers=ThisProcess())
    assert len(report) == 3 * 5 * 2


@pytest.mark.parametrize(
    ("gpus", "local_rank", "device"), [(8, "3", "cuda:3"), (1, "3", "cuda:0"), (8, None, "cuda:0")]
)
def test_the_model_of_a_rank_is_on_its_own_gpu(monkeypatch, gpus, local_rank, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert _own_device() == device
