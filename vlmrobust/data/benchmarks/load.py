"""Load a published benchmark, from the hub or from files, as samples."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ...naming import unknown_name
from ...seeding import generator, subset
from ..files import read_file
from ..hugging_face import read_dataset, read_parquet
from ..row import Row
from ..rows import Samples, check_no_parts, in_memory, limited, samples_from
from .questions import LeftOut, nearby_numbers
from .registry import BENCHMARKS, Published

__all__ = ["load_benchmark"]


def load_benchmark(
    name: str,
    *,
    source: Any = None,
    split: str | None = None,
    configs: Sequence[str] = (),
    limit: int | None = None,
    drawn: int | None = None,
    streaming: bool = False,
    root: str | Path | None = None,
    seed: int = 0,
    on_error: Literal["raise", "record"] = "record",
    check_images: bool = False,
    download_urls: bool = False,
) -> Samples:
    """Load a benchmark by its name, one of `BENCHMARKS`.

    Rows become samples with the benchmark's own categories in `metadata["category"]` and questions about one image or
    scene in one `group`. Rows that are no multiple-choice question are left out, and rows that contradict themselves
    are problems: a warning counts both, `left_out` and `problems` list them.

    Args:
        name: such as "cv-bench".
        source: a file or a folder with the benchmark's own files, instead of the hub: a copy of its repository or a
            mirror with the same columns; or its rows in memory, as `read_rows` takes them. Needed where the benchmark
            is not on the hub.
        split: the part to read; None = the usual one, see `BENCHMARKS`, or all of a single file, which has no others.
        configs: the configurations to read, such as `["Counting"]` of BLINK; empty = the usual ones, see `BENCHMARKS`.
        limit: the first so many rows alone.
        drawn: so many rows, drawn from all by `seed` and id; images of the others are not fetched. More rows, or
            another number, change no row's chance and no order: fewer are the first of more.
        streaming: read rows from the hub as they are needed, instead of downloading and keeping the whole split first.
        root: the folder that relative image paths start from; None = that of `source`.
        seed: for the order of options, where the right one always comes first in the rows (What's Up) or for training,
            and for options around a number. Drawn per sample id: more rows, or fewer, change nothing.
        on_error: "record" lists rows with problems, "raise" refuses them.
        check_images: decode every image now.
        download_urls: fetch images that rows give the address of (3DSRBench); otherwise such a row is a problem.

    Returns:
        The samples, with `problems` and `left_out`.

    Raises:
        ValueError: the name is not known, `source` is needed, `limit` and `drawn` are both given, a single file is
            to have a split or configurations, or the dataset, a configuration or the split is not found.
        FileNotFoundError: `source` is not there, or has none of the benchmark's files.
        RowsError: no row makes a sample, or one has a problem and `on_error="raise"`.

    Example:
        >>> load_benchmark("cvbench")
        Traceback (most recent call last):
        ValueError: expected a benchmark, got 'cvbench'; did you mean 'cv-bench'? Known are 3dsrbench, blink, cv-bench,
        geometry3k, mmbench, mme-realworld-lite, mmmu, mmstar, pixmo-count, realworldqa, sat, sat2, spatial-mm-multihop,
        spatial-mm-obj, vstar, whatsup, whatsup-coco, whatsup-vg
    """
    if name not in BENCHMARKS:
        raise ValueError(f"expected a benchmark, {unknown_name(name, sorted(BENCHMARKS))}")
    entry = BENCHMARKS[name]
    if configs and entry.files:
        raise ValueError(f"{name}: expected no configs, as it has none, got {configs!r}")
    if limit is not None and drawn is not None:
        raise ValueError(f"{name}: expected the first rows (limit) or drawn ones, got both: {limit} and {drawn}")
    chosen = replace(entry, split=split or entry.split, configs=tuple(configs) or entry.configs)
    held = None if source is None or isinstance(source, str | Path) else in_memory(source, split)
    if held is not None and configs:
        raise ValueError(f"rows in memory have no configs: expected none for {name}, got {list(configs)!r}")
    path = _located(chosen, source) if held is None else None
    if path is not None and path.is_file():
        check_no_parts(path, name, splits=split, configs=configs)
    read = (
        _fields(chosen, row, str(number) if part is None else f"{part}/{number}", seed)
        for part, part_rows in (_parts(chosen, path, streaming) if held is None else [(None, held)])
        for number, row in enumerate(part_rows)
    )
    rows = list(limited(read, limit)) if drawn is None else _drawn(read, drawn, seed)
    samples = samples_from(
        rows,
        root=root or _root_of(chosen, path, rows),
        on_error=on_error,
        check_images=check_images,
        answer_as=chosen.answer_as,
        download_urls=download_urls,
    )
    _tell(name, rows, samples)
    return samples


def _located(entry: Published, source: str | Path | None) -> Path | None:
    """Return the file or folder to read; None = the hub, through `datasets`."""
    if source is not None:
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{entry.name}: expected a file or folder, found none at {str(source)!r}")
        return path
    if not entry.files:
        return None
    if entry.hub is None:
        raise ValueError(
            f"{entry.name}: expected a source, as it is no dataset of the hub; get {' and '.join(entry.files)} and the "
            f"images from {entry.home}, and pass their folder as source"
        )
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise ValueError("to read from the hub, install the extra: pip install 'vlmrobust[data]'") from error
    return Path(snapshot_download(entry.hub, repo_type="dataset"))


def _parts(entry: Published, path: Path | None, streaming: bool) -> Iterator[tuple[str | None, Iterator[Row]]]:
    """Open the parts one after another – files or configurations – each when it is its turn."""
    if path is None:
        for config in entry.configs or (None,):
            yield config, read_dataset(str(entry.hub), entry.split, config, streaming=streaming)
    elif path.is_file():
        yield path.stem if entry.files else None, read_file(path)
    elif entry.files:
        for file in _all_there(entry, path, {name: _file_in(path, name) for name in entry.files}):
            yield file.stem, read_file(file)
    elif any((path / config).is_dir() for config in entry.configs):
        for folder in _all_there(entry, path, {name: path / name for name in entry.configs}):
            yield folder.name, _read_folder(folder, entry.split)
    else:
        yield None, _read_folder(path, entry.split)


def _file_in(folder: Path, name: str) -> Path:
    """Return the file where its repository has it, or else in the folder itself or in the one for data."""
    bare = Path(name).name
    places = (folder / name, folder / bare, folder / "data" / bare)
    return next((place for place in places if place.is_file()), places[1])


def _root_of(entry: Published, path: Path | None, rows: Sequence[Row]) -> Path | None:
    """Return the folder that images are relative to: the source's, or the one in it where the benchmark's files lie."""
    if path is None or path.is_file():
        return None if path is None else path.parent
    image = next((row.values["image"] for row in rows if isinstance(row.values.get("image"), str)), None)
    folders = [path, *dict.fromkeys(_file_in(path, name).parent for name in entry.files)]
    return next((folder for folder in folders if image is not None and (folder / image).is_file()), path)


def _all_there(entry: Published, folder: Path, parts: Mapping[str, Path]) -> Iterable[Path]:
    if missing := [name for name, path in parts.items() if not path.exists()]:
        instead = "one file as source" if entry.files else "configs=[…] for some alone"
        raise FileNotFoundError(
            f"{entry.name}: expected {', '.join(parts)} in {str(folder)!r}, found no {', '.join(missing)}; "
            f"pass {instead}"
        )
    return parts.values()


def _read_folder(folder: Path, split: str) -> Iterator[Row]:
    """Read the parquet files of a split as repositories name them: `test-00000-of-00001.parquet`, in `data` or not.

    The split may be a later word of the name, as in `SAT_train.parquet`. Where no name has it, all files are read: such
    repositories have one split. `datasets` would read a README for this, and rename `val` and `dev` to `validation`
    without one.
    """
    files = sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
    if not files:
        return read_dataset(str(folder), split, streaming=True)
    of_split = re.compile(rf"(?:^|[-_.]){re.escape(split)}")
    return read_parquet([file for file in files if of_split.search(file.name)] or files)


def _fields(entry: Published, row: Row, number: str, seed: int) -> Row:
    """Return a row whose values are the fields of a sample; `number` is its id where the benchmark gives none."""
    if row.problem is not None:
        return row
    try:
        fields = {"id": number, **entry.read(row.values)}
        if "number" in fields:
            options = nearby_numbers(fields.pop("number"), generator(seed, fields["id"], "nearby numbers"))
            fields |= {"options": options, "answer": 0}
    except LeftOut as reason:
        return replace(row, left_out=str(reason))
    except KeyError as error:
        there = ", ".join(map(repr, row.values))
        return replace(row, problem=f"expected a column {error} as {entry.name} has it, got {there}")
    except (SyntaxError, TypeError, ValueError) as error:  # what reading text as numbers, Python or base64 raises
        return replace(row, problem=f"expected a row as {entry.name} has them, got {type(error).__name__}: {error}")
    return replace(row, values=_shuffled(fields, seed) if entry.shuffled else fields)


def _drawn(rows: Iterable[Row], count: int, seed: int) -> list[Row]:
    """Return so many of the rows that make samples, drawn by key, and all others, which are told of.

    No more than these are kept: a data set may be larger than the memory.
    """
    others: list[Row] = []

    def usable() -> Iterator[Row]:
        for row in rows:
            if row.problem is None and row.left_out is None:
                yield row
            else:
                others.append(replace(row, values={}))

    return [*subset(usable(), count, seed, lambda row: str(row.values["id"])), *others]


def _shuffled(fields: dict[str, Any], seed: int) -> dict[str, Any]:
    order = generator(seed, fields["id"], "published options").permutation(len(fields["options"])).tolist()
    options = [fields["options"][index] for index in order]
    return fields | {"options": options, "answer": order.index(fields["answer"])}


def _tell(name: str, rows: Sequence[Row], samples: Samples) -> None:
    """Warn of rows that made no sample, at the line that loads them."""
    reasons = Counter(row.left_out for row in rows if row.left_out is not None)
    told = [f"left out: {count} ({reason})" for reason, count in reasons.most_common()]
    if samples.problems:
        told.append(f"problems: {len(samples.problems)} (listed in `problems`)")
    if told:
        warnings.warn(f"{name}: {len(samples)} samples of {len(rows)} rows; {'; '.join(told)}", stacklevel=3)
