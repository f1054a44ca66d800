"""Where a benchmark is read from, how much of it, and in which order its options come."""

import base64
import csv
import itertools
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from vlmrobust.data import BENCHMARKS, RowsError, load_benchmark
from vlmrobust.types import open_image

Layout = Callable[[str], Path]
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_lists_every_benchmark_by_its_name() -> None:
    assert [*BENCHMARKS] == [entry.name for entry in BENCHMARKS.values()]
    for entry in BENCHMARKS.values():
        assert entry.hub or (entry.files and entry.home)
        assert entry.asks
        assert re.search(r"20\d\d", entry.citation)
        assert "Source: " in (entry.read.__doc__ or "")
    assert len(BENCHMARKS["mmmu"].configs) == 30
    assert len(BENCHMARKS["blink"].configs) == 14


def test_an_unknown_name_lists_the_known_ones() -> None:
    for name in ("cvbench", "CV-Bench"):
        nearest = f"expected a benchmark, got '{name}'; did you mean 'cv-bench'\\? Known are 3dsrbench, .*, whatsup-vg$"
        with pytest.raises(ValueError, match=nearest):
            load_benchmark(name)
    with pytest.raises(ValueError, match=r"expected a benchmark, got 'nlvr'; known are 3dsrbench, .*, whatsup-vg$"):
        load_benchmark("nlvr")


# --- where it is read from --------------------------------------------------------------------------------------------


class Hub:
    """Stands for `datasets.load_dataset` and counts the rows that are taken from it."""

    def __init__(self, rows: dict[str | None, list[dict[str, Any]]], features: Any) -> None:
        self.rows, self.features = rows, features
        self.calls: list[tuple[Any, ...]] = []
        self.read = 0

    def __call__(self, name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        datasets = pytest.importorskip("datasets")
        self.calls.append((name, config, split, streaming))
        if not streaming:
            return datasets.Dataset.from_list(self.rows[config], features=self.features)

        def generate() -> Iterator[dict[str, Any]]:
            for row in self.rows[config]:
                self.read += 1
                yield row

        return datasets.IterableDataset.from_generator(generate, features=self.features)


@pytest.fixture
def hub(
    monkeypatch: pytest.MonkeyPatch, example: Callable[[str], Any], as_dataset: Callable[..., Any]
) -> Callable[[str], Hub]:
    datasets = pytest.importorskip("datasets")

    def of(name: str) -> Hub:
        rows = example(name).rows
        features = as_dataset(next(iter(rows.values())), example(name).types).features
        stand_in = Hub({part or None: part_rows for part, part_rows in rows.items()}, features)
        monkeypatch.setattr(datasets, "load_dataset", stand_in)
        return stand_in

    return of


@pytest.mark.parametrize("streaming", [False, True])
def test_the_hub_is_asked_for_the_usual_split(
    hub: Callable[[str], Hub], example: Callable[[str], Any], streaming: bool
) -> None:
    asked = hub("cv-bench")
    samples = load_benchmark("cv-bench", streaming=streaming)
    assert asked.calls == [("nyu-visionx/CV-Bench", None, "test", streaming)]
    assert [sample.id for sample in samples] == [expected.id for expected in example("cv-bench").samples]
    assert open_image(samples[1].images[0]).getpixel((0, 0)) == (0, 0, 255)
    load_benchmark("cv-bench", split="validation")
    assert asked.calls[-1] == ("nyu-visionx/CV-Bench", None, "validation", False)


def test_configurations_are_opened_one_after_another_and_not_before(hub: Callable[[str], Hub]) -> None:
    asked = hub("blink")
    tasks = ("Relative_Depth", "Visual_Correspondence")
    [sample] = load_benchmark("blink", configs=tasks, limit=1, streaming=True)
    assert sample.id == "val_Relative_Depth_1"
    assert asked.calls == [("BLINK-Benchmark/BLINK", "Relative_Depth", "val", True)]
    assert asked.read == 1
    samples = load_benchmark("blink", configs=tasks, limit=2, streaming=True)
    assert [call[1] for call in asked.calls[1:]] == [*tasks]
    assert [sample.metadata["category"] for sample in samples] == [*tasks]
    assert asked.read == 3


def test_a_limit_below_one_is_refused(layout: Layout) -> None:
    with pytest.raises(ValueError, match="expected a limit of at least 1, got 0"):
        load_benchmark("cv-bench", source=layout("cv-bench"), limit=0)


def test_files_of_the_hub_are_fetched_with_their_images(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, example: Callable[[str], Any]
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    calls = []

    def snapshot_download(name: str, *, repo_type: str) -> str:
        calls.append((name, repo_type))
        return str(layout("vstar"))

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    samples = load_benchmark("vstar", check_images=True)
    assert calls == [("craigwu/vstar_bench", "dataset")]
    assert [sample.id for sample in samples] == [expected.id for expected in example("vstar").samples]


@pytest.mark.parametrize("name", ["whatsup", "spatial-mm-obj"])
def test_what_is_not_on_the_hub_says_where_it_is(name: str) -> None:
    entry = BENCHMARKS[name]
    message = f"{name}: expected a source, .*{re.escape(entry.files[0])}.* from {re.escape(str(entry.home))}"
    with pytest.raises(ValueError, match=message):
        load_benchmark(name)


def test_one_file_is_a_source_and_the_images_may_lie_elsewhere(layout: Layout, tmp_path: Path) -> None:
    folder = layout("spatial-mm-obj")
    [sample] = load_benchmark("spatial-mm-obj", source=folder / "data" / "spatial_mm_two_obj.json", root=folder)
    assert (sample.id, sample.images) == ("spatial_mm_two_obj/0", (folder / "129d.jpg",))
    [parquet] = layout("mme-realworld-lite").glob("*.parquet")
    assert [sample.id for sample in load_benchmark("mme-realworld-lite", source=parquet)] == ["12"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"split": "test"}, "splits: expected none for 'rows.jsonl', got 'test'"),
        ({"configs": ["Counting"]}, r"configs: expected none for 'rows.jsonl', got \['Counting'\]"),
    ],
)
def test_a_single_file_has_no_parts(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=f"^blink: a single file has no {message}$"):
        load_benchmark("blink", source=tmp_path / "rows.jsonl", **asked)


def test_a_file_may_lie_in_the_folder_itself(layout: Layout) -> None:
    folder = layout("spatial-mm-obj")
    (folder / "data" / "spatial_mm_two_obj.json").rename(folder / "spatial_mm_two_obj.json")
    with pytest.warns(UserWarning, match="2 samples of 3 rows"):
        assert len(load_benchmark("spatial-mm-obj", source=folder)) == 2


def test_all_files_and_images_may_lie_in_the_folder_for_data(layout: Layout) -> None:
    folder = layout("spatial-mm-obj")
    for file in folder.iterdir():
        if file.is_file():
            file.rename(folder / "data" / file.name)
    with pytest.warns(UserWarning, match="2 samples of 3 rows"):
        samples = load_benchmark("spatial-mm-obj", source=folder, check_images=True)
    assert all(Path(sample.images[0]).is_file() for sample in samples)


def test_repositories_name_their_parquet_files_in_several_ways(layout: Layout) -> None:
    folder = layout("cv-bench")
    [whole] = folder.glob("*.parquet")
    ids = ["0", "1438"]
    for names in (["test_2d.parquet"], ["cv.parquet"], ["data/test-00000-of-00001.parquet"]):
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            whole = whole.rename(folder / name)
        assert [sample.id for sample in load_benchmark("cv-bench", source=folder)] == ids
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"of another split")
    assert [sample.id for sample in load_benchmark("cv-bench", source=folder)] == ids


def test_sources_that_are_not_there_or_not_whole(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cv-bench: expected a file or folder, found none at 'nowhere'"):
        load_benchmark("cv-bench", source="nowhere")
    folder = layout("whatsup")
    (folder / "controlled_clevr_dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"found no controlled_clevr_dataset.json; pass one file as source"):
        load_benchmark("whatsup", source=folder)
    with pytest.raises(FileNotFoundError, match=r"blink: .* found no Art_Style, Counting, .*; pass configs="):
        load_benchmark("blink", source=layout("blink"))
    with pytest.raises(ValueError, match=r"vstar: expected no configs, as it has none, got \['OCR'\]"):
        load_benchmark("vstar", configs=["OCR"])


def test_rows_with_other_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"picture": "a.png", "idx": 1}))
    with pytest.raises(
        RowsError, match="line 1: expected a column 'filename' as cv-bench has it, got 'picture', 'idx'"
    ):
        load_benchmark("cv-bench", source=tmp_path / "rows.jsonl")


def test_problems_can_be_refused(layout: Layout) -> None:
    with pytest.raises(RowsError, match=r"1 problem in the rows:\n .*got 'C. middle'"):
        load_benchmark("spatial-mm-obj", source=layout("spatial-mm-obj"), on_error="raise")


# --- tables of VLMEvalKit ---------------------------------------------------------------------------------------------


def table(path: Path, columns: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows([columns, *rows])
    return path


MMBENCH = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source", "l2-category"]


def test_rows_of_a_table_share_images(tmp_path: Path) -> None:
    image = base64.b64encode(PIXEL + bytes(200_000)).decode()  # beyond what csv takes for a cell by default
    ends = ["B", "ocr", image, "web", "x"]
    path = table(
        tmp_path / "MMBench_DEV_EN.tsv",
        MMBENCH,
        [
            [1, "Which?", "", "a", "b", "", "", *ends],
            [1_000_001, "Which?", "", "b", "a", "", "", "A", "ocr", "1", "web", "x"],
            [2, "Which?", "", "b", "a", "c", "", "A", "ocr", "7", "web", "x"],
        ],
    )
    limit = csv.field_size_limit()
    with pytest.warns(UserWarning, match="2 samples of 3 rows; problems: 1"):
        samples = load_benchmark("mmbench", source=path)
    assert csv.field_size_limit() == limit
    assert samples[0].images == samples[1].images
    assert open_image(samples[1].images[0]).size == (1, 1)
    assert [(sample.group, sample.metadata["circular"]) for sample in samples] == [("1", False), ("1", True)]
    assert samples[0].metadata["l2-category"] == "x"
    [problem] = samples.problems
    assert problem.endswith("line 4: expected an image, or the index of a row that has it, got '7'")


def test_a_table_of_3dsrbench(tmp_path: Path) -> None:
    image = base64.b64encode(PIXEL).decode()
    path = table(
        tmp_path / "3dsrbench_v1_vlmevalkit_circular.tsv",
        ["index", "qid", "question", "A", "B", "C", "D", "answer", "category", "image"],
        [
            [0, "VIN6MS3J", "Which is higher?", "glove", "hat", "", "", "B", "height_higher", image],
            [1, "VIN6MS3J-flip-1", "Which is higher?", "hat", "glove", "", "", "A", "height_higher", image],
        ],
    )
    samples = load_benchmark("3dsrbench", source=path, check_images=True)
    assert [sample.id for sample in samples] == ["VIN6MS3J", "VIN6MS3J-flip-1"]
    assert {sample.group for sample in samples} == {"VIN6MS3J"}
    assert {sample.options[sample.answer] for sample in samples} == {"hat"}


def test_an_image_that_is_no_base64_is_a_problem(tmp_path: Path) -> None:
    rows = [[1, "Which?", "", "a", "b", "", "", "B", "ocr", "?" * 80, "web", "x"]]
    path = table(tmp_path / "rows.tsv", MMBENCH, rows)
    with pytest.raises(RowsError, match=r"line 2: .* as mmbench has .* expected an image in base64, got '\?\?"):
        load_benchmark("mmbench", source=path)


# --- the order of options ---------------------------------------------------------------------------------------------


@pytest.fixture
def captions(tmp_path: Path) -> Callable[..., Path]:
    def write(count: int, start: int = 0) -> Path:
        path = tmp_path / "controlled_images_dataset.json"
        rows = [
            {"image_path": f"data/images/cup{n}_on_table.jpeg", "caption_options": ["right", "w1", "w2", "w3"]}
            for n in range(start, start + count)
        ]
        path.write_text(json.dumps(rows))
        return path

    return write


def orders(path: Path, seed: int = 0) -> dict[str, tuple[str, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the images, which are not there
        samples = load_benchmark("whatsup", source=path, seed=seed)
    assert all(sample.options[sample.answer] == "right" for sample in samples)
    return {sample.id: sample.options for sample in samples}


def test_options_whose_right_one_comes_first_are_shuffled_evenly(captions: Callable[..., Path]) -> None:
    drawn = Counter(orders(captions(2400)).values())
    assert set(drawn) == set(itertools.permutations(["right", "w1", "w2", "w3"]))
    assert scipy.stats.chisquare([*drawn.values()]).pvalue > 0.001


def test_an_order_depends_on_the_seed_and_the_sample_alone(captions: Callable[..., Path]) -> None:
    first = orders(captions(40))
    later = orders(captions(40, start=20))
    shared = first.keys() & later.keys()
    assert len(shared) == 20
    assert all(first[name] == later[name] for name in shared)
    assert orders(captions(40), seed=1) != first == orders(captions(40))


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_tables_in_the_documentation_are_the_one_in_the_code() -> None:
    pages = Path(__file__).parents[3] / "docs" / "pages"
    text = "\n".join((pages / name).read_text(encoding="utf-8") for name in ("benchmarks.md", "training_data.md"))
    lines = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", text, re.MULTILINE)
    shown = {name: tuple(cell.strip() for cell in cells.split("|")) for name, cells in lines if cells.count("|") == 4}
    assert shown == {
        entry.name: (
            f"[files]({entry.home})" if entry.hub is None else f"`{entry.hub}`",
            entry.split,
            "–" if entry.rows is None else f"{entry.rows:,}",
            entry.asks,
            entry.category or "–",
        )
        for entry in BENCHMARKS.values()
    }
