"""Runs vLLM in this process; in the engine's environment: `python in_process.py PART FOLDER`.

Reports go to run directories in the folder, whatever else was found to `PART.json`: test_vllm_in_process.py compares.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from what_is_asked import JUDGED, SAMPLES, TOKENS

import vlmrobust as vr
from vlmrobust.judges import LMJudge
from vlmrobust.models.base import RefusedError
from vlmrobust.testing import check_model

WEIGHTS = str(Path(vr.demo.__file__).parent / "weights")
DRAWN = {"max_new_tokens": TOKENS, "do_sample": True, "temperature": 1.2, "seed": 7}
ENGINE: dict[str, Any] = {"dtype": "float32", "max_model_len": 1024, "block_size": 32, "enforce_eager": True}

load = partial(vr.VLLMModel, WEIGHTS, {"max_new_tokens": TOKENS}, **ENGINE)


def greedy(folder: Path) -> dict[str, Any]:
    """Ask everything, check the model, let it judge, ask what it refuses, and kill its engine."""
    model = load()
    vr.Evaluator(model, vr.paper_conditions()).run(vr.demo.samples(SAMPLES), out=folder / "greedy")
    check_model(model)
    style = vr.Style(answer_by="text")
    vr.Evaluator(model, vr.paper_conditions(), style=style).run(vr.demo.samples(4), out=folder / "texts")
    long = vr.demo.samples(1)[0].replace(id="long", question="Which colour? " * 600)
    vr.Evaluator(model, []).run([long, *vr.demo.samples(3)], out=folder / "refused")
    found = {"concurrency": model.concurrency, "judged": judged(LMJudge.of(model))}
    return found | killed(model, folder / "killed")


def judged(judge: Any) -> dict[str, Any]:
    """Return the letters' log-probabilities by a judge, what is said of a thought that is too long, and the engines."""
    engines = sum("EngineCore" in told for _, told in children())
    letters, refused = judge.attempted([*JUDGED, ("Which?", ("red", "blue"), "It is red. " * 600, "AB")])
    return {
        "letters": letters[:-1].tolist(),
        "refused": dict(refused),
        "engines": engines,
        "identity": judge.identity(),
    }


def judge(folder: Path) -> dict[str, Any]:
    """Let a language model judge that sees nothing and lies in the folder, and kill the worker of its engine."""
    judge = LMJudge.from_pretrained(str(folder / "text"), engine="vllm", **ENGINE)
    found = judged(judge)
    worker = next(process for process in children() if "Worker" in process[1])
    os.kill(worker[0], signal.SIGKILL)
    try:
        judge.letter_logprobs(JUDGED * 50)
    except RefusedError as error:
        return found | {"killed": str(error)}
    return found | {"killed": None}


def killed(model: Any, out: Path) -> dict[str, Any]:
    """Return what is said when the engine's own process is killed in the middle of a run."""
    core = next(process for process in children() if "EngineCore" in process[1])

    def kill() -> None:
        while not any(file.read_text().count("\n") > 100 for file in out.glob("responses-*")):
            time.sleep(0.01)
        os.kill(core[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        vr.Evaluator(model, vr.paper_conditions()).run(vr.demo.samples(500), out=out)
    except RefusedError as error:
        return {"killed": str(error)}
    return {"killed": None}


def children() -> list[tuple[int, str]]:
    """Return the processes below this one."""
    import psutil

    return [(child.pid, f"{child.name()} {child.cmdline()}") for child in psutil.Process().children(recursive=True)]


def draws(folder: Path) -> dict[str, Any]:
    """Draw the same texts twice, with many and with few at a time."""
    model = vr.VLLMModel(WEIGHTS, DRAWN, **ENGINE)
    for concurrency in (64, 1):
        model.concurrency = concurrency
        evaluator = vr.Evaluator(model, [vr.perturbations.WrongThink()], draws=4)
        evaluator.run(vr.demo.samples(6), out=folder / f"draws-{concurrency}")
    return {}


def adapter(folder: Path) -> dict[str, Any]:
    """Ask with the adapter that lies in the folder."""
    model = vr.VLLMModel(str(folder / "adapter"), {"max_new_tokens": TOKENS}, **ENGINE)
    vr.Evaluator(model, vr.paper_conditions()).run(vr.demo.samples(6), out=folder / "adapted")
    return {}


def refusals(folder: Path) -> dict[str, Any]:
    """Return what is said where the engine cannot start."""
    said = {}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "unknown": (str(folder / "unknown"), {}),
        "context": (WEIGHTS, {"max_model_len": 10_000_000}),
        # A context that the model is told it has, and for which a cache of 1 GB has no room.
        "memory": (
            WEIGHTS,
            {"max_model_len": 1_000_000, "hf_overrides": {"text_config": {"max_position_embeddings": 2_000_000}}},
        ),
    }
    for name, (checkpoint, options) in wanted.items():
        try:
            vr.VLLMModel(checkpoint, **{**ENGINE, **options})
        except vr.models.base.UnfitError as error:
            said[name] = str(error)
    return said


def loaded_together(folder: Path) -> Any:
    """Return a model when another process has one as well, or the first that is up would answer everything."""
    model = load(concurrency=8)
    (folder / f"up-{os.getpid()}").touch()
    ends = time.monotonic() + 200
    while len(list(folder.glob("up-*"))) < 2 and time.monotonic() < ends:
        time.sleep(0.05)
    return model


def actors(folder: Path) -> dict[str, Any]:
    """Let two actors of Ray answer, each with an engine of its own."""
    import ray

    from vlmrobust.workers import RayWorkers

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    evaluator = vr.Evaluator(partial(loaded_together, folder), vr.paper_conditions(), batch_size=2)
    out = folder / "actors"
    evaluator.run(vr.demo.samples(SAMPLES), out=out, workers=RayWorkers(2))
    return {"writers": sum(file.stat().st_size > 0 for file in out.glob("responses-*"))}


PARTS = {part.__name__: part for part in (greedy, judge, draws, adapter, refusals, actors)}

if __name__ == "__main__":
    place = Path(sys.argv[2])
    found = PARTS[sys.argv[1]](place)
    (place / f"{sys.argv[1]}.json").write_text(json.dumps(found))
