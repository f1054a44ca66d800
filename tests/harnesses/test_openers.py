"""Test logs of models whose chat template opens the thought, so that texts lack the opening tag."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
from inspect_ai.model import ModelOutput

from vlmrobust import Style
from vlmrobust.harnesses import Imported, read_inspect, read_lmms_eval, read_vlmevalkit

Reader = Callable[..., Imported]

TEXTS = [
    "The cube is blue.</think><answer>B</answer>",
    "<think>\nThe cube is blue.</think><answer>B</answer>",  # some servers repeat what the template has written
    "The answer could be B, or it is A. Let me look once more at the",  # cut off in the thought
]


def lmms(folder: Path) -> Path:
    lines = [
        {"doc_id": number, "target": "B", "filtered_resps": text, "input": "Which colour?\nA. red\nB. blue\n"}
        for number, text in enumerate(TEXTS)
    ]
    path = folder / "x_samples_colours.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def vlmevalkit(folder: Path) -> Path:
    rows = [
        {"index": number, "question": "Which colour?", "A": "red", "B": "blue", "answer": "B", "prediction": text}
        for number, text in enumerate(TEXTS)
    ]
    path = folder / "Model_Colours.json"
    path.write_text(json.dumps(rows))
    return path


def inspect(folder: Path) -> Path:
    samples = [
        EvalSample(
            id=number,
            epoch=1,
            input="Which colour?",
            choices=["red", "blue"],
            target="B",
            output=ModelOutput.from_content("model", text),
        )
        for number, text in enumerate(TEXTS)
    ]
    spec = EvalSpec(created="2026-11-25", task="t", dataset=EvalDataset(), model="m", config=EvalConfig())
    path = folder / "colours.json"
    write_eval_log(EvalLog(eval=spec, samples=samples, status="success"), str(path))
    return path


@pytest.mark.parametrize(
    ("write", "read"), [(lmms, read_lmms_eval), (vlmevalkit, read_vlmevalkit), (inspect, read_inspect)]
)
def test_the_thought_that_the_template_has_opened_is_read(
    tmp_path: Path, write: Callable[[Path], Path], read: Reader
) -> None:
    found = read(write(tmp_path), opener="<think>\n")
    assert found.problems == ()
    assert [response.think for response in found.responses[:2]] == ["The cube is blue."] * 2
    assert [response.answer for response in found.responses] == [1, 1, None]
    assert [response.status for response in found.responses] == ["answered", "answered", "truncated"]
    assert all(prompt.prefill == "" for prompt in found.prompts), "nobody has injected anything"


def test_tags_of_other_styles(tmp_path: Path) -> None:
    log = tmp_path / "x_samples_colours.jsonl"
    line = {"doc_id": 0, "target": "B", "filtered_resps": "Blue.[/THINK]B", "input": "Which?\nA. red\nB. blue\n"}
    log.write_text(json.dumps(line) + "\n")
    [response] = read_lmms_eval(log, style=Style(think_tags=("[THINK]", "[/THINK]")), opener="[THINK]").responses
    assert (response.think, response.answer) == ("Blue.", 1)
