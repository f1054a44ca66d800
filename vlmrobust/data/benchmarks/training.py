"""Read rows of training datasets as the fields of a sample; the right option comes first, or in any position.

An open answer that is a number is a field `number`: options are made around it, see `nearby_numbers`.
"""

import re
from collections.abc import Mapping
from typing import Any

from ...prompting import IMAGE_MARK
from ..fields import index_of
from .questions import split_options, without_instruction

__all__ = ["read_geometry3k", "read_pixmo_count", "read_sat", "read_sat2"]

Fields = dict[str, Any]
_MARKS = re.compile(rf"^(?:\s*{IMAGE_MARK})+\s*")
_QUESTION = re.compile(r"^Question:\s*")


def read_sat(row: Mapping[str, Any]) -> Fields:
    """SAT: `image_bytes (one or two), question, answers, question_type, correct_answer`.

    In array/SAT-v2 the images are a column `images`. The category is the type of question. The card asks for another
    order of the answers.

    Source: cards of array/SAT and array/SAT-v2.
    """
    return {
        "images": row["images"] if "images" in row else row["image_bytes"],
        "question": row["question"],
        "options": row["answers"],
        "answer": index_of(row["correct_answer"], row["answers"], "text"),
        "metadata": {"category": row["question_type"]},
    }


def read_sat2(row: Mapping[str, Any]) -> Fields:
    """SAT-2 as ViGoRL trains on it: `images (paths), problem (with options), answer (an option's text)`.

    Some copies call the images `image_paths`. The question comes after marks of the images and `Question:`, the options
    after `Answer Choices:`.

    Source: gsarch/vigorl_datasets, spatial_reasoning.tar; github.com/Gabesarch/grounded-rl, trainer/rl/examples.
    """
    question, options = split_options(without_instruction(row["problem"]))
    return {
        "images": row["images"] if "images" in row else row["image_paths"],
        "question": _QUESTION.sub("", _without_marks(question)),
        "options": options,
        "answer": index_of(row["answer"], options, "text"),
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
    fields = {"images": row["images"], "question": _without_marks(row["problem"])}
    if not row.get("choices"):
        return fields | {"number": row["answer"]}
    answer = index_of(row["ground_truth"], row["choices"], "letter")
    return fields | {"id": str(row["id"]), "options": row["choices"], "answer": answer}


def _without_marks(text: str) -> str:
    """Return a text without the marks of images that all stand in front, as images do that have no marks."""
    rest = _MARKS.sub("", text)
    return text if IMAGE_MARK in rest else rest
