"""The paper's tables: its own numbers through our means, holes, seeds, and names that no format may read as its own."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopfloor.planning.errors import GridError
from shopfloor.planning.reading import read_settings
from shopfloor.planning.report_settings import PaperTablesSettings
from shopfloor.report.paper.formats import HOLE, PaperTable, to_csv, to_html, to_latex
from shopfloor.report.paper.formats import to_markdown as markdown
from shopfloor.report.paper.tables import paper_tables, render_all
from tests.conftest import parameters_of
from tests.report.conftest import make_run, value_rows, with_kinds

PROJECT = Path(__file__).parents[2]
NO_COSTS = pd.DataFrame(columns=["dataset", "category", "detector", "image_size", "condition", "seed", "status"])
D_TABLES = (5, 6, 7, 11, 12)
#: Half of the last printed digit of the mean, and of its parts.
ROUNDING = 0.1 + 1e-9


def settings(environment: str = "base", **changed: Any) -> PaperTablesSettings:
    """The block of the project, as that environment has it."""
    block = {**parameters_of(environment)["paper_tables"], **changed}
    return read_settings(PaperTablesSettings, "paper_tables", block)


def published() -> pd.DataFrame:
    return pd.read_csv(PROJECT / "reference/paper_results.csv")


def contradictions() -> pd.DataFrame:
    return pd.read_csv(PROJECT / "reference/paper_contradictions.csv")


def only(number: int, tables: list[PaperTable]) -> PaperTable:
    return next(table for table in tables if table.number == number)


def as_metrics(tables: tuple[int, ...], conditions: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Published values of single datasets as a run would have measured them: categories whose mean they are."""
    return _as_metrics(tables, conditions).copy()


@lru_cache
def _as_metrics(tables: tuple[int, ...], conditions: tuple[str, ...] | None) -> pd.DataFrame:
    block = settings()
    detectors = {printed: name for name, printed in block.methods.items()}
    datasets = {printed: name for name, printed in block.datasets.items()}
    lines: list[pd.DataFrame] = []
    for line in published().query("table in @tables and metric != 'epochs'").to_dict("records"):
        if line["dataset"].startswith("mean:") or (conditions and line["condition"] not in conditions):
            continue
        dataset = datasets[line["dataset"]]
        count = block.categories[dataset]
        spread = np.linspace(-0.03, 0.03, count) if count > 1 else [0.0]
        case = coordinates(str(line["condition"]), dataset)
        values = [
            (dataset, f"part_{place}", detectors[line["method"]], 3341, line["metric"], line["value"] / 100 + offset)
            for place, offset in enumerate(spread)
        ]
        lines.append(value_rows(values, **case))
    return pd.concat(lines, ignore_index=True)


def coordinates(condition: str, dataset: str) -> dict[str, Any]:
    if dataset == "aebad_s":
        return {"test_set": {"clean": "same", "drift": "shifted"}[condition]}
    if condition.isdigit():
        return {"image_size": int(condition)}
    if condition == "drift":
        return {"test_set": "drift_3341"}
    if condition.startswith("supervised"):
        return {"condition": "supervised"}
    return {"condition": {"no_early_stop": "full_length"}.get(condition, condition)}


def values_of(table: PaperTable) -> pd.DataFrame:
    """Values of a table beside the published ones."""
    paper = published().query("table == @table.number").rename(columns={"value": "paper"})
    names = settings().methods
    frame = table.frame.assign(method=table.frame["detector"].map(names))
    return paper.merge(frame, on=["method", "dataset", "condition", "metric"], how="left", validate="one_to_one")


# --- the paper's own numbers ------------------------------------------------------------------------------------------


def test_the_papers_means_follow_from_its_datasets_but_for_the_listed_contradictions() -> None:
    """Tables 4, 13, 14 and 15 through our means give the columns D of Tables 5, 6, 7, 11 and 12."""
    clean = as_metrics((4,))
    runs = {
        "input_size": pd.concat([clean, as_metrics((14,))]),
        "data_drift": pd.concat([clean, as_metrics((15,), ("drift",))]),
        "noisy_labels": pd.concat([clean, as_metrics((13,))]),
    }
    compared = []
    for experiment, metrics in runs.items():
        for table in paper_tables(experiment, metrics, NO_COSTS, settings("paper")):
            if table.number in D_TABLES:
                lines = values_of(table).assign(table=table.number)
                compared.append(lines[lines["dataset"].str.startswith("mean:") & lines["value"].notna()])
    together = pd.concat(compared)
    # Every mean whose parts the paper prints: all but PB2, PG2 under noise, and InReaCh on clean data.
    assert together.groupby("table").size().to_dict() == {5: 72, 6: 32, 7: 62, 11: 7, 12: 16}

    names = ["table", "method", "dataset", "condition", "metric"]
    off = together[(together["value"] - together["paper"]).abs() > ROUNDING]
    listed = contradictions().dropna(subset=["expected"])
    assert set(off[names].itertuples(index=False, name=None)) == set(listed[names].itertuples(index=False, name=None))
    both = off.merge(listed, on=names)
    assert both["value"].tolist() == pytest.approx(both["expected"].tolist(), abs=0.051)
    assert both["paper"].tolist() == both["printed"].tolist()


def test_contradictions_are_cells_of_the_published_tables() -> None:
    names = ["table", "method", "dataset", "condition", "metric"]
    both = contradictions().merge(published(), on=names, how="left")
    assert both["value"].tolist() == both["printed"].tolist()
    copied = both[both["expected"].isna()]
    twins = copied.assign(method="PatchCore").merge(published(), on=names)
    assert len(copied) == 4 and twins["value_y"].tolist() == copied["printed"].tolist()


EXPERIMENTS = ("model_evaluation", "input_size", "data_drift", "noisy_labels", "supervised", "validation")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_published_number_has_its_cell_and_the_papers_order(experiment: str) -> None:
    """Rows, columns and metrics are those of the published list, in its order."""
    empty = value_rows([("other", "x", "other", 3341, "image_auroc", 0.5)])
    for table in paper_tables(experiment, empty, NO_COSTS, settings("paper")):
        paper = published().query("table == @table.number")
        frame = table.frame[table.frame["metric"] != "best_epoch"]
        rows = frame["detector"].map(settings().methods)
        assert list(rows.unique()) == list(paper["method"].unique())
        columns = frame[["dataset", "condition"]].drop_duplicates()
        wanted = paper[["dataset", "condition"]].drop_duplicates()
        assert columns.to_numpy().tolist() == wanted.to_numpy().tolist()
        assert list(frame["metric"].unique()) == list(paper["metric"].unique())
        assert values_of(table)["kind"].notna().all()
        assert table.frame["value"].isna().all() and set(table.frame["kind"]) <= {"absent", "not_available"}


def test_table_4_prints_the_papers_numbers_in_cells_of_two_lines() -> None:
    table = only(4, paper_tables("model_evaluation", as_metrics((4,)), NO_COSTS, settings("paper")))
    assert table.rows[:3] == ["PatchCore", "RD4AD", "MMR"]
    assert table.columns == ["BTAD", "SensumSODF", "RealIAD", "VIADUCT", "MPDD", "VisA", "MVTecLOCO", "VAD"]
    line = next(line for line in markdown(table).splitlines() if line.startswith("| PatchCore"))
    first, *_, last = line.strip("| ").split(" | ")[1:]
    assert first.replace("*", "") == "95.5 / 67.3<br>76.9 / 55.1"
    assert last.replace("*", "") == "88.0 / 16.5<br>n/a", "VAD has no masks"
    assert "n/a all methods in VAD (Pixel AUPRO, Pixel F1max): this dataset has no pixel labels." in table.notes


# --- holes ------------------------------------------------------------------------------------------------------------


def noise_run(**lost: str) -> pd.DataFrame:
    """Two datasets, one with two categories, two detectors, clean and one level; `lost` names what failed."""
    parts = [
        value_rows(
            [
                (dataset, category, detector, 3341, "image_auroc", value + bonus - loss)
                for dataset, category, value in (("a", "x", 0.8), ("a", "y", 0.6), ("b", "z", 0.9))
                for detector, bonus in (("patchcore", 0.0), ("padim", 0.05))
            ],
            condition=condition,
        )
        for condition, loss in (("clean", 0.0), ("noise_4", 0.1))
    ]
    metrics: Any = pd.concat(parts, ignore_index=True)
    hit = pd.Series(bool(lost), index=metrics.index)
    for name, value in lost.items():
        hit &= metrics[name] == value
    metrics.loc[hit, ["value", "status", "note"]] = [np.nan, "failed", "out of memory"]
    return metrics


def test_a_lost_category_makes_holes_of_its_dataset_and_mean_and_of_nothing_else() -> None:
    whole = paper_tables("noisy_labels", noise_run(), NO_COSTS, settings())
    lost = noise_run(category="y", detector="padim", condition="noise_4")
    for number, where in ((7, {("padim", "D 4 %")}), (13, {("padim", "a 4 %")})):
        before, after = (
            only(number, whole).frame,
            only(number, paper_tables("noisy_labels", lost, NO_COSTS, settings())),
        )
        frame = after.frame
        holes = frame[frame["value"].isna() & (frame["metric"] == "image_auroc")]
        assert set(zip(holes["row"], holes["column"], strict=True)) == where
        assert holes["hole"].item().endswith("a/y, seed 3341: failed")
        others = frame["value"].notna()
        assert frame.loc[others, "value"].tolist() == pytest.approx(before.loc[others, "value"].tolist())
        assert any("a/y, seed 3341: failed" in note and note.startswith(HOLE) for note in after.notes)
        assert "Why (1 failed or missing): out of memory" in after.notes
        for text in render_all([after]).values():
            assert " 0.0" not in text and "nan" not in text.lower()


def test_an_outdated_part_is_a_hole_with_its_reason() -> None:
    metrics = noise_run(category="y", detector="padim", condition="noise_4")
    metrics = metrics.replace({"status": {"failed": "outdated"}, "note": {"out of memory": "other images"}})
    table = only(7, paper_tables("noisy_labels", metrics, NO_COSTS, settings()))
    hole = table.frame.query("row == 'padim' and column == 'D 4 %' and metric == 'image_auroc'")
    assert hole["value"].isna().all() and hole["hole"].item().endswith("a/y, seed 3341: outdated")
    assert "Why (1 outdated): other images" in table.notes


def test_means_count_each_dataset_once() -> None:
    frame = only(7, paper_tables("noisy_labels", noise_run(), NO_COSTS, settings())).frame
    values = frame[frame["metric"] == "image_auroc"].set_index(["row", "column"])["value"]
    assert values["PatchCore", "D"] == pytest.approx(80.0)  # (70 + 90) / 2
    assert values["padim", "D 4 %"] == pytest.approx(75.0)


def test_pixel_values_of_a_dataset_without_masks_stay_out_of_the_mean() -> None:
    values: list[tuple[Any, ...]] = [
        ("btad", "x", "patchcore", 3341, "pixel_aupro", 0.6),
        ("real_iad", "y", "patchcore", 3341, "pixel_aupro", 0.8),
        ("btad", "x", "patchcore", 3341, "image_auroc", 0.9),
        ("real_iad", "y", "patchcore", 3341, "image_auroc", 0.9),
        ("vad", "vad", "patchcore", 3341, "image_auroc", 0.6),
    ]
    for vad in ("not_available", "failed", 0.01):  # as it is, failed, and with labels that the paper did not have
        metrics = value_rows([*values, ("vad", "vad", "patchcore", 3341, "pixel_aupro", vad)])
        metrics = pd.concat([metrics, with_kinds(metrics.assign(test_set="drift_3341"))])
        table = only(6, paper_tables("data_drift", metrics, NO_COSTS, settings()))
        found = table.frame.set_index(["column", "metric"])["value"]
        assert found["D", "pixel_aupro"] == pytest.approx(70.0)
        assert found["D", "image_auroc"] == pytest.approx(80.0)
        assert (
            "D: plain mean over RealIAD, BTAD, VAD, each dataset counted once; pixel metrics without VAD."
            in table.caption
        )


def test_a_dataset_that_says_that_it_has_no_masks_is_left_out_in_the_same_way(noisy_run: Any) -> None:
    table = only(7, paper_tables("noisy_labels", noisy_run.metrics, noisy_run.costs, settings()))
    assert "pixel metrics without solar_cells" in table.caption
    clean = noisy_run.metrics.query(
        "condition == 'clean' and test_set == 'full' and metric == 'pixel_aupro' and detector == 'patchcore'"
    )
    expected = clean[clean["dataset"] == "machined_parts"]["value"].mean()
    found = table.frame.set_index(["row", "column", "metric"])["value"]
    assert found["PatchCore", "D", "pixel_aupro"] == pytest.approx(100 * expected)


def test_a_part_of_the_papers_run_prints_the_full_table_with_its_holes_named() -> None:
    metrics = as_metrics((4,))
    part = metrics[(metrics["dataset"] == "btad") & (metrics["detector"] == "mmr")]
    part = part[part["category"] != "part_2"].assign(category=lambda lines: lines["category"].str.upper())
    whole = metrics[(metrics["dataset"] == "mpdd") & (metrics["detector"] == "mmr")]
    table = only(4, paper_tables("model_evaluation", pd.concat([part, whole]), NO_COSTS, settings("paper")))
    assert len(table.rows) == 8 and len(table.columns) == 8
    measured = table.frame[table.frame["value"].notna()]
    assert set(zip(measured["row"], measured["column"], strict=True)) == {("MMR", "MPDD")}
    assert any("MMR in BTAD: 2 of 3 categories in this run." in note for note in table.notes)
    assert any("not in this run" in note and "all methods in SensumSODF" in note for note in table.notes)
    assert not measured["best"].any(), "nothing to compare with"
    assert "| PatchCore | — | — | — | — | — | — | — | —<br>n/a |" in markdown(table), (
        "one sign for a cell that has nothing"
    )

    drift = only(6, paper_tables("data_drift", whole, NO_COSTS, settings("paper")))
    assert drift.columns == ["D", "D+dr", "AeBAD-S", "AeBAD-S+dr"] and drift.frame["value"].isna().all()


def test_the_run_gives_rows_and_columns_in_the_demo() -> None:
    fake = make_run(with_noise=False, with_failure=False)
    table = only(4, paper_tables("model_evaluation", fake.metrics, fake.costs, settings()))
    assert table.rows == ["PatchCore", "student_teacher"]
    assert table.columns == ["solar_cells", "machined_parts"]
    assert [each.number for each in paper_tables("data_drift", fake.metrics, fake.costs, settings())] == [6, 12, 15]
    columns = [each.columns for each in paper_tables("data_drift", fake.metrics, fake.costs, settings())]
    assert columns[0] == ["D"], "no drift and no domains in this run"


def test_sizes_and_levels_of_the_run_have_columns_in_ascending_order() -> None:
    lines = [("a", "x", "padim", 3341, "image_auroc", 0.9)]
    sizes = pd.concat([value_rows(lines, image_size=size) for size in (512, 256, 64)])
    by_number = {table.number: table.columns for table in paper_tables("input_size", sizes, NO_COSTS, settings())}
    assert by_number == {5: ["D 64", "D256", "D512"], 14: ["a 64", "a 512"]}
    noise = pd.concat([value_rows(lines, condition=name) for name in ("clean", "noise_10", "noise_4")])
    by_number = {table.number: table.columns for table in paper_tables("noisy_labels", noise, NO_COSTS, settings())}
    assert by_number[7] == ["D", "D 4 %", "D 10 %"] and by_number[13] == ["a 4 %", "a 10 %"]


def test_another_input_size_is_said_and_does_not_pass_for_the_papers() -> None:
    metrics = value_rows([("vad", "vad", "patchcore", 3341, "image_auroc", 0.9)], image_size=64)
    table = only(4, paper_tables("model_evaluation", metrics, NO_COSTS, settings()))
    assert "64 x 64 pixels." in table.caption and any("256" in note for note in table.notes)
    assert only(4, paper_tables("model_evaluation", metrics, NO_COSTS, settings("paper"))).frame["value"].isna().all()


# --- seeds, best, epochs ----------------------------------------------------------------------------------------------


def test_seeds_are_averaged_last_and_their_deviation_is_shown() -> None:
    values = [
        (dataset, "x", "devnet", seed, "image_auroc", value)
        for dataset, of_seeds in (("vad", (0.8, 0.9, 0.7)), ("viaduct", (0.6, 0.6, 0.6)))
        for seed, value in zip((3341, 1954, 1087), of_seeds, strict=True)
    ]
    table = only(8, paper_tables("supervised", value_rows(values, condition="supervised"), NO_COSTS, settings()))
    line: Any = table.frame[table.frame["metric"] == "image_auroc"].set_index("column")
    assert line.loc["VAD", ["value", "sd"]].tolist() == pytest.approx([80.0, 10.0])
    assert "80.0 ± 10.0 / —" in markdown(table) and r"80.0 $\pm$ 10.0" in to_latex(table)
    mean = only(7, paper_tables("noisy_labels", value_rows(values), NO_COSTS, settings())).frame
    assert mean.loc[mean["metric"] == "image_auroc", ["value", "sd"]].to_numpy().ravel() == pytest.approx([70.0, 5.0])


def test_values_that_print_the_same_are_all_bold_in_their_column_and_metric() -> None:
    values = [
        ("a", "x", name, 3341, metric, value)
        for name, auroc, pg2 in (("patchcore", 0.9501, 0.2), ("padim", 0.9499, 0.3), ("mmr", 0.94, "failed"))
        for metric, value in (("image_auroc", auroc), ("image_pg2", pg2))
    ]
    table = only(4, paper_tables("model_evaluation", value_rows(values), NO_COSTS, settings()))
    best = table.frame[table.frame["best"]]
    assert set(zip(best["row"], best["metric"], strict=True)) == {
        ("PatchCore", "image_auroc"),
        ("padim", "image_auroc"),
        ("padim", "image_pg2"),
    }
    text = markdown(table)
    assert (
        "| PatchCore | **95.0** / 20.0" in text
        and "| padim | **95.0** / **30.0**" in text
        and "| MMR | 94.0 / —" in text
    )
    assert r"\textbf{95.0} / 20.0" in to_latex(table) and "<strong>95.0</strong> / 20.0" in to_html(table)


def stopped(epochs: tuple[int, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    seeds = (3341, 1954)
    values = [("vad", "vad", "csflow", seed, name, 0.8) for seed in seeds for name in ("image_auroc", "image_f1max")]
    metrics = pd.concat([value_rows(values, condition=name) for name in ("full_length", "early_stop")])
    lines = [
        {
            **{"dataset": "vad", "category": "vad", "detector": "csflow", "image_size": 256, "seed": seed},
            "condition": condition,
            "stopped_epoch": stop,
            "best_epoch": stop - 10,
            "status": "ok",
        }
        for condition, stops in (("full_length", (240, 240)), ("early_stop", epochs))
        for seed, stop in zip(seeds, stops, strict=True)
    ]
    return metrics, with_kinds(pd.DataFrame(lines))


def test_table_9_has_the_epochs_trained_and_the_best() -> None:
    metrics, costs = stopped((60, 71))
    table = only(9, paper_tables("validation", metrics, costs, settings("paper")))
    found = table.frame[table.frame["row"] == "CSFlow"].set_index(["column", "metric"])["value"]
    assert found["VAD, early stop", "epochs"] == 65.5 and found["VAD, early stop", "best_epoch"] == 55.5
    assert "240 ± 0 / 230 ± 0 | 80.0 ± 0.0 / 80.0 ± 0.0<br>65.5 ± 7.8 / 55.5 ± 7.8" in markdown(table)
    assert not table.frame.loc[table.frame["metric"].isin(["epochs", "best_epoch"]), "best"].any()
    lost: Any = costs.copy()
    lost.loc[3, ["stopped_epoch", "best_epoch", "status"]] = [np.nan, np.nan, "failed"]
    frame = only(9, paper_tables("validation", metrics, lost, settings("paper"))).frame
    hole = frame.query("row == 'CSFlow' and column == 'VAD, early stop' and metric == 'epochs'")
    assert hole["value"].isna().all() and hole["hole"].item() == "vad/vad, seed 1954: failed", "no mean of a part"
    # Nor is a dataset's number that of the categories that are left.
    more = pd.concat([lost, lost.assign(category="other", best_epoch=1, stopped_epoch=1)])
    parts = pd.concat([metrics, metrics.assign(category="other")])
    frame = only(9, paper_tables("validation", parts, more, settings())).frame
    assert frame.query("column == 'VAD, early stop' and metric == 'epochs'")["value"].isna().all()


def test_labelled_bad_images_are_named_below_table_8() -> None:
    metrics = value_rows([("vad", "vad", "dra", 3341, "image_auroc", 0.9)], condition="supervised")
    costs = metrics.assign(n_train_bad=1000)
    assert "Labelled bad training images of a category: VAD 1000." in only(
        8, paper_tables("supervised", metrics, costs, settings())
    ).notes  # fmt: skip


# --- formats ----------------------------------------------------------------------------------------------------------

HOSTILE = r"<b>&_|%$#{x}~^\[*`" + "\nname"


def hostile_table() -> PaperTable:
    values = [
        (HOSTILE, "x", detector, 3341, metric, value)
        for detector, value in ((HOSTILE, 0.9), ("[padim", 0.5))
        for metric in ("image_auroc", "image_pg2", "pixel_aupro")
    ]
    return only(4, paper_tables("model_evaluation", value_rows(values), NO_COSTS, settings()))


class Cells(HTMLParser):
    """What a browser reads: the tags that occur and the text of the cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def test_names_are_text_in_html() -> None:
    reader = Cells()
    text = to_html(hostile_table())
    reader.feed(text)
    assert "b" not in reader.tags
    assert [HOSTILE in cell for cell in reader.cells][:3] == [False, True, True], "head of the column, first row"
    assert text.isascii()


def test_names_are_text_in_markdown() -> None:
    lines = [line for line in markdown(hostile_table()).splitlines() if line.startswith("|")]
    assert len(lines) == 4, "head, rule and two methods: no name breaks a line"
    for line in lines:
        assert len(re.split(r"(?<!\\)\|", line)) == 4, "no name opens another column"
        assert "<b>" not in line
    assert r"&lt;b&gt;&amp;\_\|%\$\#\{x\}\~^\\\[\*\` name" in lines[2]


def test_names_are_text_in_latex_and_the_table_is_well_formed() -> None:
    text = to_latex(hostile_table())
    name = (
        r"\textless{}b\textgreater{}\&\_\textbar{}\%\$\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}{[}*`"
        " name"
    )
    assert f"\n{name} & " in text and "\n{[}padim & " in text
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
    order = [r"\toprule", r"\midrule", r"\addlinespace", r"\bottomrule"]
    assert [text.index(rule) for rule in order] == sorted(text.index(rule) for rule in order)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + 2 * 2, "two lines for each method"
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {1}
    plain = re.sub(r"\\[{}\\]", "", text)
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"(?<!\\)[_#^~]", text.split("\n", 1)[1]), "nothing that LaTeX reads as its own"


def test_csv_reads_back_as_the_numbers() -> None:
    table = only(4, paper_tables("model_evaluation", as_metrics((4,)), NO_COSTS, settings("paper")))
    read = pd.read_csv(io.StringIO(to_csv(table))).set_index("method")
    assert list(read.index) == table.rows and read.shape[1] == 8 * 4
    for line in table.frame.to_dict("records"):
        found = read.loc[line["row"], f"{line['column']} {line['metric']}"]
        assert found == pytest.approx(line["value"], nan_ok=True)
    assert read["VAD pixel_aupro"].isna().all() and not any(str(name).endswith("_sd") for name in read)


def test_csv_has_no_name_that_a_spreadsheet_runs() -> None:
    table = only(4, paper_tables("model_evaluation", as_metrics((4,)), NO_COSTS, settings("paper")))
    frame = table.frame.assign(row="-" + table.frame["row"], column="=" + table.frame["column"])
    read = pd.read_csv(io.StringIO(to_csv(replace(table, frame=frame))))
    assert read["method"].tolist() == [f"'-{row}" for row in table.rows]
    assert {name[:2] for name in read.columns[1:]} == {"'="}
    assert read.iloc[:, 1:].dtypes.unique().tolist() == ["float64"], "numbers stay numbers"


def test_csv_has_the_deviation_where_there_are_seeds(noisy_run: Any) -> None:
    table = only(7, paper_tables("noisy_labels", noisy_run.metrics, noisy_run.costs, settings()))
    read = pd.read_csv(io.StringIO(to_csv(table)))
    assert "D 4 % image_auroc_sd" in read and "D image_auroc_sd" not in read, "one seed on clean data"


def test_files_are_named_by_number_and_format(noisy_run: Any) -> None:
    files = render_all(paper_tables("noisy_labels", noisy_run.metrics, noisy_run.costs, settings()))
    assert sorted(files) == [f"table_{n}.{kind}" for n in (11, 13, 7) for kind in ("csv", "html", "md", "tex")]


def test_a_layout_that_does_not_exist_is_refused() -> None:
    with pytest.raises(GridError, match="rows_and_columns"):
        paper_tables("validation", noise_run(), NO_COSTS, settings(rows_and_columns="both"))
