"""Run evaluations with Ray actors on this machine, and write the results to `result.json`, as Ray prints too.

Run as `python ray_run.py FOLDER`; `test_ray.py` does.
"""

import json
import sys
from functools import partial
from pathlib import Path

import ray
import ray.data
from counted import CONDITIONS, EARLY, SAMPLES, QueuedModel, busy, evaluator, logged_keys, repeated, same

from vlmrobust import Evaluator, OpenAIModel, Style
from vlmrobust.workers import RayWorkers
from vlmrobust.workers.plan import RunPlan
from vlmrobust.workers.ranks import ModelSource
from vlmrobust.workers.ray import _Actor


class TwoParts(Exception):  # noqa: N818
    """Is pickled, and cannot be unpickled."""

    def __init__(self, one, other):
        super().__init__(f"{one}, {other}")


def no_model():
    raise TwoParts("no weights", "no model")


def not_pickled(out):
    """Return what is said of a model behind a server, which holds a lock, and of a function that holds one."""
    model = OpenAIModel("a-model", base_url="http://127.0.0.1:9/v1", api_key="sk-1")
    said = []
    for source in (model, partial(no_model, model, api_key="sk-1")):
        try:
            Evaluator(source, CONDITIONS).run(SAMPLES, out=out, workers=RayWorkers(2))
        except TypeError as error:
            said.append(str(error))
    return said


def error_texts(error):
    return [type(error).__name__, str(error), *getattr(error, "__notes__", ())]


def main(folder):
    one = evaluator(folder / "one" / "log").run(SAMPLES, out=folder / "one")
    keys = logged_keys(folder / "one" / "log")
    result = {
        "asked by one": len(keys),
        "early answers of the batch": sum(key[:2] in {("q10", EARLY), ("q11", EARLY)} for key in keys),
    }
    lost = _Actor(one_plan(), ModelSource(no_model), folder / "lost", "a run")({"batch": ray.cloudpickle.dumps(None)})
    result["no model"] = error_texts(ray.cloudpickle.loads(lost["error"]))
    result["not pickled"] = not_pickled(folder / "not pickled")
    result["cluster for it"] = ray.is_initialized()

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False

    def compared(count, out, **behaviour):
        report = evaluator(out / "log", **behaviour).run(SAMPLES, out=out, workers=RayWorkers(count))
        result[f"same by {count}"] = same(report, one)
        result[f"asked by {count}"] = len(logged_keys(out / "log"))
        result[f"repeated by {count}"] = repeated(out / "log")
        result[f"files by {count}"] = len(list(out.glob("responses-*.jsonl")))

    failed = folder / "failed"
    try:
        evaluator(failed / "log", fails="q25", on_error="raise").run(SAMPLES, out=failed, workers=RayWorkers(1))
    except ZeroDivisionError as error:
        result["raised"] = error_texts(error)
    compared(1, failed)
    compared(2, folder / "killed", kills=(EARLY, "q10"))
    result["killed"] = (folder / "killed" / "killed").exists()
    begun = folder / "begun"
    evaluator(begun / "log").run(SAMPLES[:9], out=begun)
    compared(4, begun)
    queued = folder / "queued"
    settings = {"kind": QueuedModel, "kills": (EARLY, "q10")}
    report = evaluator(queued / "log", **settings).run(SAMPLES, out=queued, workers=RayWorkers(2))
    result["queued, same"] = same(report, one)
    result["queued, killed"] = (queued / "killed").exists()
    result["queued, repeated"] = len(logged_keys(queued / "log")) - len(set(logged_keys(queued / "log")))
    result["queued, asked"] = len(set(logged_keys(queued / "log")))
    result["queued, busy"] = [numbers for _, numbers in sorted(busy(queued / "log").items())]
    failed = folder / "queued, failed"
    try:
        failing = evaluator(failed / "log", kind=QueuedModel, fails="q5", on_error="raise")
        failing.run(SAMPLES, out=failed, workers=RayWorkers(2))
    except ZeroDivisionError as error:
        result["queued, raised"] = error_texts(error)
    (folder / "result.json").write_text(json.dumps(result))


def one_plan():
    return RunPlan(tuple(CONDITIONS), Style(), 1, 2, 0, "random", "record")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
