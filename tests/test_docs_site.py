"""Links of the README and the documentation lead to files; the site is built whole and asks no other host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]

_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")  # [text](target), ![picture](target), with or without a title
_HEADING = re.compile(r"^#+\s+(.+?)\s*#*$", re.MULTILINE)

needs_mkdocs = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("mkdocs", "material", "mermaidx")),
    reason='needs the documentation extra: pip install -e ".[docs]"',
)


def anchors(text: str) -> set[str]:
    """Names that GitHub gives the headings of a page."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(_CODE.sub(_text_of_code, text)))
    return {heading.replace(" ", "-") for heading in kept}


def _text_of_code(code: re.Match[str]) -> str:
    return "" if code[1] else code[0].strip("`")


def broken_links(page: Path) -> list[str]:
    """Relative links and pictures of a Markdown page that lead to no file, folder or heading."""
    broken = []
    for target in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        link = urlsplit(target)
        if link.scheme or link.netloc:
            continue
        file = page.parent / unquote(link.path) if link.path else page
        lost = link.fragment and file.suffix == ".md" and link.fragment not in anchors(file.read_text(encoding="utf-8"))
        if link.path.startswith("/") or not file.exists() or lost:
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_links_and_pictures_lead_to_files(page: Path) -> None:
    assert not broken_links(page)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# What `pg2` is, exactly\n\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[good](other.md) [good](other.md#what-pg2-is-exactly) [good](#page) [elsewhere](https://a.b/c.md)\n"
        "`[code](gone.md)`\n\n```\n[code](gone.md)\n```\n\n"
        '[gone](gone.md "title") ![gone](images/gone.png) [lost](other.md#no-heading) [root](/other.md)\n'
    )
    assert broken_links(page) == ["gone.md", "images/gone.png", "other.md#no-heading", "/other.md"]


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as a user does. (With ``--quiet``, MkDocs does not count warnings, and strictness is gone.)"""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)]
    return subprocess.run(
        command,
        cwd=project,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # Material's word on its own future, no fault of the pages
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class _Fetched(HTMLParser):
    """Collects what a browser loads with a page, and where its links lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.loaded.append(str(values["src"]))
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(str(values["href"]))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    built = build(PROJECT, folder)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    yield folder
    shutil.rmtree(folder)


@needs_mkdocs
def test_every_page_of_the_documentation_is_a_page_of_the_site(site: Path) -> None:
    for page in PAGES[1:]:
        name = page.relative_to(PROJECT / "docs").with_suffix(".html")
        assert (site / (name.with_name("index.html") if name.stem == "README" else name)).is_file()
    assert not list(site.rglob("*.py"))


@needs_mkdocs
def test_pages_load_and_link_what_the_site_holds(site: Path) -> None:
    pages = [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]
    assert len(pages) >= len(PAGES) - 1
    for page in pages:
        fetched = _Fetched(page)
        assert fetched.loaded
        for url in fetched.loaded:
            assert not urlsplit(url).netloc, f"{page.name} asks another host: {url}"
        for url in (*fetched.loaded, *fetched.links):
            link = urlsplit(url)
            if not link.scheme and not link.netloc and link.path:
                assert (page.parent / unquote(link.path)).exists(), f"{page.name}: {url}"


@needs_mkdocs
def test_mermaid_lies_beside_the_pages_that_draw_with_it_alone(site: Path) -> None:
    drawn = [page for page in PAGES[1:] if "```mermaid" in page.read_text(encoding="utf-8")]
    assert drawn
    with_script = [page for page in site.rglob("*.html") if any("mermaid" in url for url in _Fetched(page).loaded)]
    assert {page.stem for page in with_script} == {page.stem for page in drawn}
    script = (site / "assets/javascripts/mermaid.min.js").read_text(encoding="utf-8")
    assert "globalThis" in script and "mermaid" in script and len(script) > 1_000_000


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """What the site is made of, to be changed."""
    shutil.copy(PROJECT / "mkdocs.yml", tmp_path)
    for folder in ("docs", "notebooks", "reference"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    (tmp_path / "README.md").touch()
    return tmp_path


@needs_mkdocs
def test_links_that_lead_nowhere_stop_the_build(copied: Path) -> None:
    links = ["gone.md", "../gone.ipynb", "../notebooks", "own_parts.md#no-heading"]
    with (copied / "docs/index.md").open("a") as page:
        page.writelines(f"\n[broken]({link})\n" for link in links)
    built = build(copied, copied / "site")
    said = built.stdout + built.stderr
    assert built.returncode != 0
    assert f"Aborted with {len(links)} warnings" in said
    for link in links:
        assert link in said


@needs_mkdocs
def test_a_file_of_the_repository_that_a_page_names_is_laid_into_the_site(copied: Path) -> None:
    (copied / "conf").mkdir()
    (copied / "conf/some.yml").write_text("seeds: [1]\n")
    with (copied / "docs/detectors/patchcore.md").open("a") as page:
        page.write("\n[settings](../../conf/some.yml) [readme](../../README.md)\n")
    built = build(copied, copied / "site")
    assert built.returncode == 0, built.stderr
    assert (copied / "site/repository/conf/some.yml").read_text() == "seeds: [1]\n"
    links = _Fetched(copied / "site/detectors/patchcore.html").links
    assert "../repository/conf/some.yml" in links and "../index.html" in links
