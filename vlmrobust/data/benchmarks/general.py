"""Read rows of general benchmarks (perception, reasoning, counting, geometry) as the fields of a sample.

An open answer that is a number is a field `number`: options are made around it, see `nearby_numbers`.
"""

import re
from collections.abc import Mapping
from typing import Any

from ..fields import from_cell, index_of, is_missing
from .questions import (
    LeftOut,
    image_of_cell,
    lettered_options,
    published,
    split_options,
    without_instruction,
    without_marks,
)

__all__ = [
    "read_blink",
    "read_geometry3k",
    "read_mmbench",
    "read_mme_realworld",
    "read_mmmu",
    "read_mmstar",
    "read_pixmo_count",
    "read_realworldqa",
    "read_vstar",
]

Fields = dict[str, Any]
_MARK = re.compile(r"<image (\d+)>")
_LETTER = re.compile(r"^\s*\(?[A-Z][.:)]\s*")
_CIRCULAR = 1_000_000  # MMBench adds a multiple of this to a question's index for each rotation of its options


def read_vstar(row: Mapping[str, Any]) -> Fields:
    """V*-Bench: `image, text (with options), category, label ("A"), question_id`.

    In craigwu/vstar_bench an image is a path in its repository, in lmms-lab/vstar-bench the image itself. The category
    is direct_attributes or relative_position.

    Source: craigwu/vstar_bench, test_questions.jsonl; lmms-eval, tasks/vstar_bench/utils.py.
    """
    question, options = split_options(without_instruction(row["text"]))
    return {
        "id": f"{row['category']}/{row['question_id']}",
        "image": row["image"],
        "question": question,
        "options": options,
        "answer": row["label"],
        "metadata": {"category": row["category"]},
    }


def read_mme_realworld(row: Mapping[str, Any]) -> Fields:
    """MME-RealWorld: `bytes (base64), path, index, question, multi-choice options ("(A) …"), answer, category, …`.

    The category is such as "Perception/Remote Sensing"; questions about one image are a group.

    Source: card of yifanzhang114/MME-RealWorld-Lmms-eval; lmms-eval, tasks/mme_realworld/utils.py.
    """
    return {
        "id": str(row["index"]),
        "image": image_of_cell(row["bytes"]),
        "question": row["question"],
        "options": [_LETTER.sub("", option) for option in row["multi-choice options"]],
        "answer": row["answer"],
        "group": row["path"],
        "metadata": {"category": row["category"], "l2-category": row["l2-category"]},
    }


def read_mmbench(row: Mapping[str, Any]) -> Fields:
    """MMBench: `index, question, hint, A, B, C, D, answer, category, image, source, L2-category, …`.

    The image is base64 in the TSV files and in HuggingFaceM4/MMBench, the image itself in lmms-lab/MMBench. A hint
    stands before the question, as in the official prompt. The rotated copies of a question are one group.

    Source: cards of lmms-lab/MMBench and HuggingFaceM4/MMBench; VLMEvalKit, vlmeval/dataset/image_mcq.py.
    """
    index, hint = int(row["index"]), row.get("hint")
    hinted = not is_missing(hint) and hint != "nan"
    return {
        "id": str(index),
        "image": image_of_cell(row["image"]),
        "question": f"Hint: {hint}\nQuestion: {row['question']}" if hinted else row["question"],
        "options": lettered_options(row, "ABCD"),
        "answer": published(row.get("answer")),
        "group": str(index % _CIRCULAR),
        "metadata": {
            "category": row["category"],
            "l2-category": row.get("l2-category", row.get("L2-category")),
            "source": row.get("source"),
            "circular": index >= _CIRCULAR,
        },
    }


def read_blink(row: Mapping[str, Any]) -> Fields:
    """BLINK: `idx, question, prompt, sub_task, image_1 … image_4, choices, answer ("(A)"), …`.

    The question is that of `prompt`, which also says what the images are, up to the options. The category is the task.

    Source: card of BLINK-Benchmark/BLINK; lmms-eval, tasks/blink/utils.py.
    """
    try:
        question = split_options(row["prompt"])[0]
    except LeftOut:  # the options stand in a column of their own as well
        question = str(row["question"])
    return {
        "id": row["idx"],
        "images": _numbered_images(row),
        "question": question,
        "options": row["choices"],
        "answer": published(row["answer"]),
        "metadata": {"category": row["sub_task"]},
    }


def read_mmstar(row: Mapping[str, Any]) -> Fields:
    """MMStar: `index, question (with options), image, answer ("A"), category, l2_category, meta_info`.

    Questions that MMStar has from MathVista begin with a hint to answer by a letter, which goes.

    Source: card of Lin-Chen/MMStar; lmms-eval, tasks/mmstar/utils.py.
    """
    question, options = split_options(without_instruction(row["question"]))
    return {
        "id": str(row["index"]),
        "image": image_of_cell(row["image"]),
        "question": question,
        "options": options,
        "answer": row["answer"],
        "metadata": {"category": row["category"], "l2_category": row["l2_category"]},
    }


def read_realworldqa(row: Mapping[str, Any]) -> Fields:
    """RealWorldQA: `image, question (with options and instruction), answer ("A", or a word or number)`.

    Questions without options are left out. There is no category.

    Source: cards of xai-org/RealworldQA and lmms-lab/RealWorldQA; lmms-eval, tasks/realworldqa/utils.py.
    """
    question, options = split_options(without_instruction(row["question"]))
    return {"image": row["image"], "question": question, "options": options, "answer": row["answer"]}


def read_mmmu(row: Mapping[str, Any]) -> Fields:
    """MMMU: `id, question, options (a Python list as text), image_1 … image_7, answer ("B"), question_type, …`.

    `<image 1>` says where an image stands, and becomes a `<image>` mark. Where options are images, all marks of the row
    stay as they are, numbered, and the images come first: without numbers such options would all be the same text. The
    category is the subject, from the id.

    Source: card of MMMU/MMMU; lmms-eval, tasks/mmmu/utils.py.
    """
    if row["question_type"] != "multiple-choice":
        raise LeftOut("an open question")
    question, options = row["question"], from_cell(row["options"])
    marks = _MARK.findall(question)
    numbered = not marks or any(_MARK.search(option) for option in options)
    return {
        "id": row["id"],
        "images": _numbered_images(row) if numbered else [_marked_image(row, number) for number in marks],
        "question": question if numbered else _MARK.sub("<image>", question),
        "options": options,
        "answer": published(row["answer"]),
        "metadata": {
            "category": row["id"].partition("_")[2].rpartition("_")[0],
            "subfield": row["subfield"],
            "topic_difficulty": row["topic_difficulty"],
            "img_type": row["img_type"],
        },
    }


def read_pixmo_count(row: Mapping[str, Any]) -> Fields:
    """PixMo-Count: `image_url, image_sha256, count, points, label`.

    There is no question; "How many … are in the image?" is ours. An image that is fetched has to be the one that was
    counted in, by its sha256. Copies with the images have a column `image`. Questions about one image are a group.

    Source: card of allenai/pixmo-count.
    """
    fetched = {"path": row.get("image_url"), "sha256": row.get("image_sha256")}
    return {
        "image": row.get("image", fetched),
        "question": f"How many {row['label']} are in the image?",
        "number": str(int(row["count"])),
        "group": row.get("image_sha256"),
        "metadata": {"label": row["label"]},
    }


def read_geometry3k(row: Mapping[str, Any]) -> Fields:
    r"""Geometry3K: `images, problem, answer ("2 \sqrt { 221 }"), id, choices, ground_truth ("A")`.

    Older copies have the first three alone: where the answer is a plain number, options are made around it, and the
    other rows are left out. There is no category.

    Source: card of hiyouga/geometry3k; Lu et al. 2021, Inter-GPS, arXiv:2105.04165.
    """
    fields = {"images": row["images"], "question": without_marks(row["problem"])}
    if not row.get("choices"):
        return fields | {"number": row["answer"]}
    answer = index_of(row["ground_truth"], row["choices"], "letter")
    return fields | {"id": str(row["id"]), "options": row["choices"], "answer": answer}


def _numbered_images(row: Mapping[str, Any]) -> list[Any]:
    """The images of the columns image_1, image_2, … as far as they are filled."""
    names = sorted((name for name in row if re.fullmatch(r"image_\d+", name)), key=lambda name: int(name[6:]))
    return [row[name] for name in names if row[name] is not None]


def _marked_image(row: Mapping[str, Any], number: str) -> Any:
    image = row.get(f"image_{number}")
    if image is None:
        raise ValueError(f"expected an image in 'image_{number}', which the question marks, got none")
    return image
