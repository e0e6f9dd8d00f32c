"""Keeps links that leave ``docs/`` whole: a page may name a notebook or a settings file as GitHub wants it named.

The file is laid into the site below ``repository/`` and the link is turned to it; the README is the site's first page.
A link to what is no file stays as it is, and MkDocs refuses it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")  # [text](../...)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the page's links to files outside ``docs/``."""
    docs = Path(config.docs_dir)
    folder = posixpath.dirname(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[0]))
        if not target.startswith("../") or not (docs / target).is_file():
            return link[0]
        return posixpath.relpath(_place_in_site(docs, target, config, files), folder or ".")

    return LINK.sub(turned, markdown)


def _place_in_site(docs: Path, target: str, config: MkDocsConfig, files: Files) -> str:
    """Where the site has the file ``target`` (relative to ``docs``), which is added to it if it is not there yet."""
    if target == "../README.md":
        return "index.md"
    place = target.replace("../", "repository/", 1)
    if files.get_file_from_path(place) is None:
        files.append(File.generated(config, place, abs_src_path=str((docs / target).resolve())))
    return place
