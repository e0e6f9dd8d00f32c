"""The formats of the paper's tables: CSV, Markdown, HTML, LaTeX. Names are text in each of them, whatever they hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, repeat, zip_longest
from typing import Any, NamedTuple

import pandas as pd

from shopfloor.catalog.result_table import marked
from shopfloor.report.paper.values import EPOCHS

HOLE = "—"
NOT_AVAILABLE = "n/a"
TEXT_OF_KIND = {"missing": HOLE, "absent": HOLE, "not_available": NOT_AVAILABLE}
"""What is printed in the place of a value, by the kind of hole."""


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables, filled with a run's results.

    Attributes:
        number: The paper's number of the table.
        title: What it is about.
        caption: What a cell holds and how its values were averaged (protocol 3).
        lines: The metrics of a cell, line by line.
        frame: One line per row, column and metric, in reading order: ``row`` and ``column`` (labels), ``detector``,
            ``dataset`` and ``condition`` (as the published numbers name them), ``metric``, ``value`` and ``sd`` over
            seeds (percent, or epochs; NaN where there is none), ``best`` (of its column and metric), ``kind`` (empty
            for a value, ``not_available``, ``missing``, or ``absent``: no such part in the run), ``hole`` (why).
        notes: What is to be said below the table, the holes among it.
    """

    number: int
    title: str
    caption: str
    lines: tuple[tuple[str, ...], ...]
    frame: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[str]:
        """Labels of the rows, from top to bottom."""
        return list(self.frame["row"].unique())

    @property
    def columns(self) -> list[str]:
        """Labels of the columns, from left to right."""
        return list(self.frame["column"].unique())


def render_all(tables: Iterable[PaperTable]) -> dict[str, str]:
    """Every table in every format: ``table_4.csv``, ``table_4.md``, ``table_4.html``, ``table_4.tex``, ..."""
    formats: dict[str, Callable[[PaperTable], str]] = {
        "csv": to_csv, "md": to_markdown, "html": to_html, "tex": to_latex,
    }  # fmt: skip
    return {f"table_{table.number}.{name}": render(table) for table in tables for name, render in formats.items()}


class _Piece(NamedTuple):
    """One value of a cell as it is printed."""

    text: str
    best: bool = False


_Lines = list[list[_Piece]]


def to_csv(table: PaperTable) -> str:
    """The values as numbers: one line per method, ``<column> <metric>`` (percent, or epochs), empty for a hole.

    Beside a column whose values have a standard deviation over seeds stands ``<column> <metric>_sd``. Names that a
    spreadsheet would run as a formula begin with ``'``.
    """
    values: dict[str, list[Any]] = {"method": [marked(row) for row in table.rows]}
    for (column, metric), group in table.frame.groupby(["column", "metric"], sort=False):
        values[f"{column} {metric}"] = group["value"].tolist()
        if group["sd"].notna().any():
            values[f"{column} {metric}_sd"] = group["sd"].tolist()
    text = io.StringIO()
    pd.DataFrame(values).rename(columns=marked).to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def to_markdown(table: PaperTable) -> str:
    """Write the Markdown of GitHub; lines of a cell are parted by ``<br>``.

    By hand: pandas' ``to_markdown`` needs one more package and escapes nothing.
    """
    head = ["Method", *map(_markdown, table.columns)]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join([' :-- ', *[' --: '] * len(table.columns)])}|"]
    for row, cells in _printed(table).items():
        texts = ["<br>".join(_written(line, "**{}**") for line in lines_of_cell) for lines_of_cell in cells]
        lines.append(f"| {' | '.join([_markdown(row), *texts])} |")
    notes = [f"- {_markdown(note)}" for note in table.notes]
    title = f"**{_markdown(f'Table {table.number}: {table.title}.')}** {_markdown(table.caption)}"
    return "\n".join([title, "", *lines, *(["", *notes] if notes else []), ""])


def to_html(table: PaperTable) -> str:
    """Write a part of a page, in ASCII so that it reads the same in whatever encoding the page has.

    By a template of its own: pandas' Styler gives heads no ``scope``, a head of two rows, and escapes no caption.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("shopfloor", "report/paper")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = environment.get_template("table.html").render(table=table, rows=_printed(table), hole=HOLE)
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def to_latex(table: PaperTable) -> str:
    r"""Write a floating table that needs only ``\usepackage{booktabs}``; every line of a cell is a line of the table.

    Styler sets the table. Text is escaped here: Styler's own escape leaves ``< > | [ ]``, signs and line breaks.
    """
    body: list[list[str]] = []
    for row, cells in _printed(table).items():
        space = "\\addlinespace\n" if body and len(table.lines) > 1 else ""
        heads = chain([space + _latex(row)], repeat(""))
        texts = [[_written(line, r"\textbf{{{}}}", _latex) for line in lines] for lines in cells]
        body += [[next(heads), *line] for line in zip_longest(*texts, fillvalue="")]
    styler = pd.DataFrame(body, columns=["Method", *map(_latex, table.columns)]).style.hide(axis="index")
    text = styler.to_latex(
        column_format=f"l{'r' * len(table.columns)}",
        position="htbp",
        position_float="centering",
        hrules=True,
        label=f"tab:paper-table-{table.number}",
        caption=_latex(f"{table.title}. {table.caption}"),
    )
    end = "\\end{table}\n"
    notes = [rf"\par\smallskip\noindent\footnotesize {_latex(note)}" + "\n" for note in table.notes]
    return "".join(["% needs \\usepackage{booktabs}\n", text.removesuffix(end), *notes, end])


def _written(line: list[_Piece], bold: str, escape: Callable[[str], str] = str) -> str:
    return " / ".join(bold.format(escape(each.text)) if each.best else escape(each.text) for each in line)


def _printed(table: PaperTable) -> dict[str, list[_Lines]]:
    """The cells of each row, line by line, one decimal."""
    pieces = {
        (line["row"], line["column"], line["metric"]): _Piece(_text(line), bool(line["best"]))
        for line in table.frame.to_dict("records")
    }

    def cell(row: str, column: str) -> _Lines:
        lines = [_shortened([pieces[row, column, metric] for metric in line]) for line in table.lines]
        is_one_symbol = all(line == lines[0] and len(line) == 1 for line in lines) and lines[0][0].text in _SYMBOLS
        return lines[:1] if is_one_symbol else lines

    return {row: [cell(row, column) for column in table.columns] for row in table.rows}


_SYMBOLS = (HOLE, NOT_AVAILABLE)


def _shortened(line: list[_Piece]) -> list[_Piece]:
    """One symbol where nothing else stands in the line."""
    return line[:1] if line[0].text in _SYMBOLS and len(set(line)) == 1 else line


def _text(line: Mapping[Hashable, Any]) -> str:
    if line["kind"]:
        return TEXT_OF_KIND[line["kind"]]

    def number(value: float) -> str:
        return f"{value:.1f}".removesuffix(".0") if line["metric"] in EPOCHS else f"{value:.1f}"

    return number(line["value"]) + ("" if pd.isna(line["sd"]) else f" ± {number(line['sd'])}")


_MARKDOWN = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_{}[]#|~$"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}
)
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "—": "---", "\n": " ", "\r": " "}
    # After the end of a table's line a bracket would be read as an argument.
    | {"[": "{[}", "]": "{]}"}
)


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return text.translate(_MARKDOWN)


def _latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return text.translate(_LATEX)
