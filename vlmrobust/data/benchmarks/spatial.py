"""Read rows of spatial reasoning benchmarks as the fields of a sample."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ..fields import index_of
from .questions import LeftOut, image_of_cell, lettered_options, split_options, without_instruction, without_marks

__all__ = [
    "read_3dsrbench",
    "read_cv_bench",
    "read_sat",
    "read_sat2",
    "read_spatial_mm_multihop",
    "read_spatial_mm_obj",
    "read_whatsup",
    "read_whatsup_coco",
    "read_whatsup_vg",
]

Fields = dict[str, Any]
_YES_OR_NO = ("yes", "no")
_WHICH_CAPTION = "Which caption describes the image?"
_QID = 8  # characters of a question's own id in 3DSRBench; `-flip` and `-1`, `-2`, … follow for its variants


def read_cv_bench(row: Mapping[str, Any]) -> Fields:
    """CV-Bench: `idx, type, task, image, question, choices, answer ("(A)"), source, source_filename, …`.

    The category is `task` (Count, Relation, Depth, Distance); questions about one source image are a group. The jsonl
    files have `filename`, a path, instead of `image`.

    Source: card of nyu-visionx/CV-Bench; lmms-eval, tasks/cv_bench/utils.py.
    """
    return {
        "id": str(row["idx"]),
        "image": row["image"] if "image" in row else row["filename"],
        "question": row["question"],
        "options": row["choices"],
        "answer": row["answer"],
        "group": row.get("source_filename"),
        "metadata": {"category": row["task"], "type": row["type"], "source": row["source"]},
    }


def read_3dsrbench(row: Mapping[str, Any]) -> Fields:
    """3DSRBench: `index, question, A, B, C, D, answer, category`, and `image_url` or `qid` and `image` (base64).

    C and D may be empty. The annotations on the hub have addresses of images, the two TSV files their content, and
    rows for mirrored images (`-flip`) and rotated options (`-1`, …). All variants of a question are one group.

    Source: card of ccvl/3DSRBench; lmms-eval, tasks/3dsrbench.
    """
    name = str(row.get("qid") or row["index"])
    base, *variant = name[:_QID], *name[_QID:].split("-")
    return {
        "id": name,
        "image": row["image_url"] if "image_url" in row else image_of_cell(row["image"]),
        "question": row["question"],
        "options": lettered_options(row, "ABCD"),
        "answer": row["answer"],
        "group": row.get("image_url") or base,
        "metadata": {
            "category": row["category"],
            "flip": "flip" in variant,
            "circular": any(part.isdecimal() for part in variant),
        },
    }


def read_spatial_mm_obj(row: Mapping[str, Any]) -> Fields:
    """Spatial-MM, one or two objects: `image_name, question (with options), answer ("D. upwards"), object1, object2`.

    The category is `one_obj` or `two_obj`, as the files are called. A few answers have a letter that belongs to another
    option than their text; such rows are problems, as nobody can say which is meant.

    Source: github.com/FatemehShiri/Spatial-MM, spatial_mm_one_obj.json and data/spatial_mm_two_obj.json.
    """
    question, options = split_options(row["question"])
    return {
        "image": row["image_name"],
        "question": question,
        "options": options,
        "answer": row["answer"],
        "group": row["image_name"],
        "metadata": {
            "category": "two_obj" if row["object2"] else "one_obj",
            "object1": row["object1"],
            "object2": row["object2"],
        },
    }


def read_spatial_mm_multihop(row: Mapping[str, Any]) -> Fields:
    """Spatial-MM, several hops: `image_name, question, answer ("left"), reasoning, hop`, and `options` if you add them.

    The questions are open. Those whose answer is yes or no have these two options here; the others are left out unless
    a row has a list `options` (the file has none). The category is the number of hops.

    Source: github.com/FatemehShiri/Spatial-MM, data/multihop_reasoning_309.json.
    """
    if not row.get("options") and row["answer"] not in _YES_OR_NO:
        raise LeftOut("an open question")
    return {
        "image": row["image_name"],
        "question": row["question"],
        "options": row.get("options") or _YES_OR_NO,
        "answer": row["answer"],
        "group": row["image_name"],
        "metadata": {"category": f"{row['hop']} hops", "reasoning": row["reasoning"]},
    }


def read_whatsup(row: Mapping[str, Any]) -> Fields:
    """What's Up, controlled images: `image_path, caption_options`, the first of which is right.

    There is no question; "Which caption describes the image?" is ours. The category is the preposition of the file's
    name (left_of, right_of, on, under, in-front_of, behind); the four images of a pair of objects are a group.

    Source: github.com/amitakamath/whatsup_vlms, dataset_zoo/aro_datasets.py, Controlled_Images.
    """
    path = PurePosixPath(row["image_path"])
    first, *preposition, last = path.stem.split("_")
    return {
        "id": "/".join(path.parts[-2:]),
        "image": "/".join(path.parts[-2:]),
        "question": _WHICH_CAPTION,
        "options": row["caption_options"],
        "answer": 0,
        "group": f"{path.parts[-2]}/{first} {last}",
        "metadata": {"category": "_".join(preposition)},
    }


def read_whatsup_coco(row: Mapping[str, Any]) -> Fields:
    """What's Up, COCO: `[image id, right caption, wrong caption]`; images in `val2017`, named by id.

    Source: github.com/amitakamath/whatsup_vlms, dataset_zoo/aro_datasets.py, COCO_QA.
    """
    return _pair_of_captions(row, f"val2017/{int(row['0']):012d}.jpg")


def read_whatsup_vg(row: Mapping[str, Any]) -> Fields:
    """What's Up, Visual Genome: `[image id, right caption, wrong caption]`; images in `vg_images`.

    Source: github.com/amitakamath/whatsup_vlms, dataset_zoo/aro_datasets.py, VG_QA.
    """
    return _pair_of_captions(row, f"vg_images/{row['0']}.jpg")


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
        "question": without_marks(question).removeprefix("Question:").lstrip(),
        "options": options,
        "answer": index_of(row["answer"], options, "text"),
    }


def _pair_of_captions(row: Mapping[str, Any], image: str) -> Fields:
    return {
        "image": image,
        "question": _WHICH_CAPTION,
        "options": [row["1"], row["2"]],
        "answer": 0,
        "group": image,
        "metadata": {"category": _preposition(row["1"])},
    }


def _preposition(caption: str) -> str:
    """The word that the captions differ in: between two objects, or else the last one of the caption."""
    words = caption.rstrip(".").split()
    between = ("left", "right", "above", "below", "front", "behind", "top", "bottom")
    return next((word for word in reversed(words) if word in between), words[-1])
