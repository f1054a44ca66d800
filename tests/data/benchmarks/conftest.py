"""Rows with exactly the columns and types of each benchmark, and what they have to become.

Columns and types are those of the dataset cards, or of the official files; texts and pictures are made up or shortened.
"""

import base64
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmrobust.data import BENCHMARKS

Rows = list[dict[str, Any]]
COLOURS = ("red", "blue", "lime", "yellow")


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def cell(colour: str) -> dict[str, Any]:
    """A cell of an image column."""
    return {"bytes": picture(colour), "path": f"{colour}.png"}


def base64_cell(colour: str) -> str:
    return base64.b64encode(picture(colour)).decode()


@dataclass(frozen=True)
class Sampled:
    """What a row has to become; the colours are those of its images."""

    id: str
    question: str
    options: tuple[str, ...]
    right: str
    category: str | None
    group: str | None = None
    colours: tuple[str, ...] = ("red",)


@dataclass(frozen=True)
class Example:
    """Rows of a benchmark and their samples.

    Attributes:
        rows: by configuration or file.
        samples: in order.
        types: of the columns, for `datasets`; empty = the rows are a file of JSON, next to which are `images`.
        left_out: place → reason.
        problems: pieces of each message.
    """

    rows: Mapping[str, Rows | list[list[Any]]]
    samples: list[Sampled]
    types: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def configs(self) -> tuple[str, ...]:
        """The configurations that there are rows of."""
        return tuple(part for part in self.rows if part) if self.types else ()


def strings(names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), "string")


CV_BENCH = Example(
    types={"idx": "int64", **strings("type task question answer prompt filename source source_dataset")}
    | {"image": "image", "choices": "strings", "source_filename": "string", "target_class": "string"}
    | {"target_size": "int64", "bbox": "boxes"},
    rows={
        "": [
            {
                "idx": 0, "type": "2D", "task": "Count", "image": cell("red"), "answer": "(C)", "target_size": 9,
                "question": "How many organs are in the image?", "choices": ["3", "2", "1", "0"], "bbox": None,
                "prompt": "How many organs are in the image? Select from the following choices.\n(A) 3\n(B) 2 …",
                "filename": "img/2D/count/ade20k_10.png", "source": "ADE20K", "source_dataset": "ADE20K Validation Set",
                "source_filename": "ADE_val_00000248.jpg", "target_class": None,
            },
            {
                "idx": 1438, "type": "3D", "task": "Depth", "image": cell("blue"), "answer": "(B)", "target_size": None,
                "question": "Which object is closer to the camera, the table (red) or the bed (blue)?",
                "choices": ["table", "bed"], "bbox": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], "prompt": "…",
                "filename": "img/3D/depth/omni3d_sunrgbd_1.png", "source": "Omni3D", "target_class": None,
                "source_dataset": "Omni3D SUNRGBD", "source_filename": None,
            },
        ]
    },
    samples=[
        Sampled(
            "0", "How many organs are in the image?", ("3", "2", "1", "0"), "1", "Count", "ADE_val_00000248.jpg"
        ),
        Sampled(
            "1438", "Which object is closer to the camera, the table (red) or the bed (blue)?", ("table", "bed"),
            "bed", "Depth", None, ("blue",),
        ),
    ],
)  # fmt: skip
SPATIAL_MM_OBJ = Example(
    images=("129d.jpg", "b2a8.jpg"),
    rows={
        "spatial_mm_one_obj.json": [
            {
                "image_name": "129d.jpg", "object1": "cat", "object2": "", "answer": "D. upwards",
                "question": "Which direction is cat looking at?\nA. bottom left\nB. left\nC. right\nD. upwards",
            },
            {
                "image_name": "b2a8.jpg", "object1": "steering wheel", "object2": "", "answer": "C. middle",
                "question": "Where is the steering wheel?\nA. middle\nB. bottom\nC. left\nD. right",
            },
        ],
        "data/spatial_mm_two_obj.json": [
            {
                "image_name": "129d.jpg", "object1": "man", "object2": "glass", "answer": "B. right",
                "question": "In which hand is the man holding the glass?\nA. left\nB. right",
            },
        ],
    },
    samples=[
        Sampled(
            "spatial_mm_one_obj/0", "Which direction is cat looking at?", ("bottom left", "left", "right", "upwards"),
            "upwards", "one_obj", "129d.jpg",
        ),
        Sampled(
            "spatial_mm_two_obj/0", "In which hand is the man holding the glass?", ("left", "right"), "right",
            "two_obj", "129d.jpg",
        ),
    ],
    problems=["spatial_mm_one_obj.json, row 1: sample 'spatial_mm_one_obj/1', field 'answer': .* got 'C. middle'"],
)  # fmt: skip
SPATIAL_MM_MULTIHOP = Example(
    images=("c51c.jpeg", "d9d4.jpeg", "a87d.jpeg"),
    rows={
        "data/multihop_reasoning_309.json": [
            {
                "image_name": "c51c.jpeg", "question": "Which direction is the adult monkey facing?", "answer": "left",
                "reasoning": "{[adult monkey facing left]}", "hop": 2,
            },
            {
                "image_name": "d9d4.jpeg", "question": "Is the lighter horse behind the darker horse?", "answer": "no",
                "reasoning": "{[lighter horse is closer], [darker horse is farther]}", "hop": 3,
            },
            {
                "image_name": "a87d.jpeg", "question": "What color is the garment?", "answer": "pink",
                "reasoning": "{[garment is pink]}", "hop": 3, "options": ["red", "pink", "blue"],
            },
        ]
    },
    samples=[
        Sampled(
            "multihop_reasoning_309/1", "Is the lighter horse behind the darker horse?", ("yes", "no"), "no", "3 hops",
            "d9d4.jpeg",
        ),
        Sampled(
            "multihop_reasoning_309/2", "What color is the garment?", ("red", "pink", "blue"), "pink", "3 hops",
            "a87d.jpeg",
        ),
    ],
    left_out=["multihop_reasoning_309.json, row 0: an open question"],
)  # fmt: skip
_WHICH = "Which caption describes the image?"
_BOTTLE = tuple(f"A beer bottle {word} an armchair." for word in ("on", "under", "left of", "right of"))
WHATSUP = Example(
    images=("controlled_images/beer-bottle_on_armchair.jpeg", "controlled_clevr/cup_in-front_of_bowl.jpeg"),
    rows={
        "controlled_images_dataset.json": [
            {"image_path": "data/controlled_images/beer-bottle_on_armchair.jpeg", "caption_options": [*_BOTTLE]},
        ],
        "controlled_clevr_dataset.json": [
            {
                "image_path": "data/controlled_clevr/cup_in-front_of_bowl.jpeg",
                "caption_options": ["A cup in front of a bowl.", "A cup behind a bowl."],
            },
        ],
    },
    samples=[
        Sampled(
            "controlled_images/beer-bottle_on_armchair.jpeg", _WHICH, _BOTTLE, "A beer bottle on an armchair.", "on",
            "controlled_images/beer-bottle armchair",
        ),
        Sampled(
            "controlled_clevr/cup_in-front_of_bowl.jpeg", _WHICH, ("A cup in front of a bowl.", "A cup behind a bowl."),
            "A cup in front of a bowl.", "in-front_of", "controlled_clevr/cup bowl",
        ),
    ],
)  # fmt: skip
WHATSUP_COCO = Example(
    images=("val2017/000000397133.jpg", "val2017/000000000632.jpg"),
    rows={
        "coco_qa_one_obj.json": [[397133, "A photo of a bench on the left", "A photo of a bench on the right"]],
        "coco_qa_two_obj.json": [[632, "A photo of a bed below a clock", "A photo of a bed above a clock"]],
    },
    samples=[
        Sampled(
            "coco_qa_one_obj/0", _WHICH, ("A photo of a bench on the left", "A photo of a bench on the right"),
            "A photo of a bench on the left", "left", "val2017/000000397133.jpg",
        ),
        Sampled(
            "coco_qa_two_obj/0", _WHICH, ("A photo of a bed below a clock", "A photo of a bed above a clock"),
            "A photo of a bed below a clock", "below", "val2017/000000000632.jpg",
        ),
    ],
)  # fmt: skip
WHATSUP_VG = Example(
    images=("vg_images/2342728.jpg", "vg_images/61.jpg"),
    rows={
        "vg_qa_one_obj.json": [["61", "A photo of a lamp on the right", "A photo of a lamp on the left"]],
        "vg_qa_two_obj.json": [["2342728", "A photo of a cat in front of a TV", "A photo of a cat behind a TV"]],
    },
    samples=[
        Sampled(
            "vg_qa_one_obj/0", _WHICH, ("A photo of a lamp on the right", "A photo of a lamp on the left"),
            "A photo of a lamp on the right", "right", "vg_images/61.jpg",
        ),
        Sampled(
            "vg_qa_two_obj/0", _WHICH, ("A photo of a cat in front of a TV", "A photo of a cat behind a TV"),
            "A photo of a cat in front of a TV", "front", "vg_images/2342728.jpg",
        ),
    ],
)  # fmt: skip
VSTAR = Example(
    images=("direct_attributes/sa_4690.jpg", "relative_position/sa_1.jpg"),
    rows={
        "test_questions.jsonl": [
            {
                "image": "direct_attributes/sa_4690.jpg", "category": "direct_attributes", "label": "A",
                "question_id": "0", "text": "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar"
                "\n(D) leather\nAnswer with the option's letter from the given choices directly.",
            },
            {
                "image": "relative_position/sa_1.jpg", "category": "relative_position", "label": "B",
                "question_id": "115", "text": "Is the dog left or right of the river?\n(A) right\n(B) left\n"
                "Answer with the option's letter from the given choices directly.",
            },
        ]
    },
    samples=[
        Sampled(
            "direct_attributes/0", "What is the material of the glove?", ("rubber", "cotton", "kevlar", "leather"),
            "rubber", "direct_attributes",
        ),
        Sampled(
            "relative_position/115", "Is the dog left or right of the river?", ("right", "left"), "left",
            "relative_position",
        ),
    ],
)  # fmt: skip
MME_REALWORLD = Example(
    types={**strings("bytes path question answer category"), "l2-category": "string", "index": "int64"}
    | {"multi-choice options": "strings"},
    rows={
        "": [
            {
                "bytes": base64_cell("red"), "path": "monitoring_images/1.jpg", "index": 12, "answer": "E",
                "question": "How many vehicles are in the image?", "category": "Reasoning/Monitoring",
                "multi-choice options": [
                    "(A) 3", "(B) 5", "(C) 7", "(D) 9", "(E) The image does not feature the vehicles."
                ],
                "l2-category": "calculate",
            },
        ]
    },
    samples=[
        Sampled(
            "12", "How many vehicles are in the image?",
            ("3", "5", "7", "9", "The image does not feature the vehicles."),
            "The image does not feature the vehicles.", "Reasoning/Monitoring", "monitoring_images/1.jpg",
        ),
    ],
)  # fmt: skip
MMBENCH = Example(
    types={"index": "int64", **strings("question hint answer A B C D category source L2-category comment split")}
    | {"image": "image"},
    rows={
        "en": [
            {
                "index": 241, "question": "Identify the question.", "hint": "The passage describes an experiment.",
                "answer": "B", "A": "How hot?", "B": "How fast?", "C": "nan", "D": "nan", "image": cell("red"),
                "category": "identity_reasoning", "source": "scienceqa", "L2-category": "attribute_reasoning",
                "comment": "nan", "split": "dev",
            },
            {
                "index": 1_000_241, "question": "Identify the question.", "hint": "nan", "answer": "A",
                "A": "How fast?", "B": "How hot?", "C": "nan", "D": "nan", "image": cell("red"), "source": "scienceqa",
                "category": "identity_reasoning", "L2-category": "attribute_reasoning", "comment": "nan",
                "split": "dev",
            },
            {
                "index": 242, "question": "Which?", "hint": None, "answer": "nan", "A": "a", "B": "b", "C": "c",
                "D": "d", "image": cell("red"), "category": "ocr", "source": "scienceqa", "L2-category": "x",
                "comment": "nan", "split": "dev",
            },
        ]
    },
    samples=[
        Sampled(
            "241", "Hint: The passage describes an experiment.\nQuestion: Identify the question.",
            ("How hot?", "How fast?"), "How fast?", "identity_reasoning", "241",
        ),
        Sampled(
            "1000241", "Identify the question.", ("How fast?", "How hot?"), "How fast?", "identity_reasoning", "241",
        ),
    ],
    left_out=["row 2: its answer is not published"],
)  # fmt: skip
BLINK = Example(
    types={**strings("idx question sub_task answer prompt explanation"), "choices": "strings"}
    | {f"image_{number}": "image" for number in range(1, 5)},
    rows={
        "Relative_Depth": [
            {
                "idx": "val_Relative_Depth_1", "question": "Which point is closer to the camera?",
                "sub_task": "Relative_Depth", "image_1": cell("lime"), "image_2": None, "image_3": None,
                "image_4": None, "choices": ["A is closer", "B is closer"], "answer": "(B)", "explanation": None,
                "prompt": "Two points are circled on the image, labeled by A and B beside each circle. Which point is "
                "closer to the camera?\nSelect from the following choices.\n(A) A is closer\n(B) B is closer",
            },
        ],
        "Visual_Correspondence": [
            {
                "idx": "val_Visual_Correspondence_1", "question": "Which point is corresponding?",
                "sub_task": "Visual_Correspondence", "image_1": cell("red"), "image_2": cell("blue"), "image_3": None,
                "image_4": None, "choices": ["Point A", "Point B", "Point C", "Point D"], "answer": "(D)",
                "explanation": None, "prompt": "A point is circled on the first image. Select from the following "
                "options.\n(A) Point A\n(B) Point B\n(C) Point C\n(D) Point D",
            },
            {
                "idx": "test_Visual_Correspondence_2", "question": "Which?", "sub_task": "Visual_Correspondence",
                "image_1": cell("red"), "image_2": None, "image_3": None, "image_4": None, "choices": ["a", "b"],
                "answer": "hidden", "explanation": None, "prompt": "Which?\n(A) a\n(B) b",
            },
        ],
    },
    samples=[
        Sampled(
            "val_Relative_Depth_1", "Two points are circled on the image, labeled by A and B beside each circle. Which "
            "point is closer to the camera?\nSelect from the following choices.", ("A is closer", "B is closer"),
            "B is closer", "Relative_Depth", None, ("lime",),
        ),
        Sampled(
            "val_Visual_Correspondence_1",
            "A point is circled on the first image. Select from the following options.",
            ("Point A", "Point B", "Point C", "Point D"), "Point D", "Visual_Correspondence", None, ("red", "blue"),
        ),
    ],
    left_out=["row 1: its answer is not published"],
)  # fmt: skip
MMSTAR = Example(
    types={"index": "int64", **strings("question answer category l2_category"), "image": "image", "meta_info": "meta"},
    rows={
        "": [
            {
                "index": 0, "question": "Which option describe the object relationship in the image correctly?\n"
                "Options: A: The suitcase is on the book., B: The suitcase is beneath the cat., C: The suitcase is "
                "beneath the bed., D: The suitcase is beneath the book.", "image": cell("red"), "answer": "A",
                "category": "coarse perception", "l2_category": "image scene and topic",
                "meta_info": {"source": "MMBench", "split": "val", "image_path": "images/0.jpg"},
            },
            {
                "index": 1, "question": "Hint: Please answer the question and provide the correct option letter, e.g., "
                "A, B, C, D, at the end.\nQuestion: Find x.\nChoices:\n(A) 1, 2\n(B) 3", "image": cell("blue"),
                "answer": "B",
                "category": "math", "l2_category": "geometry",
                "meta_info": {"source": "MathVista", "split": "testmini", "image_path": "images/1.jpg"},
            },
        ]
    },
    samples=[
        Sampled(
            "0", "Which option describe the object relationship in the image correctly?",
            (
                "The suitcase is on the book.", "The suitcase is beneath the cat.",
                "The suitcase is beneath the bed.", "The suitcase is beneath the book.",
            ),
            "The suitcase is on the book.", "coarse perception",
        ),
        Sampled("1", "Find x.", ("1, 2", "3"), "3", "math", None, ("blue",)),
    ],
)  # fmt: skip
_LETTER = "Please answer directly with only the letter of the correct option and nothing else."
REALWORLDQA = Example(
    types={**strings("image_path question answer"), "image": "image"},
    rows={
        "": [
            {
                "image_path": "0.webp", "image": cell("red"), "answer": "C",
                "question": "In which direction is the front wheel of the car on the right side facing?\n\nA. Left\n"
                f"B. Straight\nC. Right\n{_LETTER}",
            },
            {
                "image_path": "1.webp", "image": cell("red"), "answer": "3",
                "question": "How many lanes are there? Please answer directly with a single word or number.",
            },
        ]
    },
    samples=[
        Sampled(
            "0", "In which direction is the front wheel of the car on the right side facing?",
            ("Left", "Straight", "Right"), "Right", None,
        ),
    ],
    left_out=["row 1: its text has no options A, B, …"],
)  # fmt: skip


def _mmmu(name: str, question: str, options: str, answer: str, *colours: str, **more: str) -> dict[str, Any]:
    images = {f"image_{number}": cell(colour) for number, colour in enumerate(colours, start=1)}
    return (
        dict.fromkeys([f"image_{number}" for number in range(1, 8)])
        | images
        | {"id": name, "question": question, "options": options, "explanation": "", "img_type": "['Tables']"}
        | {"answer": answer, "topic_difficulty": "Easy", "question_type": "multiple-choice", "subfield": "Cost"}
        | more
    )


MMMU = Example(
    types=strings("id question options explanation img_type answer topic_difficulty question_type subfield")
    | {f"image_{number}": "image" for number in range(1, 8)},
    rows={
        "Accounting": [
            _mmmu("validation_Accounting_1", "<image 1> What is the cost?", "['$6', '$7', '$8']", "B", "red"),
            _mmmu("validation_Accounting_2", "Cost of <image 1>?", "[]", "3", "red", question_type="open"),
        ],
        "Art_Theory": [
            _mmmu("validation_Art_Theory_7", "Is <image 2> older than <image 1>?", "['No', 'Yes']", "A", "red", "blue"),
            _mmmu(
                "validation_Art_Theory_8", "Which is like <image 1>?", "['<image 2>', '<image 3>']", "B",
                "red", "blue", "lime",
            ),
            _mmmu("validation_Art_Theory_9", "What does <image 2> show?", "['a', 'b']", "B", "red"),
        ],
    },
    samples=[
        Sampled("validation_Accounting_1", "<image> What is the cost?", ("$6", "$7", "$8"), "$7", "Accounting"),
        Sampled(
            "validation_Art_Theory_7", "Is <image> older than <image>?", ("No", "Yes"), "No", "Art_Theory", None,
            ("blue", "red"),
        ),
        Sampled(
            "validation_Art_Theory_8", "Which is like <image 1>?", ("<image 2>", "<image 3>"), "<image 3>",
            "Art_Theory", None, ("red", "blue", "lime"),
        ),
    ],
    left_out=["row 1: an open question"],
    problems=["row 2: .*expected an image in 'image_2', which the question marks, got none"],
)  # fmt: skip

SAT = Example(
    types={"images": "images", **strings("question"), "answers": "strings", **strings("correct_answer question_type")},
    rows={
        "": [
            {
                "images": [cell("red"), cell("blue")], "question": "Were any objects moved between the two frames?",
                "answers": ["Chair was moved left.", "No."], "correct_answer": "Chair was moved left.",
                "question_type": "obj_movement",
            },
            {
                "images": [cell("lime")], "question": "How did the camera move?", "answers": ["left", "right"],
                "correct_answer": "forward", "question_type": "action_sequence",
            },
        ]
    },
    samples=[
        Sampled(
            "0", "Were any objects moved between the two frames?", ("Chair was moved left.", "No."),
            "Chair was moved left.", "obj_movement", None, ("red", "blue"),
        ),
    ],
    problems=["row 1: expected a row as sat has them, got ValueError: expected the text of an option, got 'forward'"],
)  # fmt: skip
_BY_TEXT = "Answer with the text of the option."
SAT2 = Example(
    images=("spatial_reasoning/images/0_0.png", "spatial_reasoning/images/0_1.png"),
    rows={
        "spatial_reasoning/vigorl_sat2_train_RL.jsonl": [
            {
                "images": ["spatial_reasoning/images/0_0.png", "spatial_reasoning/images/0_1.png"],
                "problem": "<image>\n<image>\nQuestion: How did the camera rotate?\nAnswer Choices:\nA. rotated left\n"
                f"B. did not move\n{_BY_TEXT}",
                "answer": "did not move",
            },
            {
                "images": ["spatial_reasoning/images/0_0.png"], "answer": "12",
                "problem": f"<image>\nQuestion: How many chairs are there? {_BY_TEXT}",
            },
        ]
    },
    samples=[
        Sampled(
            "vigorl_sat2_train_RL/0", "How did the camera rotate?", ("rotated left", "did not move"), "did not move",
            None, None, ("red", "red"),
        ),
    ],
    left_out=["line 2: its text has no options A, B, …"],
)  # fmt: skip
PIXMO_COUNT = Example(  # as a copy with the images has it; rows with addresses have tests of their own
    types={"image_sha256": "string", "count": "int32", "points": "points", "label": "string", "image": "image"},
    rows={
        "": [
            {
                "image_sha256": "ab12", "count": 0, "points": {"x": [], "y": []}, "label": "people",
                "image": cell("red"),
            },
        ]
    },
    samples=[Sampled("0", "How many people are in the image?", ("0", "1", "2", "3"), "0", None, "ab12")],
)  # fmt: skip
GEOMETRY3K = Example(
    types={"images": "images", **strings("problem answer"), "id": "int64", "choices": "strings"}
    | {"ground_truth": "string"},
    rows={
        "": [
            {
                "images": [cell("red")], "problem": "<image>Find $x$.", "answer": "2 \\sqrt { 221 }", "id": 2401,
                "choices": ["4", "2 \\sqrt { 221 }", "12", "30"], "ground_truth": "B",
            },
            {
                "images": [cell("red")], "problem": "<image>Find the area.", "answer": "7", "id": 2402,
                "choices": ["7", "8", "7", "9"], "ground_truth": "A",
            },
        ]
    },
    samples=[Sampled("2401", "Find $x$.", ("4", "2 \\sqrt { 221 }", "12", "30"), "2 \\sqrt { 221 }", None)],
    problems=["sample '2402', field 'options': expected different options, got '7' at index"],
)  # fmt: skip

EXAMPLES = {
    "cv-bench": CV_BENCH,
    "spatial-mm-obj": SPATIAL_MM_OBJ,
    "spatial-mm-multihop": SPATIAL_MM_MULTIHOP,
    "whatsup": WHATSUP,
    "whatsup-coco": WHATSUP_COCO,
    "whatsup-vg": WHATSUP_VG,
    "vstar": VSTAR,
    "mme-realworld-lite": MME_REALWORLD,
    "mmbench": MMBENCH,
    "blink": BLINK,
    "mmstar": MMSTAR,
    "realworldqa": REALWORLDQA,
    "mmmu": MMMU,
    "sat": SAT,
    "sat2": SAT2,
    "pixmo-count": PIXMO_COUNT,
    "geometry3k": GEOMETRY3K,
}


def dataset(rows: Iterable[Mapping[str, Any]], types: Mapping[str, str]) -> Any:
    """Rows as a dataset with the columns' types of a card."""
    datasets = pytest.importorskip("datasets")
    text, number = datasets.Value("string"), datasets.Value("float64")
    known = {
        "string": text,
        "int32": datasets.Value("int32"),
        "int64": datasets.Value("int64"),
        "strings": datasets.List(text),
        "boxes": datasets.List(datasets.List(number)),
        "image": datasets.Image(),
        "images": datasets.List(datasets.Image()),
        "points": datasets.Sequence({"x": datasets.Value("float32"), "y": datasets.Value("float32")}),
        "binaries": datasets.List(datasets.Value("binary")),
        "meta": {"source": text, "split": text, "image_path": text},
    }
    return datasets.Dataset.from_list(
        list(rows), features=datasets.Features({name: known[kind] for name, kind in types.items()})
    )


@pytest.fixture(params=sorted(EXAMPLES))
def known(request: pytest.FixtureRequest) -> tuple[str, Example]:
    """Each benchmark with its example; 3DSRBench, whose images are on the net, has tests of its own."""
    return request.param, EXAMPLES[request.param]


@pytest.fixture
def example() -> Callable[[str], Example]:
    return EXAMPLES.__getitem__


@pytest.fixture
def as_dataset() -> Callable[[Iterable[Mapping[str, Any]], Mapping[str, str]], Any]:
    return dataset


@pytest.fixture
def layout(tmp_path: Path) -> Callable[[str], Path]:
    """Write a benchmark's rows as its repository has them: parquet by configuration, or its own files and images."""

    def write(name: str) -> Path:
        example, entry, folder = EXAMPLES[name], BENCHMARKS[name], tmp_path / name
        for part, rows in example.rows.items():
            if example.types:
                (folder / part).mkdir(parents=True, exist_ok=True)
                dataset(rows, example.types).to_parquet(folder / part / f"{entry.split}-00000-of-00001.parquet")
                continue
            file = folder / part
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = file.suffix == ".jsonl"
            file.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), encoding="utf-8")
        for image in example.images:
            (folder / image).parent.mkdir(parents=True, exist_ok=True)
            (folder / image).write_bytes(picture("red"))
        return folder

    return write
