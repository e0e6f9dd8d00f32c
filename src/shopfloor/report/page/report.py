"""The report of one experiment: one HTML file that needs no network and runs no script but its own.

All texts pass through jinja2 with autoescape on. A content security policy in the page names the two scripts by
their hash, so that text from a dataset could not run as a script even if it escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd

from shopfloor.report.page.change import change_sentence
from shopfloor.report.page.headline import certainty, headline
from shopfloor.report.page.pictures import PagePictures, pictures_that_fit, plots
from shopfloor.report.page.results import Results
from shopfloor.report.page.sections import sections
from shopfloor.report.page.tables import (
    METRIC_HINTS,
    Table,
    image_counts,
    named_metrics,
    readable_costs,
    sources_table,
    text_table,
    value_table,
)
from shopfloor.report.tables.value_tables import (
    METRICS,
    category_table,
    dataset_table,
    failures_table,
    mean_table,
    unavailable_table,
)

if TYPE_CHECKING:
    from jinja2 import Template
    from plotly.graph_objects import Figure

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


class Run(TypedDict):
    """What the page says about the run itself.

    Keys:
        experiment: Name of the pipeline.
        title: Heading of the page.
        demo: Whether the run is demo-sized; ``demo_note`` says in which way.
        seeds: Random seeds.
        grid: ``datasets``, ``detectors``, ``image_sizes``, ``conditions``.
        detectors: Settings of each detector, any JSON.
        settings: Settings of the experiment and of its datasets, any JSON, under their names.
        versions: Library versions by name.
        finished: Time at which the run ended.
        environment: Machine and system, by name.
    """

    experiment: str
    title: str
    demo: bool
    demo_note: str
    seeds: Sequence[int]
    grid: Mapping[str, Sequence[Any]]
    detectors: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    finished: str
    environment: Mapping[str, Any] | str


def render_page(
    run: Run,
    results: Results,
    figures: Mapping[str, Figure],
    score_figures: Mapping[str, Figure],
    pictures: PagePictures,
) -> str:
    """The whole report as one HTML text.

    Args:
        run: What is said about the run itself.
        results: Tables of the experiment.
        figures: As `shopfloor.report.figures.overview.overview_figures` returns them, by title.
        score_figures: Score histogram of each cell, by the cell's label.
        pictures: Pictures by title. They are embedded as JPEG until those of a kind are too many.
    """
    metrics, costs = results.metrics, results.costs
    histograms = plots(score_figures)
    categories = results.categories.reindex(columns=_CATEGORY_COLUMNS)
    return page_template("template.html").render(
        run=run,
        headline=headline(metrics),
        certainty=certainty(results.mean_intervals, results.differences),
        change=change_sentence(run["experiment"], metrics),
        generated=list(dict.fromkeys(categories.loc[categories["generated"].eq(True), "dataset"])),
        failures=text_table("Runs without a result", failures_table(metrics)),
        unavailable=text_table("Not available", named_metrics(unavailable_table(metrics))),
        dataset_tables=_dataset_tables(metrics),
        category_table=value_table("Categories", category_table(metrics)),
        sections=sections(results, pictures),
        hints={METRICS[name]: hint for name, hint in METRIC_HINTS.items()},
        plots=plots(figures),
        histograms=histograms[:_FEW],
        more_histograms=histograms[_FEW:],
        pictures=pictures_that_fit(pictures, "examples"),
        cost_tables=[text_table("Costs", readable_costs(costs)), text_table("Costs of each run", _named(costs))],
        sources=text_table("Sources", sources_table(categories)),
        data_table=text_table("Images", image_counts(categories)),
        settings=[
            ("Experiment and datasets", {name: _pretty(settings) for name, settings in run["settings"].items()}),
            ("Detectors", {name: _pretty(settings) for name, settings in run["detectors"].items()}),
        ],
        facts=run_facts(run),
        **page_parts(with_figures=True),
    )


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
    """Style, scripts and the hashes of the scripts, which the policy of a page names."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = [*([get_plotlyjs()] if with_figures else []), _package_text("page.js")]
    return {
        "style": Markup(_package_text("style.css")),
        "scripts": [Markup(script) for script in scripts],
        "script_hashes": [_hash(script) for script in scripts],
    }


def run_facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Name and value pairs under their headings."""
    grid = [(name.replace("_", " "), ", ".join(map(str, values))) for name, values in run["grid"].items()]
    grid.append(("seeds", ", ".join(map(str, run["seeds"]))))
    environment = run["environment"]
    machine = environment.items() if isinstance(environment, Mapping) else [("environment", environment)]
    return [
        ("Grid", grid),
        ("Machine", [(str(name), str(value)) for name, value in machine]),
        ("Versions", [(str(name), str(version)) for name, version in run["versions"].items()]),
    ]


def _dataset_tables(metrics: pd.DataFrame) -> list[Table]:
    """The mean over datasets, where there are several, and each dataset; the common test sets stand with the noise."""
    tables = []
    if metrics["dataset"].nunique() > 1:
        tables.append(("Mean over datasets", mean_table(metrics)))
    tables.append(("Datasets", dataset_table(metrics)))
    return [value_table(name, table[table["test_set_kind"] != "common"]) for name, table in tables]


def _named(costs: pd.DataFrame) -> pd.DataFrame:
    """Costs without the columns that say what a name stands for."""
    return costs.drop(columns=["condition_kind", "condition_amount"], errors="ignore")


def _pretty(settings: Any) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False, default=str)


def _package_text(name: str) -> str:
    return resources.files("shopfloor.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") + "'"
