"""The report and the page over all experiments in a real browser without a network, on a desk and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

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

    def open_page(path: str, viewport: dict[str, int] = DESK) -> tuple[Any, list[str]]:
        context = browser.new_context(viewport=viewport, offline=True)
        contexts.append(context)
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.goto((finished / "data/08_reporting" / path).as_uri())
        return page, complaints

    yield open_page
    for context in contexts:
        context.close()


def test_figures_show_and_the_browser_has_nothing_to_complain_about(opened: Any) -> None:
    page, complaints = opened("model_evaluation/report.html")
    plots = page.locator("figure[data-plot]:visible")
    assert plots.count() >= 5
    for place in range(plots.count()):
        plots.nth(place).scroll_into_view_if_needed()
        plots.nth(place).locator("svg.main-svg").first.wait_for(timeout=20_000)
    pictures = page.locator("img:visible")
    assert pictures.count() >= 2
    for place in range(pictures.count()):
        pictures.nth(place).scroll_into_view_if_needed()
        pictures.nth(place).evaluate("image => image.decode()")
        assert pictures.nth(place).evaluate("image => image.naturalWidth") > 100
    assert complaints == []


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
