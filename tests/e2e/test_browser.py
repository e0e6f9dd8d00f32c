"""The report and the page over all experiments in a real browser without a network, on a desk and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shopfloor.report.figures.by_category import metric_by_category
from shopfloor.report.tables.value_tables import category_table
from tests.report.conftest import make_run, render, value_rows

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 800}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, finished: Path) -> Iterator[Any]:
    """A function that opens a page of the results offline, and the complaints of the browser about it."""
    contexts = []

    def open_page(path: str, viewport: dict[str, int] = DESK, scheme: Any = "light") -> tuple[Any, list[str]]:
        context = browser.new_context(viewport=viewport, offline=True, color_scheme=scheme)
        contexts.append(context)
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.goto((finished / "data/08_reporting" / path).resolve().as_uri())
        return page, complaints

    yield open_page
    for context in contexts:
        context.close()


def draw_all(page: Any) -> Any:
    """Scroll through the page until every figure is drawn."""
    plots = page.locator("figure[data-plot]:visible")
    for place in range(plots.count()):
        plots.nth(place).scroll_into_view_if_needed()
        plots.nth(place).locator("svg.marks").first.wait_for(timeout=20_000)
    page.wait_for_timeout(300)  # widths are fitted after the first drawing
    return plots


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_figures_show_and_the_browser_has_nothing_to_complain_about(viewport: dict[str, int], opened: Any) -> None:
    page, complaints = opened("model_evaluation/report.html", viewport)
    plots = draw_all(page)
    assert plots.count() >= 5
    sizes = "plots => plots.map(plot => [plot.clientWidth, plot.querySelector('svg').clientWidth])"
    for room, width in page.locator("figure[data-plot]:visible .plot").evaluate_all(sizes):
        assert 0.9 * room <= width <= room
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    pictures = page.locator("img:visible")
    assert pictures.count() >= 2
    for place in range(pictures.count()):
        pictures.nth(place).scroll_into_view_if_needed()
        pictures.nth(place).evaluate("image => image.decode()")
        assert pictures.nth(place).evaluate("image => image.naturalWidth") > 100
    assert complaints == []


def test_figures_are_drawn_when_they_come_into_view(opened: Any) -> None:
    page, complaints = opened("model_evaluation/report.html")
    assert page.locator(".plot svg").count() < page.locator("figure[data-plot]").count()
    draw_all(page)
    assert complaints == []


def test_a_point_says_what_it_is(opened: Any) -> None:
    page, complaints = opened("model_evaluation/report.html")
    draw_all(page)
    page.locator("#figures path[aria-roledescription=point]").first.hover()
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(timeout=5_000)
    words = tooltip.inner_text()
    assert {"dataset", "category", "detector", "Image AUROC"} <= {line.split("\t")[0] for line in words.splitlines()}
    assert "%" in words
    assert page.locator("svg a, .vega-actions, summary svg").count() == 0, "no menu"
    assert complaints == []


CONTRAST = """(texts, ground) => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const linear = parts.map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05;
  };
  return texts.filter((text) => text.textContent && text.getClientRects().length).map((text) => {
    const look = getComputedStyle(text);
    const [one, other] = [light(text instanceof SVGElement ? look.fill : look.color), light(ground)];
    return Math.max(one, other) / Math.min(one, other);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(scheme: str, opened: Any) -> None:
    page, complaints = opened("model_evaluation/report.html", DESK, scheme)
    draw_all(page)
    ground = page.locator("#figures figure").first.evaluate("box => getComputedStyle(box).backgroundColor")
    assert (sum(map(int, ground.removeprefix("rgb(").rstrip(")").split(", "))) < 150) == (scheme == "dark")
    texts = page.locator("#figures figure text:not([fill=transparent]), #figures figcaption")
    found = texts.evaluate_all(CONTRAST, ground)
    assert len(found) > 30 and min(found) >= 4.5
    assert complaints == []


def test_figures_follow_when_the_scheme_changes(opened: Any) -> None:
    page, complaints = opened("model_evaluation/report.html")
    draw_all(page)
    page.emulate_media(color_scheme="dark")
    page.locator("#figures .role-axis-label text[fill='#e4e9ee']").first.wait_for(timeout=10_000)
    page.emulate_media(color_scheme="light")
    page.locator("#figures .role-axis-label text[fill='#1f2933']").first.wait_for(timeout=10_000)
    assert complaints == []


def test_print_is_light_and_has_every_figure(opened: Any, tmp_path: Path) -> None:
    page, complaints = opened("model_evaluation/report.html", DESK, "dark")
    page.evaluate("""() => matchMedia('print').addEventListener('change', (event) => {
      const texts = Array.from(document.querySelectorAll('.plot .role-axis-label text'));
      if (event.matches) window.printed = {
        figures: document.querySelectorAll('.plot svg').length,
        fills: Array.from(new Set(texts.map((text) => text.getAttribute('fill')))),
        text: getComputedStyle(document.body).color,
      };
    })""")
    figures = page.locator("figure[data-plot]:visible").count()
    page.pdf(path=tmp_path / "page.pdf")
    printed = page.evaluate("window.printed")
    assert printed["figures"] >= figures and printed["fills"] == ["#1f2933"]
    assert printed["text"] == "rgb(31, 41, 51)"
    assert complaints == []


EVIL = [
    "<img src=x onerror=window.ran=1>",
    "'+(window.ran=1)+'",
    "datum['x']",
    "a.b[0]",
    "</script><script>window.ran=1//",
]


def test_names_that_mean_harm_stay_names(browser: Any, tmp_path: Path) -> None:
    rows = [(name, name, name + "!", 1, "image_auroc", 0.8 + place / 100) for place, name in enumerate(EVIL)]
    figures = {"evil": (EVIL[0], metric_by_category(category_table(value_rows(rows)), "image_auroc"))}
    fake = make_run(with_noise=False)
    path = tmp_path / "report.html"
    path.write_text(render(fake, figures=figures, histograms={}), encoding="utf-8")
    page, complaints = browser.new_page(viewport=DESK), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    draw_all(page)
    points = page.locator("#figures path[aria-roledescription=point]")
    assert points.count() == len(EVIL)
    for place, name in enumerate(EVIL):
        points.nth(place).hover()
        page.locator("#vg-tooltip-element td.value", has_text=name).first.wait_for(timeout=5_000)
    assert page.locator("#vg-tooltip-element img, .plot img, svg image").count() == 0
    assert page.evaluate("window.ran") is None
    assert "unsafe-eval" not in str(page.locator("meta[http-equiv]").get_attribute("content"))
    assert complaints == []
    page.close()


def test_tables_sort_by_value_and_keep_holes_last(opened: Any) -> None:
    page, complaints = opened("model_evaluation/report.html")
    table = page.locator("#datasets table >> nth=0")
    heads = [text.strip() for text in table.locator("th").all_inner_texts()]
    place = heads.index("Image AUROC")

    def values() -> list[float]:
        cells = table.locator(f"tbody tr td:nth-child({place + 1})")
        return [float(cell.get_attribute("data-sort")) for cell in cells.all() if cell.get_attribute("data-sort")]

    table.locator("th button").nth(place).click()
    assert values() == sorted(values(), reverse=True)
    assert len(set(values())) > 1
    table.locator("th button").nth(place).click()
    assert values() == sorted(values())
    assert table.locator("th").nth(place).get_attribute("aria-sort") == "ascending"
    assert complaints == []


@pytest.mark.parametrize("path", ["index.html", "model_evaluation/report.html"])
def test_a_phone_scrolls_down_only(path: str, opened: Any) -> None:
    page, complaints = opened(path, PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert complaints == []


def test_the_front_page_leads_to_the_report_and_back(opened: Any) -> None:
    page, complaints = opened("index.html")
    assert page.locator("#detectors tbody tr").count() >= 2
    page.locator("article h3 a").first.click()
    page.wait_for_url("**/model_evaluation/report.html")
    page.locator("nav >> text=All experiments").click()
    page.wait_for_url("**/index.html")
    assert complaints == []
