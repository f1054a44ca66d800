"""Styles of model families: wording, parsing of completions, and suggestions by name."""

import ast
from itertools import pairwise
from pathlib import Path

import pytest

from vlmrobust import Prompt, Response, Sample, Style, styles

PRESETS = {name: getattr(styles, name) for name in styles.__all__ if isinstance(getattr(styles, name), Style)}
THOUGHT = "<think>\nThe cube on the left is blue.\n</think>"


def make_prompt(style: Style) -> Prompt:
    sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue", "green"], answer=1)
    return Prompt.of(sample, style=style)


def test_all_styles_are_listed() -> None:
    assert sorted(PRESETS) == sorted(
        [
            *("space_r", "video_r1", "vision_r1", "vlaa_thinker", "vigorl_spatial"),
            *("qwen2_5_vl_instruct", "qwen3_vl_instruct", "qwen3_vl_thinking", "internvl3", "default"),
            *("llava_cot", "glm_4v_thinking", "kimi_vl_thinking", "qvq"),
        ]
    )
    assert [name for name, style in PRESETS.items() if style.answer_by == "text"] == ["vigorl_spatial"]


def test_every_style_has_a_source() -> None:
    body = ast.parse(Path(styles.__file__).read_text(encoding="utf-8")).body
    said = {
        node.targets[0].id: after.value.value
        for node, after in pairwise(body)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    for name in PRESETS.keys() - {"default"}:
        assert "\nSource: " in said[name], name


@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [
        ("space_r", "Question: Which colour?\nOptions:\nA. red\n", "\nPlease provide only the single option letter"),
        ("video_r1", "Which colour?Options:\nA. red\n", "</answer> tags. Please provide only the single option letter"),
        ("vision_r1", "Which colour?\nChoices:\nA: red\nB: blue\nC: green", ""),
        ("vlaa_thinker", "Which colour?\nA. red\nB. blue\nC. green", ""),
        ("vigorl_spatial", "Which colour?\nA. red\nB. blue\nC. green", ""),
        ("qwen2_5_vl_instruct", "Question: Which colour?\nOptions:\nA. red\n", "from the options above."),
        ("qwen3_vl_instruct", "Which colour?\nA. red\n", "Please select the correct answer from the options."),
        ("qwen3_vl_thinking", "Which colour?\nA. red\n", "Please select the correct answer from the options."),
        ("internvl3", "Which colour?\nA. red\n", "Answer with the option's letter from the given choices directly."),
        ("llava_cot", "Which colour?\nA. red\nB. blue\nC. green", ""),
        ("glm_4v_thinking", "Which colour?\nA. red\nB. blue\nC. green", ""),
        ("kimi_vl_thinking", "Which colour?\nA. red\n", "relevant information before answering."),
        ("qvq", "Which colour?\nA. red\nB. blue\nC. green", ""),
    ],
)
def test_the_wording(name: str, begins: str, ends: str) -> None:
    text = make_prompt(PRESETS[name]).text
    assert text.startswith(begins)
    assert ends in text


@pytest.mark.parametrize(
    ("name", "completion", "answer", "well_formed"),
    [
        ("space_r", f"{THOUGHT}\n<answer>B</answer>", 1, True),
        ("video_r1", f"{THOUGHT}\n<answer>B</answer>", 1, True),
        ("vision_r1", f"{THOUGHT}\n\n**Final Answer:** B", 1, False),
        ("vision_r1", f"{THOUGHT}\n\nFinal Answer: \\boxed{{B}}", 1, False),
        ("vision_r1", f"{THOUGHT}<answer>B: blue</answer>", 1, False),
        ("vlaa_thinker", f"{THOUGHT}\n\n<answer> B. blue </answer>", 1, False),
        ("vlaa_thinker", f"{THOUGHT}\n\n<answer> blue </answer>", 1, True),
        ("vigorl_spatial", "<think>\nThe cube (120, 84) is blue. \n</think>\n<answer> blue </answer>", 1, True),
        ("vigorl_spatial", f"{THOUGHT}\n<answer>\nred\n</answer>", 0, True),
        ("vigorl_spatial", f"{THOUGHT}\n<answer> purple </answer>", None, False),
        ("qwen3_vl_thinking", f"{THOUGHT}\n\nThe correct answer is **B**.", 1, True),
        ("qwen3_vl_thinking", f"{THOUGHT}\n\nThe cube is blue.\n\n**Answer: B**", 1, True),
        ("qwen3_vl_thinking", f"{THOUGHT}\n\n\\boxed{{B}}", 1, True),
        ("qwen3_vl_thinking", f"{THOUGHT}\n\nB. blue", 1, True),
        ("qwen3_vl_thinking", f"{THOUGHT}\n\nIt may be A or B.", None, False),
        ("qwen3_vl_thinking", f"{THOUGHT}{THOUGHT}\n\nB", 1, False),
        ("qwen3_vl_thinking", f"So: {THOUGHT}\n\nB", 1, False),
        ("qwen3_vl_thinking", "<think>\nSo the answer is B.", None, False),
        ("qwen2_5_vl_instruct", "B", 1, True),
        ("qwen2_5_vl_instruct", "B. blue", 1, False),
        ("qwen3_vl_instruct", "The correct answer is **B. blue**.", 1, False),
        ("internvl3", "B", 1, True),
        (
            "llava_cot",
            "<SUMMARY> I look at it. </SUMMARY><CAPTION> A cube. </CAPTION><REASONING> It is blue. </REASONING>"
            "<CONCLUSION> B </CONCLUSION>",
            1,
            True,
        ),
        ("glm_4v_thinking", f"{THOUGHT}<answer><|begin_of_box|>B<|end_of_box|></answer>", 1, True),
        ("glm_4v_thinking", f"{THOUGHT}The answer is <|begin_of_box|>B<|end_of_box|>.", 1, False),
        ("kimi_vl_thinking", "◁think▷It is blue.◁/think▷So it is blue.\n\nAnswer: $\\boxed{B}$", 1, True),
        ("qvq", "So the cube is blue.\n\n**Final Answer**\n\n\\[ \\boxed{B} \\]", 1, False),
    ],
)
def test_completions_of_the_model_are_parsed(name: str, completion: str, answer: int | None, well_formed: bool) -> None:
    response = Response.parse(make_prompt(PRESETS[name]), completion)
    assert (response.answer, response.well_formed) == (answer, well_formed)


def test_unclosed_thought_opened_by_the_template_is_truncated() -> None:
    prompt = make_prompt(styles.qwen3_vl_thinking).replace(prefill="<think>\n")
    response = Response.parse(prompt, "The cube is blue. So B.", finish_reason="length")
    assert (response.status, response.answer) == ("truncated", None)


def test_untagged_turn_is_a_truncated_thought() -> None:
    """The template's opener is in the prompt, not in what the model wrote."""
    response = Response.parse(make_prompt(styles.qwen3_vl_thinking), "The cube looks blue. So the answer is B. Wait")
    assert (response.status, response.answer, response.think) == (
        "truncated", None, "The cube looks blue. So the answer is B. Wait"
    )  # fmt: skip
    closed = Response.parse(make_prompt(styles.qwen3_vl_thinking), "The cube looks blue.</think>\n\nThe answer is B.")
    assert (closed.status, closed.answer) == ("answered", 1)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("RUBBISHLIKE/SpaceR", "space_r"),
        ("/models/SpaceR-SFT-7B", "space_r"),
        ("Video-R1/Video-R1-7B", "video_r1"),
        ("Osilly/Vision-R1-7B", "vision_r1"),
        ("UCSC-VLAA/VLAA-Thinker-Qwen2.5VL-7B", "vlaa_thinker"),
        ("gsarch/ViGoRL-7b-Spatial", "vigorl_spatial"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl_instruct"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl_instruct"),
        ("Qwen/Qwen3-VL-30B-A3B-Thinking", "qwen3_vl_thinking"),
        ("OpenGVLab/InternVL3-8B-hf", "internvl3"),
        ("Xkev/Llama-3.2V-11B-cot", "llava_cot"),
        ("zai-org/GLM-4.1V-9B-Thinking", "glm_4v_thinking"),
        ("zai-org/GLM-4.5V", "glm_4v_thinking"),
        ("moonshotai/Kimi-VL-A3B-Thinking-2506", "kimi_vl_thinking"),
        ("Qwen/QVQ-72B-Preview", "qvq"),
        ("OpenGVLab/InternVL3_5-8B-HF", None),
        ("gsarch/ViGoRL-Multiturn-3b-Visual-Search", None),
        ("HuggingFaceTB/SmolVLM-Instruct", None),
        ("spacerocket", None),
        ("", None),
    ],
)
def test_a_name_suggests_a_style(model: str, name: str | None) -> None:
    assert styles.suggested(model) is (None if name is None else PRESETS[name])
    assert styles.hint(model) == (
        name and f"the name {model!r} suggests style=vlmrobust.styles.{name}; the default style is used"
    )
