import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from counted import SAMPLES, evaluator

from vlmrobust.workers import RayWorkers

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def by_actors(tmp_path_factory):
    """What came out of runs by actors; see `ray_run.py`. One cluster for all: starting it takes long."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    folder = tmp_path_factory.mktemp("ray")
    command = [sys.executable, HERE / "ray_run.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_actors_gives_the_report_of_one_process(by_actors, count):
    assert by_actors[f"same by {count}"]


def test_a_killed_actor_loses_nothing_and_repeats_only_its_unfinished_batch(by_actors):
    assert by_actors["killed"]
    assert by_actors["repeated by 2"] == ["q10", "q11"]
    # Each of the two was asked for an early answer in two draws; base, which came before, was on disk.
    assert by_actors["asked by 2"] == by_actors["asked by one"] + by_actors["early answers of the batch"]
    assert by_actors["files by 2"] == 3


def test_actors_resume_a_run_of_one_process(by_actors):
    assert by_actors["repeated by 4"] == []
    assert by_actors["asked by 4"] == by_actors["asked by one"]
    assert by_actors["files by 4"] > 1


def test_actors_keep_a_concurrent_model_busy(by_actors):
    assert by_actors["queued, same"]
    assert by_actors["queued, killed"]
    assert by_actors["queued, asked"] == by_actors["asked by one"]
    # What is asked again was on its way at the kill, at most six prompts, or just answered.
    assert 1 <= by_actors["queued, repeated"] <= 2 * 6
    numbers = by_actors["queued, busy"]
    assert len(numbers) == 3
    # Batches have 2 samples of 10 prompts: waiting for each would leave places free all the time.
    for each in sorted(numbers, key=len)[1:]:
        assert max(each) == 6
        assert sum(each[6:-20]) / len(each[6:-20]) > 5
    assert by_actors["queued, raised"][0] == "ZeroDivisionError"
    assert by_actors["queued, raised"][2].startswith("in QueuedModel.ask, sample 'q5'")


def test_on_error_raise_reaches_the_caller_unchanged_and_the_run_can_be_resumed(by_actors):
    kind, message, note = by_actors["raised"]
    assert (kind, message) == ("ZeroDivisionError", "cannot do this one")
    assert note == "in CountedModel.respond, first of 16 prompts: sample 'q24', condition 'base'"
    assert by_actors["repeated by 1"] == ["q24", "q25"]


def test_an_error_that_cannot_be_pickled_is_reported_by_its_message(by_actors):
    assert by_actors["no model"] == ["RuntimeError", "TwoParts: no weights, no model"]


def test_a_model_that_cannot_be_pickled_is_refused_before_a_cluster_is_started(by_actors):
    assert by_actors["not pickled"] == [
        f"expected a model that can be pickled and sent to every actor, got {name}, which cannot; pass a function that "
        "returns the model instead, such as functools.partial(MyModel, ...), which every actor calls"
        for name in ("OpenAIModel", "no_model")
    ]
    assert not by_actors["cluster for it"]


def test_actors_need_a_directory_and_a_positive_count(tmp_path):
    with pytest.raises(ValueError, match="field 'out': expected a run directory in which all actors collect"):
        evaluator(tmp_path / "log").run(SAMPLES, workers=RayWorkers(2))
    with pytest.raises(ValueError, match="field 'count': expected at least 1, got 0"):
        RayWorkers(0)
