"""Texts of plotly figures without plotly's markup."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"</?(?:b|i|u|s|em|strong|sub|sup|span|a)(?:\s[^>]*)?>", re.IGNORECASE)


def plain_text(text: str) -> str:
    """The text that a reader of a plotly figure sees: lines are broken, its tags are gone, entities are characters.

    Args:
        text: Text in plotly's subset of HTML; names in it are escaped (`shopfloor.report.figures.style.safe`).
    """
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", text)))


def title_text(title: Any) -> str:
    """The text of a title, which plotly keeps as a text or as one with its settings; empty where there is none."""
    text = title.get("text") if isinstance(title, Mapping) else title
    return plain_text(str(text)) if text else ""
