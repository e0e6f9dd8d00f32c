"""The page as a reader and as a browser sees it: order, holes, escaping, one file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shopfloor.report.figures.rendering import below_one_another
from shopfloor.report.figures.scores import score_histogram
from tests.report.conftest import headline_of, render, value_rows

ATTACK = "<script>alert(1)</script>"
QUOTES = '"\'`&onmouseover=alert(2) x="'
LONG = "n" * 300


class Reader(HTMLParser):
    """Tags, attributes, and the text outside of script and style."""

    def __init__(self, page):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag in {"script", "style"}:
            self.inside = tag

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        elif not self.inside:
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def evaluation_page(evaluation_run):
    # As rough as a photograph of a rough surface; pure noise would be beyond any compression.
    rough = Image.fromarray(np.random.default_rng(0).integers(60, 200, (700, 180, 3), dtype=np.uint8))
    return render(evaluation_run, rough.resize((536, 2098)))


@pytest.fixture(scope="module")
def noisy_page(noisy_run):
    return render(noisy_run)


def test_sections_stand_in_the_order_of_the_report(noisy_page):
    found = re.findall(r'<section id="(\w+)"', noisy_page)
    parts = ["holes", "datasets", "categories", "noise", "figures", "scores", "examples", "costs", "data", "settings"]
    assert found == parts


def test_noise_section_only_with_noise(evaluation_page):
    assert '<section id="noise"' not in evaluation_page
    assert 'href="#noise"' not in evaluation_page


def test_headline_gives_the_answer_and_the_holes(evaluation_run):
    text = headline_of(evaluation_run.metrics)
    mean = evaluation_run.metrics.query("detector == 'patchcore' and metric == 'image_auroc'")
    best = 100 * mean.groupby("dataset")["value"].mean().mean()
    assert text.startswith(
        f"Best mean image AUROC: {best:.1f} % with patchcore (256 px), over 2 datasets (4 categories)"
    )
    assert "7 of 8 cells finished, 1 failed." in text
    assert text.endswith("Not ranked because their sets are incomplete: student_teacher (256 px).")


def test_settings_say_which_readings_were_used(noisy_page):
    settings = noisy_page[noisy_page.index('<section id="settings"') :]
    assert re.search(r"<summary>noisy_labels</summary>\s*<pre>[^<]*noise_percent[^<]*10,\s*20", settings)
    assert re.search(r"<summary>solar_cells</summary>\s*<pre>[^<]*train_good[^<]*120", settings)
    assert re.search(r"<summary>patchcore</summary>\s*<pre>[^<]*coreset_ratio", settings)


def test_the_head_says_what_wrong_labels_cost(noisy_page, evaluation_page):
    head = noisy_page[: noisy_page.index("<nav")]
    assert re.search(r"AUROC change, \d+ % wrong labels: [+-]\d+\.\d points with \w+, the steadiest, ", head)
    assert "AUROC change" not in evaluation_page[: evaluation_page.index("<nav")]


def test_headline_names_all_winners_and_needs_a_complete_set():
    tie = value_rows([("a", "x", "p", 1, "image_auroc", 0.90), ("a", "x", "q", 1, "image_auroc", 0.9001)])
    assert headline_of(tie).startswith(
        "Best mean image AUROC: 90.0 % with p (256 px) and q (256 px), over 1 category of a"
    )
    nothing = value_rows([("a", "x", "p", 1, "image_auroc", "missing")])
    expected = "No detector has a complete set of image AUROC values; 0 of 1 cells finished, 0 failed, 1 missing."
    assert headline_of(nothing) == expected


def test_demo_generated_holes_and_reasons_are_said(evaluation_page):
    words = Reader(evaluation_page).words()
    assert "Demo-sized run. Short trainings on 120 images per category" in words
    assert "The images of machined_parts are rendered, not photographed" in words
    assert "OutOfMemoryError: 9.1 GB wanted" in words
    assert "✗ incomplete" in words
    assert "✗ failed" in words
    assert "solar_cells/poly, seed 3341: failed" in words
    assert "the dataset has image labels only" in words


def test_no_banner_for_a_full_run_on_photographs(evaluation_run):
    page = render(evaluation_run, plan={"demo_note": ""}, categories=evaluation_run.categories.assign(generated=False))
    assert "Demo-sized" not in page
    assert "Generated images." not in page


def test_nothing_that_is_missing_is_printed_as_a_number(evaluation_run):
    lost = evaluation_run.metrics["detector"] == "student_teacher"
    metrics = evaluation_run.metrics.copy()
    metrics.loc[lost, "status"] = "missing"
    metrics.loc[lost, "value"] = np.nan
    page = render(evaluation_run, metrics=metrics)
    lines = re.findall(r"<tr>.*?</tr>", re.sub(r"\n", "", page[: page.index('id="figures"')]))
    of_lost = [line for line in lines if "student_teacher" in line and "missing" in line]
    assert of_lost
    for line in of_lost:
        cells = re.findall(r'<td class="number[^"]*"[^>]*>([^<]*)<', line)
        assert not [cell for cell in cells if re.fullmatch(r"0(\.0)?|nan", cell, re.I)], line
    assert "nan" not in Reader(page).words().lower().split()


def test_names_from_disk_cannot_become_html(evaluation_run, picture):
    bad = f"{ATTACK}{QUOTES}{LONG}"
    metrics = evaluation_run.metrics.replace({"category": {"poly": bad}, "detector": {"patchcore": f"{ATTACK}p"}})
    metrics = metrics.assign(note=metrics["note"].where(metrics["note"] == "", bad))
    costs = evaluation_run.costs.replace({"category": {"poly": bad}, "detector": {"patchcore": f"{ATTACK}p"}})
    costs = costs.assign(device=bad, note=bad)
    categories = evaluation_run.categories.assign(title=bad, licence=bad, source=bad).replace({"poly": bad})
    plan = {
        **dict.fromkeys(("title", "experiment", "demo_note"), bad),
        "settings": {bad: {bad: bad}},
        "experiment_settings": {bad: bad},
        "dataset_settings": {bad: {bad: bad}},
        "grid": {bad: [bad]},
    }
    said = {"finished": bad, "environment": {bad: bad}, "versions": {bad: bad}}
    changed = {"metrics": metrics, "costs": costs, "categories": categories, "plan": plan, "said": said}
    evil = render(evaluation_run, picture, **changed, examples={bad: picture})
    reader = Reader(evil)
    kinds = {attributes.get("type") for attributes, _ in reader.scripts}
    assert kinds == {None, "application/json"}
    assert len([1 for attributes, _ in reader.scripts if "type" not in attributes]) == 2
    assert ATTACK not in evil
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on") or name == "x"]
    assert ATTACK in reader.words()  # shown as text


def test_json_of_a_figure_cannot_close_its_script(evaluation_run):
    label = next(iter(evaluation_run.scores))
    name = "</script><script>alert(1)</script><!--&'"
    figure = below_one_another({name: score_histogram(evaluation_run.scores[label])})
    page = render(evaluation_run, figures={}, histograms={"x": figure})
    content = [text for attributes, text in Reader(page).scripts if attributes.get("type") == "application/json"]
    assert len(content) == 2  # the figure, and the looks of all figures
    assert json.loads(content[0])["vconcat"][0]["title"] == name
    assert set(json.loads(content[1])) == {"light", "dark"}


def test_the_page_is_one_file(evaluation_page):
    reader = Reader(evaluation_page)
    for tag, attributes in reader.tags:
        assert tag not in {"link", "iframe", "object", "base", "form"}
        source = attributes.get("src") or attributes.get("href") or ""
        inside = ("#", "data:image/jpeg;base64,", "../index.html")
        assert source == "" or source.startswith(inside), (tag, source)
    style = evaluation_page[evaluation_page.index("<style>") : evaluation_page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_admits_exactly_the_two_scripts(evaluation_page):
    reader = Reader(evaluation_page)
    policy = next(str(a["content"]) for tag, a in reader.tags if tag == "meta" and "http-equiv" in a)
    scripts = [text for attributes, text in reader.scripts if "type" not in attributes]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert "default-src 'none'" in policy


def test_a_demo_of_eight_cells_stays_below_15_mb(evaluation_page):
    assert len(evaluation_page.encode()) < 15_000_000
    pictures = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", evaluation_page)
    assert len(pictures) == 7
    assert max(len(base64.b64decode(picture)) for picture in pictures) <= 250_000


def test_pictures_beyond_the_budget_are_named(evaluation_run):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 500, 3), dtype=np.uint8))
    page = render(evaluation_run, examples={f"cell {place}": noise for place in range(60)})
    assert "pictures are left out to keep this file small" in page
    assert "<li>cell 59</li>" in page
    assert len(page) < 20_000_000


def test_columns_can_be_sorted_by_value(evaluation_page):
    rows = re.findall(r'<td class="number" data-sort="([\d.]+)"[^>]*>(?:<b>)?([\d.]+)<', evaluation_page)
    values = [(float(sort), text) for sort, text in rows if "." in text]
    assert len(values) > 50
    assert evaluation_page.count("<th ") == evaluation_page.count('<button type="button">')
    assert '<td class="number hole"' in evaluation_page
    assert not re.search(r'<td class="number hole" data-sort', evaluation_page)


def test_seeds_are_names_and_counts_are_grouped(evaluation_page):
    assert ">3341<" in evaluation_page
    assert "3\u202f341" not in evaluation_page
    assert ">3\u202f400\u202f000<" in evaluation_page


def test_best_values_are_bold(evaluation_run):
    page = render(evaluation_run)
    table = page[page.index('id="categories"') : page.index('id="figures"')]
    rings = evaluation_run.metrics.query("category == 'rings' and metric == 'image_auroc'")
    assert f"<b>{100 * rings['value'].max():.1f}</b>" in table
    assert f"<b>{100 * rings['value'].min():.1f}</b>" not in table


def test_a_run_that_failed_throughout_still_has_a_page(evaluation_run):
    metrics = evaluation_run.metrics.assign(value=np.nan, status="failed", note="disk full")
    costs = evaluation_run.costs.assign(status="failed", fit_seconds=np.nan, predict_ms_per_image=np.nan)
    page = render(evaluation_run, metrics=metrics, costs=costs)
    words = Reader(page).words()
    assert "No detector has a complete set of image AUROC values; 0 of 8 cells finished, 8 failed." in words
    assert "Nothing to draw." in words


def test_a_category_that_could_not_be_read_is_listed_by_name_only(evaluation_run):
    fake, names = evaluation_run, ["dataset", "category", "image_size"]
    lost = fake.categories["dataset"] == "machined_parts"
    partly = pd.concat([fake.categories[~lost], fake.categories.loc[lost, names]], ignore_index=True)
    for categories in (partly, fake.categories[names]):
        page = render(fake, categories=categories, histograms={})
        data = page[page.index('<section id="data"') : page.index('<section id="settings"')]
        line = next(line for line in data.split("<tr>") if ">rings<" in line)
        assert re.findall(r"<td[^>]*>([^<]*)<", line) == ["machined_parts", "rings", "256", *["–"] * 7]
        assert "Generated images." not in page
