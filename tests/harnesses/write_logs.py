"""Write the logs in this folder with the real harnesses: `python tests/harnesses/write_logs.py NAME`.

The answers are canned; all else is what the packages do with them. Written with

- inspect_ai 0.3.285 (`inspect eval`, its provider `mockllm`),
- lmms_eval 0.7.3 (`simple_evaluate` and `EvaluationTracker`, as its command line calls them),
- ms-vlmeval 0.0.20, which is VLMEvalKit as a package (`infer_data_job`, `CustomMCQDataset`, its `evaluate`).

The last two are in no extra of this project: `python tests/engines/environments.py lmms_eval FOLDER` (or `vlmevalkit`)
makes an environment for each. `VLMROBUST_LOGS` names another folder to write to.
"""

import base64
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import vlmrobust as vr
from vlmrobust.prompting import LETTERS
from vlmrobust.types import open_image

LOGS = Path(__file__).parent / "logs"


def samples() -> list[vr.Sample]:
    return vr.demo.samples(4, seed=0)


def completion(sample: vr.Sample) -> str:
    """Right and consistent; right behind a wrong thought; wrong and consistent; no answer at all."""
    kind = [one.id for one in samples()].index(sample.id)
    if kind == 3:
        return "<think>One cannot tell.</think>Don't know."
    wrong = (sample.answer + 1) % len(sample.options)
    thought, answer = ((sample.answer, sample.answer), (wrong, sample.answer), (wrong, wrong))[kind]
    return f'<think>The answer is "{sample.options[thought]}".</think><answer>{LETTERS[answer]}</answer>'


def png(sample: vr.Sample) -> bytes:
    buffer = io.BytesIO()
    open_image(sample.images[0]).resize((32, 32)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# --- lmms-eval --------------------------------------------------------------------------------------------------------

_YAML = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: generate_until
repeats: {repeats}
doc_to_visual: !function functions.images
doc_to_text: !function functions.text
doc_to_target: answer
process_results: !function functions.results
generation_kwargs:
  max_new_tokens: 64
filter_list:
  - name: none
    filter:
      - function: {filter}
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
reasoning_tags: [["<think>", "</think>"]]
metadata:
  - version: 0.0
"""

_FUNCTIONS = """
import base64, io, re
from PIL import Image

def images(doc):
    return [Image.open(io.BytesIO(base64.b64decode(doc["picture"])))]

def text(doc, lmms_eval_specific_kwargs=None):
    options = "".join(f"{letter}. {option}\\n" for letter, option in zip("ABCDEFG", doc["options"]))
    return f"{doc['question']}\\n{options}Answer with the option's letter."

def results(doc, results):
    said = results[0] if isinstance(results[0], str) else results[0][0]
    found = re.search(r"[A-G]", said)  # as some tasks do: it finds the D of "Don't know"
    prediction = found[0] if found else ""
    return {"accuracy": float(prediction == doc["answer"]), "by_kind": {"kind": doc["kind"], "parsed_pred": prediction}}
"""


def write_lmms_eval(folder: Path) -> None:
    from lmms_eval.api.instance import GenerationResult, TokenCounts
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.loggers import EvaluationTracker
    from lmms_eval.tasks import TaskManager

    class Canned(lmms):
        is_simple = False

        def generate_until(self, requests: list[Any]) -> list[Any]:
            outputs = []
            for request in requests:
                _, _to_messages, _settings, number, _task, _split = request.args
                text = completion(samples()[number])
                outputs.append(GenerationResult(text, TokenCounts(output_tokens=len(text.split()))))
            return outputs

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            raise NotImplementedError

        def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
            raise NotImplementedError

    with tempfile.TemporaryDirectory() as made:
        rows = Path(made, "rows.jsonl")
        rows.write_text("".join(json.dumps(row) + "\n" for row in _lmms_rows()))
        Path(made, "functions.py").write_text(_FUNCTIONS)
        for name, repeats, chosen in (("shapes", 1, "take_first"), ("shapes_twice", 2, "take_first_k\n        k: 2")):
            Path(made, f"{name}.yaml").write_text(_YAML.format(name=name, rows=rows, repeats=repeats, filter=chosen))
        tracker = EvaluationTracker(output_path=str(folder))
        tracker.general_config_tracker.log_experiment_args("canned", "model=canned", "", "", False)
        results = simple_evaluate(
            model=Canned(),
            tasks=["shapes", "shapes_twice"],
            task_manager=TaskManager(include_path=made, include_defaults=False),
            log_samples=True,
            bootstrap_iters=0,
        )
        logged = results.pop("samples")
        tracker.save_results_aggregated(results, logged, "20261125_000000")
        for task, lines in logged.items():
            tracker.save_results_samples(task, lines)
    for aggregated in folder.rglob("*_results.json"):
        aggregated.unlink()  # paths and versions of the machine; nothing here reads it


def _lmms_rows() -> Iterable[dict[str, Any]]:
    for sample in samples():
        yield {
            "question": sample.question,
            "options": list(sample.options),
            "answer": LETTERS[sample.answer],
            "picture": base64.b64encode(png(sample)).decode(),
            "kind": sample.metadata["kind"],
        }


# --- VLMEvalKit -------------------------------------------------------------------------------------------------------


def write_vlmevalkit(folder: Path) -> None:
    """Let its dataset class ask a canned model, its runner write the predictions, and its evaluation judge them."""
    import csv

    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    width = max(len(sample.options) for sample in samples())
    rows = [
        {
            "index": number,
            "question": sample.question,
            **{LETTERS[i]: sample.options[i] if i < len(sample.options) else None for i in range(width)},
            "answer": LETTERS[sample.answer],
            "category": sample.metadata["kind"],
            "image": base64.b64encode(png(sample)).decode(),
        }
        for number, sample in enumerate(samples())
    ]
    table = pd.DataFrame(rows)
    table.to_csv(folder / "Shapes.tsv", sep="\t", index=False, encoding="utf-8", quoting=csv.QUOTE_ALL)

    os.environ["LMUData"] = str(folder)  # noqa: SIM112 - it is called so
    _only_parts_of_vlmeval()
    from vlmeval.dataset.image_mcq import CustomMCQDataset
    from vlmeval.inference import infer_data_job

    class Canned:
        """Says what is canned, or nothing to the last two questions."""

        def __init__(self, silent: bool = False) -> None:
            self.silent = silent

        def set_dump_image(self, dump_image: Any) -> None:
            pass

        def generate(self, message: list[dict[str, str]], dataset: str) -> str:
            assert [part["type"] for part in message] == ["image", "text"], message
            found = [sample for sample in samples() if sample.question in message[-1]["value"]]
            pictures = [sample for sample in found if _is_picture(sample, message[0]["value"])]
            is_late = samples().index(pictures[0]) >= 2
            return "" if self.silent and is_late else str(completion(pictures[0]))

    for name in ("Canned", "Silent", "Split"):
        os.environ["SPLIT_THINK"] = "1" if name == "Split" else ""
        for written_as in ("xlsx", "tsv", "json"):
            os.environ["PRED_FORMAT"] = written_as
            dataset = CustomMCQDataset("Shapes")
            infer_data_job(Canned(silent=name == "Silent"), str(folder), name, dataset)
    os.environ["PRED_FORMAT"] = "xlsx"
    dataset.evaluate(str(folder / "Canned_Shapes.xlsx"), model="exact_matching", nproc=1)
    shutil.rmtree(folder / "images")
    for beside in (*folder.glob("*.pkl"), *folder.glob("*_acc.*")):
        beside.unlink()


def _is_picture(sample: vr.Sample, path: str) -> bool:
    return bool(open_image(path).tobytes() == open_image(png(sample)).tobytes())


def _only_parts_of_vlmeval() -> None:
    """Let modules of the package be imported without `__init__`, which imports the code of all models and judges."""
    import importlib.util
    from types import ModuleType

    [home] = importlib.util.find_spec("vlmeval").submodule_search_locations  # type: ignore[union-attr]
    for name, folder in (("vlmeval", home), ("vlmeval.dataset", f"{home}/dataset")):
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [folder]
    for name, named in (("vlmeval.config", "supported_VLM"), ("vlmeval.api", "OpenAIWrapper")):
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], named, {})


# --- inspect ----------------------------------------------------------------------------------------------------------


def write_inspect(folder: Path) -> None:
    from inspect_ai import Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.log import read_eval_log, write_eval_log
    from inspect_ai.model import ChatMessageUser, ContentImage, ContentText, get_model
    from inspect_ai.scorer import choice
    from inspect_ai.solver import multiple_choice

    from vlmrobust.harnesses.inspect_task import perturbed, robustness
    from vlmrobust.perturbations import RotatedOptions, WrongThink

    dataset = MemoryDataset(
        [
            Sample(
                id=sample.id,
                input=[
                    ChatMessageUser(
                        content=[
                            ContentImage(image=f"data:image/png;base64,{base64.b64encode(png(sample)).decode()}"),
                            ContentText(text=sample.question),
                        ]
                    )
                ],
                choices=list(sample.options),
                target=LETTERS[sample.answer],
                metadata={"kind": sample.metadata["kind"]},
            )
            for sample in samples()
        ]
    )
    for name, epochs, solver, scorer in (
        ("base", 2, perturbed(), robustness()),
        ("wrong_think", 1, perturbed(WrongThink()), robustness()),
        ("rotated", 1, perturbed(RotatedOptions(by=3)), robustness()),
        ("multiple_choice", 1, multiple_choice(cot=True), choice()),
    ):
        with tempfile.TemporaryDirectory() as made:
            [log] = inspect_eval(
                Task(dataset=dataset, solver=solver, scorer=scorer, name=name),
                model=get_model("mockllm/model", custom_outputs=_output, memoize=False),
                log_dir=made,
                epochs=epochs,
                display="none",
                fail_on_error=False,
                max_connections=1,
                max_samples=1,
            )
            folder.mkdir(parents=True, exist_ok=True)
            write_eval_log(_smaller(read_eval_log(log.location)), str(folder / f"{name}.eval"))


def _smaller(log: Any) -> Any:
    """Leave out what says where it was written, and the events, which nothing here reads."""
    log.eval.task_file = log.eval.revision = None
    for sample in log.samples:
        sample.events, sample.timelines, sample.error_retries = [], None, None
        if sample.error is not None:
            sample.error.traceback = sample.error.traceback_ansi = ""
    return log


def _output(messages: list[Any], *_: Any) -> Any:
    """Answer by the question's sample; with log-probabilities; the fourth sample's call fails."""
    from inspect_ai.model import Logprob, Logprobs, ModelOutput, ModelUsage, TopLogprob

    text = next(message.text for message in messages if message.role == "user")
    sample = next(one for one in samples() if one.question in text)
    if sample.id == samples()[3].id:
        raise RuntimeError("the server is down")
    said = completion(sample)
    if messages[-1].role == "assistant":
        said = said.partition("</think>")[2]
    if "ANSWER: $LETTER" in text:
        said = said.replace("<answer>", "\nANSWER: ").removesuffix("</answer>")
    output = ModelOutput.from_content("mockllm", said)
    output.usage = ModelUsage(input_tokens=1, output_tokens=len(said.split()), total_tokens=1 + len(said.split()))
    top = [("A", -0.5), ("B", -1.5), (" B", -3.0), ("It", -2.0)]
    output.choices[0].logprobs = Logprobs(
        content=[
            Logprob(
                token=token,
                logprob=-0.1,
                top_logprobs=[TopLogprob(token=other, logprob=logprob) for other, logprob in top],
            )
            for token in re.findall(r"\w+|\W", said)
        ]
    )
    return output


if __name__ == "__main__":
    writers = {"lmms_eval": write_lmms_eval, "vlmevalkit": write_vlmevalkit, "inspect": write_inspect}
    logs = Path(os.environ.get("VLMROBUST_LOGS", LOGS))
    for name in sys.argv[1:] or writers:
        shutil.rmtree(logs / name, ignore_errors=True)  # lmms-eval appends to a log of the same name
        writers[name](logs / name)
