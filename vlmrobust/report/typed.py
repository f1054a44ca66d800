"""Rows of a dataclass as a pandas table whose columns have the fields' types, whatever the rows hold."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["table_of"]

_DTYPES = {int: "int64", float: "float64", bool: "bool"}


def table_of(kind: type, rows: Sequence[Any]) -> "pd.DataFrame":
    """Return one line per row; text is "string" with NA for None, and an empty table has its columns too.

    Args:
        kind: the rows' dataclass, of `int`, `float`, `bool` and text fields.
        rows: its instances.
    """
    import pandas as pd

    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    table = pd.DataFrame([asdict(row) for row in rows], columns=names)
    return table.astype({name: _DTYPES.get(types[name], "string") for name in names})
