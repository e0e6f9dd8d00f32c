"""What kedro-viz is given to show of tables, figures and pictures."""

from __future__ import annotations

import inspect
import json
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from shopfloor.catalog.atomic import CSVDataset, FigureDataset, JSONDataset, ParquetDataset, PictureDataset

KINDS: dict[type, tuple[str, str]] = {  # the file, and the name by which kedro-viz chooses how to show it
    CSVDataset: ("table.csv", "TablePreview"),
    ParquetDataset: ("table.parquet", "TablePreview"),
    JSONDataset: ("record.json", "JSONPreview"),
    FigureDataset: ("figure.json", "PlotlyPreview"),
    PictureDataset: ("picture.png", "ImagePreview"),
}


def preview_type(dataset: Any) -> str:
    """The name that kedro-viz 12.5 reads from the signature (``DataNodeMetadata.set_preview_type``)."""
    annotation = inspect.signature(dataset.preview).return_annotation
    return getattr(annotation, "__name__", str(annotation))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_no_run_has_made_has_no_preview_but_a_type(kind: Any, tmp_path: Path) -> None:
    name, expected = KINDS[kind]
    dataset = kind(filepath=str(tmp_path / name))
    assert dataset.preview() is None
    assert preview_type(dataset) == expected


@pytest.mark.parametrize("kind", [CSVDataset, ParquetDataset])
def test_a_preview_of_a_table_is_data_that_kedro_viz_can_send(kind: Any, tmp_path: Path) -> None:
    from kedro_viz.api.rest.responses.utils import get_encoded_response

    dataset = kind(filepath=str(tmp_path / "table"))
    counts, flags = pd.Series([3, None], dtype="Int64"), pd.Series([True, None], dtype="boolean")
    dataset.save(pd.DataFrame({"category": ["01", "=1"], "n_train": counts, "generated": flags, "value": [0.5, None]}))
    shown = json.loads(get_encoded_response(dataset.preview()))
    assert shown["columns"] == ["category", "n_train", "generated", "value"]
    assert shown["data"] == [["01", 3, True, 0.5], ["=1", None, None, None]]


def test_previews_show_the_file(tmp_path: Path) -> None:
    kinds: tuple[Any, ...] = (CSVDataset, JSONDataset, FigureDataset)
    table, record, figure = (kind(filepath=str(tmp_path / KINDS[kind][0])) for kind in kinds)
    table.save(pd.DataFrame({"metric": ["image_auroc"] * 7, "value": range(7)}))
    assert [row[-1] for row in table.preview()["data"]] == [0, 1, 2, 3, 4]
    assert [row[-1] for row in table.preview(nrows=2)["data"]] == [0, 1]
    record.save({"epochs": 3})
    assert json.loads(record.preview()) == {"epochs": 3}
    figure.save(go.Figure(go.Scatter(y=[1, 2])))
    assert figure.preview()["data"][0]["type"] == "scatter"


@pytest.mark.parametrize(("name", "save_args"), [("p.png", {}), ("p.jpg", {"quality": 90})])
def test_a_picture_is_shown_as_it_lies_on_disk(name: str, save_args: dict[str, Any], tmp_path: Path) -> None:
    dataset = PictureDataset(filepath=str(tmp_path / name), save_args=save_args)
    dataset.save(Image.fromarray(np.full((5, 8, 3), 200, np.uint8)))
    shown = Image.open(BytesIO(b64decode(dataset.preview())))
    assert shown.size == (8, 5)
    assert np.asarray(shown).mean() == pytest.approx(200, abs=2)
