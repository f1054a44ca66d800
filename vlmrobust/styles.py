"""Define styles of model families, with prompts quoted verbatim from their authors' pages.

Each is a plain `Style`, to be used directly or changed with `replace`. Where the source leaves something open, its
docstring says so and the library's own layout is used. `suggested` finds the style for a model's name; no style is
applied automatically.

Example:
    >>> from vlmrobust import styles
    >>> styles.suggested("Video-R1/Video-R1-7B") is styles.video_r1
    True
"""

import re

from .types import Style

__all__ = [
    "default",
    "glm_4v_thinking",
    "hint",
    "internvl3",
    "kimi_vl_thinking",
    "llava_cot",
    "qvq",
    "qwen2_5_vl_instruct",
    "qwen3_vl_instruct",
    "qwen3_vl_thinking",
    "space_r",
    "suggested",
    "video_r1",
    "vigorl_spatial",
    "vision_r1",
    "vlaa_thinker",
]

_PONDERING = (
    "Please think about this question as if you were a human pondering deeply. Engage in an internal dialogue using "
    "expressions such as 'let me think', 'wait', 'Hmm', 'oh, I see', 'let's break it down', etc, or other natural "
    "language thought expressions It's encouraged to include self-reflection or verification in the reasoning process. "
    "Provide your detailed reasoning between the <think> </think> tags, and then give your final answer between the "
    "<answer> </answer> tags."
)
_ONE_LETTER = (
    "Please provide only the single option letter (e.g., A, B, C, D, etc.) within the <answer> </answer> tags."
)

default = Style()
"""The library's own wording, for models without a style of their own."""

space_r = Style(
    question_template="Question: {question}\nOptions:\n{options}\n{instruction}",
    instruction=f"{_PONDERING}\n{_ONE_LETTER}",
)
"""SpaceR (RUBBISHLIKE/SpaceR).

Source: github.com/OuyangKun10/SpaceR, `SpaceR-Eval/data_utils/stibench.py` and `vsibench.py` (prompt type "thinking").
The authors ask about videos.
"""

video_r1 = Style(
    question_template="{question}Options:\n{options}\n\n{instruction}",
    instruction=f"{_PONDERING} {_ONE_LETTER}",
)
"""Video-R1 (Video-R1/Video-R1-7B).

Source: github.com/tulerfeng/Video-R1, `src/r1-v/src/open_r1/grpo.py`, read in the copy
github.com/kyoungjunpark/Video-R1. The authors' code has no separator between question and "Options:".
"""

vision_r1 = Style(
    question_template="{question}\nChoices:\n{options}",
    instruction="",
    option_template="{letter}: {text}",
)
"""Vision-R1 (Osilly/Vision-R1-7B).

Source: github.com/Osilly/Vision-R1, `README.md` and `scripts/inference.sh`: the question alone, without instruction.
The authors decode with temperature 0.6, top-p 0.95 and up to 4096 tokens. The source does not specify answer tags; they
are this library's.
"""

vlaa_thinker = Style(
    system=(
        "You are VL-Thinking🤔, a helpful assistant with excellent reasoning ability. A user asks you a question, and "
        "you should try to solve it. You should first think about the reasoning process in the mind and then provides "
        "the user with the answer. The reasoning process and answer are enclosed within <think> </think> and <answer> "
        "</answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>"
    ),
    question_template="{question}\n{options}",
    instruction="",
)
"""VLAA-Thinker (UCSC-VLAA/VLAA-Thinker-Qwen2.5VL-7B).

Source: github.com/UCSC-VLAA/VLAA-Thinking, `inference.py`. It does not specify the layout of options.
"""

vigorl_spatial = Style(
    system=(
        "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The "
        "Assistant systematically reasons through the problem step by step by checking and verifying possible "
        "solutions and image regions, while grounding reasoning steps to specific objects and their relationships in "
        "the image using (x,y) coordinates. There may be one image or two images concatenated together, in which case "
        "the Assistant must compare the spatial relationships between the two images.\n\n"
        "All reasoning processes must be enclosed within a single set of '<think>' tags, and reasoning steps must "
        "include specific reference coordinates:\n\n"
        "For example, <think>\n{Reasoning text}. {Further reasoning text} {more reasoning} \n</think>\n\n"
        "The final answer should be enclosed in '<answer>' tags in the format:\n"
        "<answer> {text of selected answer choice} </answer>\n\n"
        "The Assistant must help the user identify the correct answer choice from the options provided.\n"
        "-Your answer should be the **exact text** of the selected answer option, without additional explanations or "
        "reasoning or the option text. For example, if the answer is A. right , your response should just be "
        "<answer>right</answer> (not <answer>A. right</answer>).\n"
        "-If the correct answer is unclear, select the most relevant option based on the spatial relationships and "
        "dynamics within the image.\n"
        "- The Assistant should verify each step and check multiple possible solutions before selecting the final "
        "answer."
    ),
    question_template="{question}\n{options}",
    instruction="",
    answer_by="text",
)
"""ViGoRL-Spatial (gsarch/ViGoRL-7b-Spatial): answers with the option's exact text.

Source: the authors' script that prepares the fine-tuning chains (`system_prompt_spatial`),
github.com/Gabesarch/grounded-rl, read in a copy. Their model cards say that the chat template contains the system
prompt. The layout of options is not specified, except for the letters ("A. right").
"""

qwen2_5_vl_instruct = Style(
    question_template="Question: {question}\nOptions:\n{options}\n{instruction}",
    instruction="Please select the correct answer from the options above.",
    mode="direct",
)
"""Qwen2.5-VL-Instruct, asked for the answer alone.

Source: github.com/QwenLM/Qwen2.5-VL, `evaluation/mmmu/qwen2_vl/prompt.py` (`_build_mcq_prompt`), read in a copy. We
infer that no thought is requested; for one, use `default`.
"""

qwen3_vl_instruct = Style(
    question_template="{question}\n{options}\n{instruction}",
    instruction="Please select the correct answer from the options.",
    mode="direct",
)
"""Qwen3-VL-Instruct, asked for the answer alone.

Source: github.com/QwenLM/Qwen3-VL, `evaluation/mmmu_pro/run_mmmu_pro.py`. We infer that no thought is requested; for
one, use `default`.
"""

qwen3_vl_thinking = qwen3_vl_instruct.replace(mode="think", answer_tags=None, template_opens_thought=True)
"""Qwen3-VL-Thinking: prompted like the Instruct model. The template opens the thought; the answer follows untagged.

Source: that of `qwen3_vl_instruct`, which has one wording for both.
"""

internvl3 = Style(
    question_template="{question}\n{options}\n{instruction}",
    instruction="Answer with the option's letter from the given choices directly.",
    mode="direct",
)
"""InternVL3, asked for the letter alone.

Source: github.com/OpenGVLab/InternVL, `internvl_chat/eval/mmbench/evaluate_mmbench.py`. A prompt for thoughts is
published for InternVL3.5; we found none for InternVL3.
"""

llava_cot = Style(
    question_template="{question}\n{options}",
    instruction="",
    think_tags=("<SUMMARY>", "</REASONING>"),
    answer_tags=("<CONCLUSION>", "</CONCLUSION>"),
)
"""LLaVA-CoT (Xkev/Llama-3.2V-11B-cot): four stages; summary, caption and reasoning are the thought.

Source: the responses in github.com/SriramB-98/vlm-cot-faithfulness, `results/cvbench_…`: `<SUMMARY> … </SUMMARY>
<CAPTION> … </CAPTION> <REASONING> … </REASONING> <CONCLUSION> … </CONCLUSION>`, and arXiv:2411.10440. We infer that the
prompt is the question alone, since the model learnt its stages by fine-tuning. For logs with only the reasoning, use
`replace(think_tags=("<REASONING>", "</REASONING>"))`.
"""

glm_4v_thinking = Style(question_template="{question}\n{options}", instruction="")
"""GLM-4.1V-Thinking and GLM-4.5V: a thought in tags; the answer in tags, in `<|begin_of_box|>…<|end_of_box|>` or both.

Source: github.com/open-compass/VLMEvalKit, `vlmeval/vlm/glm4_1v.py`: the question alone, special tokens kept in the
reply. The box tokens, which clients of these models strip, are parsed like LaTeX's boxes.
"""

kimi_vl_thinking = Style(
    question_template="{question}\n{options}\n{instruction}",
    instruction=(
        "Answer the preceding question. The last line of your response should follow this format: "
        "'Answer: $\\boxed{LETTER}$' (without quotes), where LETTER is one of the options. Think step by step "
        "logically, considering all relevant information before answering."
    ),
    think_tags=("◁think▷", "◁/think▷"),
    answer_tags=None,
)
"""Kimi-VL-Thinking (moonshotai/Kimi-VL-A3B-Thinking): triangular tags, the letter boxed in the last line.

Source: github.com/open-compass/VLMEvalKit, `vlmeval/vlm/kimi_vl.py`, its wording for MMMU and MMStar.
"""

qvq = Style(question_template="{question}\n{options}", instruction="", answer_tags=None)
"""QVQ-72B-Preview: one long text without tags, which ends in "**Final Answer**" and a boxed letter.

Source: the responses in github.com/SriramB-98/vlm-cot-faithfulness, `results/cvbench_Qwen_QVQ-72B-Preview…`. We infer
that the prompt is the question alone. Without tags, the text before the answer is the thought.
"""

# The first pattern found in a model's name wins; case is ignored.
_NAMES = {
    "video-?r1": "video_r1",
    "vision-?r1": "vision_r1",
    "vlaa-?thinker": "vlaa_thinker",
    "vigorl.*spatial": "vigorl_spatial",
    "spacer(?![a-z])": "space_r",
    "qwen3-?vl.*thinking": "qwen3_vl_thinking",
    "qwen3-?vl.*instruct": "qwen3_vl_instruct",
    "qwen2[._]?5-?vl.*instruct": "qwen2_5_vl_instruct",
    "internvl-?3(?![._]?5)": "internvl3",
    "llava-?cot|llama-3\\.2v-11b-cot": "llava_cot",
    "glm-4\\.(?:1v|5v|6v)": "glm_4v_thinking",
    "kimi-vl.*thinking": "kimi_vl_thinking",
    "qvq": "qvq",
}


def _style_name(model: str) -> str | None:
    return next((style for name, style in _NAMES.items() if re.search(name, model, re.IGNORECASE)), None)


def suggested(model: str) -> Style | None:
    """Return the style for a model's name, or None.

    Args:
        model: the model's name or path.

    Example:
        >>> suggested("gsarch/ViGoRL-7b-Spatial").answer_by
        'text'
        >>> suggested("HuggingFaceTB/SmolVLM-Instruct") is None
        True
    """
    name = _style_name(model)
    return None if name is None else globals()[name]


def hint(model: str) -> str | None:
    """Return a sentence that names the style for a model's name, or None.

    Example:
        >>> hint("Osilly/Vision-R1-7B")
        "the name 'Osilly/Vision-R1-7B' suggests style=vlmrobust.styles.vision_r1; the default style is used"
    """
    name = _style_name(model)
    if name is None:
        return None
    return f"the name {model!r} suggests style=vlmrobust.styles.{name}; the default style is used"
