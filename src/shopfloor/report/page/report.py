"""The report of one experiment: one HTML file that needs no network and runs no script but its own.

All texts pass through jinja2 with autoescape on. A content security policy in the page names the two scripts by
their hash, so that text from a dataset could not run as a script even if it escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import pandas as pd

from shopfloor.metrics.entries import METRICS
from shopfloor.report.figures.style import look
from shopfloor.report.page.pictures import PagePictures, Pictures, pictures_that_fit, plots
from shopfloor.report.page.sections import Section, certainty_section, paper_section, picture_sections
from shopfloor.report.page.tables import (
    Table,
    image_counts,
    named_metrics,
    readable_costs,
    sources_table,
    text_table,
    value_table,
)

if TYPE_CHECKING:
    from jinja2 import Template

    from shopfloor.report.figures.style import Chart

_FEW = 12

_CATEGORY_COLUMNS = [
    "dataset",
    "category",
    "image_size",
    "title",
    "licence",
    "source",
    "train_good",
    "test_good",
    "test_bad",
    "vanished",
    "lost_regions",
    "has_pixel_labels",
    "generated",
]


def render_page(
    plan: Mapping[str, Any],
    summary: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    own_sections: Sequence[Section],
    figures: Mapping[str, tuple[str, Chart]],
    histograms: Mapping[str, Chart],
    pictures: PagePictures,
    paper_tables: Sequence[str],
) -> str:
    """Render the whole report as one HTML text.

    Args:
        plan: The experiment's plan.
        summary: What it found and what it was made with, see :mod:`shopfloor.report.page.summary`.
        tables: Its tables by name, as the reporting stage makes them.
        own_sections: The parts of the page that only this experiment has.
        figures: Title and figure by name, in the order of the page; those with nothing to see are left out.
        histograms: Score histogram of each cell, by the cell's label.
        pictures: Pictures by title. They are embedded as JPEG until those of a kind are too many.
        paper_tables: The paper's tables as HTML.
    """
    ranks = [figure for name, figure in figures.items() if name == "rank" and len(tables["rank_table"]) > 1]
    others = [figure for name, figure in figures.items() if name != "rank"]
    score_plots = plots(histograms.items())
    categories = tables["categories"].reindex(columns=_CATEGORY_COLUMNS)
    fitting = {kind: pictures_that_fit(pictures, kind) for kind in PagePictures._fields}
    sections = [
        paper_section(tables["against_paper"], paper_tables),
        certainty_section(tables, plots(ranks)),
        *own_sections,
        *picture_sections(),
    ]
    settings = {plan["experiment"]: plan["experiment_settings"], **plan["dataset_settings"]}
    return page_template("template.html").render(
        plan=plan,
        summary=summary,
        generated=list(dict.fromkeys(categories.loc[categories["generated"].eq(True), "dataset"])),
        failures=text_table("Runs without a result", tables["failures_table"]),
        unavailable=text_table("Not available", named_metrics(tables["unavailable_table"])),
        dataset_tables=_dataset_tables(tables),
        category_table=value_table("Categories", tables["category_table"]),
        sections=[each for each in sections if _has_content(each, fitting)],
        hints={metric.label: metric.hint for metric in METRICS.values()},
        plots=plots(others),
        histograms=score_plots[:_FEW],
        more_histograms=score_plots[_FEW:],
        pictures=fitting,
        cost_tables=[
            text_table("Costs", readable_costs(tables["cost_table"])),
            text_table("Costs of each run", _named(tables["costs"])),
        ],
        sources=text_table("Sources", sources_table(categories)),
        data_table=text_table("Images", image_counts(categories)),
        settings=[
            ("Experiment and datasets", {name: _pretty(each) for name, each in settings.items()}),
            ("Detectors", {name: _pretty(each) for name, each in plan["settings"].items()}),
        ],
        facts=run_facts(plan, summary),
        **page_parts(with_figures=True),
    )


def _has_content(section: Section, pictures: Mapping[str, Pictures]) -> bool:
    seen = section.pictures and pictures[section.pictures].shown
    return bool(section.ready_made or section.tables or section.plots or seen)


def page_template(name: str) -> Template:
    """A template of this package; everything that it prints is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("shopfloor", "report/page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def page_parts(with_figures: bool) -> dict[str, Any]:
    """Style, scripts, the hashes of the scripts, which the policy of a page names, and the looks of its figures."""
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    scripts = [*([_drawing_script()] if with_figures else []), _package_text("page.js")]
    looks = {"light": look(), "dark": look(is_dark=True)} if with_figures else None
    return {
        "looks": looks and htmlsafe_json_dumps(looks, separators=(",", ":")),
        "style": Markup(_package_text("style.css")),
        "scripts": [Markup(script) for script in scripts],
        "script_hashes": [_hash(script) for script in scripts],
    }


@cache
def _drawing_script() -> str:
    """Bundle Vega, Vega-Lite and vega-embed into one script, which takes seconds."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def run_facts(plan: Mapping[str, Any], summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Give name and value pairs under their headings."""
    grid = {name.replace("_", " "): values for name, values in plan["grid"].items()} | {"seeds": plan["seeds"]}
    return [
        ("Grid", [(name, ", ".join(map(str, values))) for name, values in grid.items()]),
        ("Machine", [(str(name), str(value)) for name, value in summary["environment"].items()]),
        ("Versions", [(str(name), str(version)) for name, version in summary["versions"].items()]),
    ]


def _dataset_tables(tables: Mapping[str, pd.DataFrame]) -> list[Table]:
    """The mean over datasets, where there are several, and each dataset; the common test sets stand with the noise."""
    datasets = tables["dataset_table"]
    shown = {"Mean over datasets": tables["mean_table"]} if datasets["dataset"].nunique() > 1 else {}
    shown["Datasets"] = datasets
    return [value_table(name, table[table["test_set_kind"] != "common"]) for name, table in shown.items()]


def _named(costs: pd.DataFrame) -> pd.DataFrame:
    """Costs without the columns that say what a name stands for."""
    return costs.drop(columns=["condition_kind", "condition_amount"], errors="ignore")


def _pretty(settings: Any) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False, default=str)


def _package_text(name: str) -> str:
    return resources.files("shopfloor.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") + "'"
