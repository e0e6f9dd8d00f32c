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
import pytest
from kedro.io import DatasetError
from PIL import Image

from shopfloor.catalog.atomic import CSVDataset, FigureDataset, JSONDataset, ParquetDataset, PictureDataset
from shopfloor.report.figures.rendering import below_one_another
from shopfloor.report.figures.scores import score_histogram
from tests.report.conftest import cell_scores

KINDS: dict[type, tuple[str, str]] = {  # the file, and the name by which kedro-viz chooses how to show it
    CSVDataset: ("table.csv", "TablePreview"),
    ParquetDataset: ("table.parquet", "TablePreview"),
    JSONDataset: ("record.json", "JSONPreview"),
    FigureDataset: ("figure.json", "ImagePreview"),
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
    kinds: tuple[Any, ...] = (CSVDataset, JSONDataset)
    table, record = (kind(filepath=str(tmp_path / KINDS[kind][0])) for kind in kinds)
    table.save(pd.DataFrame({"metric": ["image_auroc"] * 7, "value": range(7)}))
    assert [row[-1] for row in table.preview()["data"]] == [0, 1, 2, 3, 4]
    assert [row[-1] for row in table.preview(nrows=2)["data"]] == [0, 1]
    record.save({"epochs": 3})
    assert json.loads(record.preview()) == {"epochs": 3}


def test_a_figure_is_shown_as_a_picture(tmp_path: Path) -> None:
    chart = score_histogram(cell_scores(1))
    dataset = FigureDataset(filepath=str(tmp_path / "figure.json"))
    dataset.save(chart)
    shown = Image.open(BytesIO(b64decode(dataset.preview())))
    assert shown.format == "PNG" and shown.width > 500
    blue = np.abs(np.asarray(shown.convert("RGB")).astype(int) - (0x00, 0x72, 0xB2)).max(axis=-1) < 10
    assert blue.sum() > 300


def test_a_figure_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    for chart in (score_histogram(cell_scores(1)), below_one_another({"a": score_histogram(cell_scores(2))})):
        dataset = FigureDataset(filepath=str(tmp_path / "figure.json"))
        dataset.save(chart)
        first = (tmp_path / "figure.json").read_bytes()
        loaded = dataset.load()
        assert loaded == chart.to_dict()
        dataset.save(loaded)
        assert (tmp_path / "figure.json").read_bytes() == first


def test_a_figure_that_browsers_could_not_read_is_refused(tmp_path: Path) -> None:
    import altair as alt

    dataset = FigureDataset(filepath=str(tmp_path / "figure.json"))
    chart = alt.Chart(alt.InlineData(values=[{"x": float("nan")}])).mark_point()
    with pytest.raises(DatasetError):
        dataset.save(chart)
    with pytest.raises(DatasetError):
        dataset.save("no chart")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "save_args"), [("p.png", {}), ("p.jpg", {"quality": 90})])
def test_a_picture_is_shown_as_it_lies_on_disk(name: str, save_args: dict[str, Any], tmp_path: Path) -> None:
    dataset = PictureDataset(filepath=str(tmp_path / name), save_args=save_args)
    dataset.save(Image.fromarray(np.full((5, 8, 3), 200, np.uint8)))
    shown = Image.open(BytesIO(b64decode(dataset.preview())))
    assert shown.size == (8, 5)
    assert np.asarray(shown).mean() == pytest.approx(200, abs=2)


def test_a_notebook_shows_a_loaded_figure(tmp_path: Path) -> None:
    import altair as alt

    dataset = FigureDataset(filepath=str(tmp_path / "figure.json"))
    dataset.save(score_histogram(cell_scores(1)))
    with alt.renderers.enable("svg"):
        assert dataset.load()._repr_mimebundle_()["image/svg+xml"].startswith("<svg")
