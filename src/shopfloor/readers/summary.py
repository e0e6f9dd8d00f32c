"""What was found of a category against what should be there, as one line of a table, and as text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from shopfloor.readers.category_files import COUNTED, Expected
from shopfloor.readers.findings import Finding

if TYPE_CHECKING:
    import pandas as pd

COUNT_COLUMNS = [f"{split}_{label}{suffix}" for split, label in COUNTED for suffix in ("", "_expected")]
SUMMARY_COLUMNS = [
    *("dataset", "category", "status", "codes"),
    *COUNT_COLUMNS,
    *("sizes", "pixel_labels", "licence", "project_page", "note"),
]


def check_line(index: pd.DataFrame, expected: Expected, warnings: Iterable[Finding]) -> pd.DataFrame:
    """Sum up a category that passed its checks.

    Args:
        index: Its index table.
        expected: What a complete category holds.
        warnings: What the checks warned about.

    Returns:
        One line: per split and label ``<split>_<label>`` and ``..._expected`` (missing where nothing is published),
        ``sizes``, ``pixel_labels``, ``codes`` and ``note`` (codes and texts of the warnings).
    """
    import pandas as pd

    warnings = list(warnings)
    line: dict[str, Any] = {
        "codes": ", ".join(dict.fromkeys(warning.code for warning in warnings)),
        "sizes": _sizes(index),
        "pixel_labels": bool(index["has_pixel_labels"].any()),
        "note": "\n".join(warning.text for warning in warnings),
    }
    for split, label in COUNTED:
        found = int(((index["split"] == split) & (index["label"] == label)).sum())
        line |= {f"{split}_{label}": found, f"{split}_{label}_expected": expected.counts.get((split, label))}
    return pd.DataFrame([line]).astype(dict.fromkeys(COUNT_COLUMNS, "Int64"))


def codes_in(text: str) -> list[str]:
    """Codes that open the lines of an error's text, each once."""
    return list(dict.fromkeys(re.findall(r"^\[([A-Z_]+)\]", text, re.MULTILINE)))


def _sizes(index: pd.DataFrame) -> str:
    sizes = index[["width", "height"]].value_counts()
    width, height = sizes.index[0]
    return f"{width} x {height}" if len(sizes) == 1 else f"{len(sizes)} sizes, most often {width} x {height}"


def summary_text(table: pd.DataFrame) -> str:
    """The table for a terminal: a block per dataset, ``found/expected`` counts, what to do about the missing ones.

    Args:
        table: One line per category with ``SUMMARY_COLUMNS``.

    Returns:
        Several lines without a final line break.
    """
    lines: list[str] = []
    for heading, part in table.groupby(["dataset", "licence", "project_page"], sort=False):
        lines += ["", ", ".join(str(name) for name in heading if name)]
        there = part[part["status"] == "passed"]
        if len(there):
            lines += _rows(there)
        failed = part[part["status"] != "passed"]
        # Categories that were not downloaded differ in their name only, which is said once.
        notes = failed["note"].str.replace(r"category \S+ not found", "category not found", regex=True).tolist()
        for note, alike in failed.groupby(notes, sort=False):
            text = str(note) if len(alike) > 1 else alike["note"].iloc[0]
            lines.append(f"  {alike['status'].iloc[0]}: {', '.join(alike['category'])}")
            lines += [f"    {line}" for line in text.splitlines()]
    passed = int((table["status"] == "passed").sum())
    return "\n".join([*lines[1:], "", f"{passed} of {len(table)} categories passed their checks."])


def _rows(part: pd.DataFrame) -> list[str]:
    import pandas as pd

    shown: dict[str, Any] = {"category": part["category"], "checks": part["codes"].map(lambda codes: codes or "passed")}
    for split, label in COUNTED:
        found, expected = part[f"{split}_{label}"], part[f"{split}_{label}_expected"]
        if (found.fillna(0) > 0).any() or (expected.fillna(0) > 0).any():
            shown[f"{split} {label}"] = [
                f"{n}" if pd.isna(e) else f"{n}/{e}" for n, e in zip(found, expected, strict=True)
            ]
    shown["sizes"] = part["sizes"]
    shown["masks"] = part["pixel_labels"].map({True: "yes", False: "no"})
    columns = [[name, *map(str, values)] for name, values in shown.items()]
    widths = [max(map(len, column)) for column in columns]
    padded = [[cell.ljust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
    return ["  " + "  ".join(row).rstrip() for row in zip(*padded, strict=True)]
