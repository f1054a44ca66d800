"""Register the published benchmarks by name: the source, the split and the row reader of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..fields import AnswerAs
from . import general, spatial

__all__ = ["BENCHMARKS", "Published"]


_BLINK_TASKS = (
    "Art_Style", "Counting", "Forensic_Detection", "Functional_Correspondence", "IQ_Test", "Jigsaw",
    "Multi-view_Reasoning", "Object_Localization", "Relative_Depth", "Relative_Reflectance", "Semantic_Correspondence",
    "Spatial_Relation", "Visual_Correspondence", "Visual_Similarity",
)  # fmt: skip
_MMMU_SUBJECTS = (
    "Accounting", "Agriculture", "Architecture_and_Engineering", "Art", "Art_Theory", "Basic_Medical_Science",
    "Biology", "Chemistry", "Clinical_Medicine", "Computer_Science", "Design", "Diagnostics_and_Laboratory_Medicine",
    "Economics", "Electronics", "Energy_and_Power", "Finance", "Geography", "History", "Literature", "Manage",
    "Marketing", "Materials", "Math", "Mechanical_Engineering", "Music", "Pharmacy", "Physics", "Psychology",
    "Public_Health", "Sociology",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Published:
    """A published dataset: where it is, and what makes fields of a sample of its rows.

    Attributes:
        name: what it is called here.
        asks: what its questions ask.
        read: one of its rows → the fields of a sample, as `samples_from` takes them; without an `id`, rows are
            numbered; with a `number` in place of options and answer, options are made around it. Raises `LeftOut` for
            a row that is no multiple-choice question.
        citation: the paper.
        hub: its name on the Hugging Face hub; None = it is not there.
        configs: its configurations on the hub that are read, one after another; empty = the default one.
        split: the part that is read if no other is asked for.
        files: the files that hold its rows, where these are no dataset that `datasets` opens.
        home: where its files are, if they are no dataset of the hub.
        rows: how many rows the split has; None = neither its card nor its repository says.
        category: the column or whatever else `metadata["category"]` comes from; None = there is none.
        answer_as: how its answers are written, see `samples_from`.
        shuffled: whether the options are put in an order drawn per sample, as the right one always comes first in the
            rows, or the data is for training.
    """

    name: str
    asks: str
    read: Callable[[Mapping[str, Any]], dict[str, Any]]
    citation: str
    hub: str | None = None
    configs: tuple[str, ...] = ()
    split: str = "test"
    files: tuple[str, ...] = ()
    home: str | None = None
    rows: int | None = None
    category: str | None = "category"
    answer_as: AnswerAs = "letter"
    shuffled: bool = False


_WHATS_UP: Mapping[str, Any] = {
    "citation": 'Kamath et al. 2023, What\'s "up" with vision-language models?, arXiv:2310.19785',
    "home": "https://github.com/amitakamath/whatsup_vlms",
    "category": "preposition",
    "answer_as": "index",
    "shuffled": True,
}
_ENTRIES = (
    Published(
        "cv-bench",
        "spatial relation and count (2D), depth order and relative distance (3D)",
        spatial.read_cv_bench,
        "Tong et al. 2024, Cambrian-1, arXiv:2406.16860",
        hub="nyu-visionx/CV-Bench",
        rows=2638,
        category="task",
    ),
    Published(
        "3dsrbench",
        "height, location, orientation and several objects in 3D",
        spatial.read_3dsrbench,
        "Ma et al. 2024, 3DSRBench, arXiv:2412.07825",
        hub="ccvl/3DSRBench",
    ),
    Published(
        "spatial-mm-obj",
        "where one object is, or two are to each other",
        spatial.read_spatial_mm_obj,
        "Shiri et al. 2024, Spatial-MM, arXiv:2411.06048",
        files=("spatial_mm_one_obj.json", "data/spatial_mm_two_obj.json"),
        home="https://github.com/FatemehShiri/Spatial-MM",
        rows=1576,
        category="the file",
    ),
    Published(
        "spatial-mm-multihop",
        "several steps of spatial reasoning",
        spatial.read_spatial_mm_multihop,
        "Shiri et al. 2024, Spatial-MM, arXiv:2411.06048",
        files=("data/multihop_reasoning_309.json",),
        home="https://github.com/FatemehShiri/Spatial-MM",
        rows=309,
        category="hop",
        answer_as="text",
    ),
    Published(
        "whatsup",
        "which caption has the right preposition, in photographs made for it",
        spatial.read_whatsup,
        files=("controlled_images_dataset.json", "controlled_clevr_dataset.json"),
        **_WHATS_UP,
    ),
    Published(
        "whatsup-coco",
        "which of two captions has the right preposition, in images of COCO",
        spatial.read_whatsup_coco,
        files=("coco_qa_one_obj.json", "coco_qa_two_obj.json"),
        **_WHATS_UP,
    ),
    Published(
        "whatsup-vg",
        "which of two captions has the right preposition, in images of Visual Genome",
        spatial.read_whatsup_vg,
        files=("vg_qa_one_obj.json", "vg_qa_two_obj.json"),
        **_WHATS_UP,
    ),
    Published(
        "vstar",
        "attributes and positions of small things in large images",
        general.read_vstar,
        "Wu and Xie 2023, V*, arXiv:2312.14135",
        hub="craigwu/vstar_bench",
        files=("test_questions.jsonl",),
        rows=191,
    ),
    Published(
        "mme-realworld-lite",
        "text, tables, remote sensing, traffic and monitoring at high resolution",
        general.read_mme_realworld,
        "Zhang et al. 2024, MME-RealWorld, arXiv:2408.13257",
        hub="yifanzhang114/MME-RealWorld-lite-lmms-eval",
        split="train",
        rows=1919,
    ),
    Published(
        "mmbench",
        "twenty abilities of perception and reasoning, options rotated",
        general.read_mmbench,
        "Liu et al. 2023, MMBench, arXiv:2307.06281",
        hub="lmms-lab/MMBench",
        configs=("en",),
        split="dev",
        rows=4329,
    ),
    Published(
        "blink",
        "fourteen tasks of perception, with up to four images",
        general.read_blink,
        "Fu et al. 2024, BLINK, arXiv:2404.12390",
        hub="BLINK-Benchmark/BLINK",
        configs=_BLINK_TASKS,
        split="val",
        rows=1901,
        category="sub_task",
    ),
    Published(
        "mmstar",
        "six abilities, on questions chosen to need the image",
        general.read_mmstar,
        "Chen et al. 2024, MMStar, arXiv:2403.20330",
        hub="Lin-Chen/MMStar",
        split="val",
        rows=1500,
    ),
    Published(
        "realworldqa",
        "space in scenes of traffic and everyday life",
        general.read_realworldqa,
        "xAI 2024, RealWorldQA, released with Grok-1.5 Vision",
        hub="xai-org/RealworldQA",
        rows=765,
        category=None,
    ),
    Published(
        "mmmu",
        "thirty subjects at the level of a college",
        general.read_mmmu,
        "Yue et al. 2023, MMMU, arXiv:2311.16502",
        hub="MMMU/MMMU",
        configs=_MMMU_SUBJECTS,
        split="validation",
        rows=900,
        category="the subject in id",
    ),
    Published(
        "sat",
        "where things and the camera are and how they move, in synthetic rooms",
        spatial.read_sat,
        "Ray et al. 2024, SAT, arXiv:2412.07755",
        hub="array/SAT-v2",
        split="train",
        rows=172_384,
        category="question_type",
        answer_as="index",
        shuffled=True,
    ),
    Published(
        "sat2",
        "the same, as ViGoRL is trained on it",
        spatial.read_sat2,
        "Sarch et al. 2025, ViGoRL, arXiv:2505.23678",
        split="train",
        files=("spatial_reasoning/vigorl_sat2_train_RL.jsonl",),
        home="https://huggingface.co/datasets/gsarch/vigorl_datasets",
        category=None,
        answer_as="index",
        shuffled=True,
    ),
    Published(
        "pixmo-count",
        "how many there are of something, in photographs of the web",
        general.read_pixmo_count,
        "Deitke et al. 2024, Molmo and PixMo, arXiv:2409.17146",
        hub="allenai/pixmo-count",
        split="train",
        rows=36_916,
        category=None,
        answer_as="index",
        shuffled=True,
    ),
    Published(
        "geometry3k",
        "lengths, angles and areas in drawings of plane geometry",
        general.read_geometry3k,
        "Lu et al. 2021, Inter-GPS, arXiv:2105.04165",
        hub="hiyouga/geometry3k",
        split="train",
        rows=2_101,
        category=None,
        answer_as="index",
        shuffled=True,
    ),
)

BENCHMARKS: Mapping[str, Published] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
