"""Read the content of all files in a folder as text, with Parquet columns decompressed."""

from pathlib import Path

from pyarrow import parquet


def written(folder: Path) -> dict[str, str]:
    return {str(path): _said(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _said(path: Path) -> str:
    if path.suffix != ".parquet":
        return path.read_bytes().decode(errors="replace")
    table = parquet.read_table(path)
    head = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    return f"{head} {table.to_pylist()}"
