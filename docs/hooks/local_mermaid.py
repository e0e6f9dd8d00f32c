"""Lays mermaid beside the pages that draw with it.

Material for MkDocs fetches mermaid from a content delivery network unless the page has loaded it before. The package
``mermaidx`` carries ``mermaid.min.js`` of mermaid 11.16.0 byte for byte (SHA-256 74d7c46d..., compared with the release
on npm), so the site needs no other host and the repository no copy of 3.5 MB.
"""

from __future__ import annotations

from importlib.resources import files as files_of_package

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

SCRIPT = "assets/javascripts/mermaid.min.js"
DIAGRAM = '<pre class="mermaid">'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the script to the files of the site."""
    script = files_of_package("mermaidx") / "assets" / "mermaid.js"
    files.append(File.generated(config, SCRIPT, content=script.read_bytes()))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load the script before the theme's own, on pages with a diagram only."""
    if DIAGRAM not in output:
        return output
    script = f'<script src="{get_relative_url(SCRIPT, page.url)}"></script>'
    return output.replace("</head>", f"{script}</head>", 1)
