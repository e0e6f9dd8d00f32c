"""A run whose detectors would miss their textures ends before it begins; any other run is left alone."""

from __future__ import annotations

import click
import numpy as np
import pytest
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from PIL import Image

from shopfloor.detectors.building import DetectorError
from shopfloor.hooks import TextureHooks
from shopfloor.pipelines.data_prep.nodes import prepare_textures
from shopfloor.pipelines.data_prep.pipeline import TEXTURES_TAG
from shopfloor.planning.binding import bind

TEXTURES = "data_prep.dtd.64.textures"
IMAGES = "perturbation.cell.train_images"


def nothing(*_):
    return None


def prepare(entry="dtd", textures=TEXTURES):
    return Node(
        bind(prepare_textures, name=entry, image_size=64),
        *(f"params:textures.{entry}", textures),
        name=f"{entry}.prepare",
        namespace="data_prep",
        tags=TEXTURES_TAG,
    )


def train(detector, *inputs, cell=""):
    name = f"{detector}{cell}"
    wanted = [IMAGES, f"params:detectors.{detector}", *inputs]
    return Node(nothing, wanted, f"training.{name}.checkpoint", name=name, namespace="training")


def catalog_of(**textures):
    """A catalog in which nothing is prepared yet, with these entries of textures."""
    return DataCatalog({f"params:textures.{name}": MemoryDataset(entry) for name, entry in textures.items()})


@pytest.fixture
def lost(tmp_path):
    return catalog_of(dtd={"folder": str(tmp_path / "nowhere")})


def start(nodes, catalog):
    TextureHooks().before_pipeline_run(Pipeline(nodes), catalog)


def test_missing_folder_stops_the_run_and_names_entry_folder_and_detectors(lost, tmp_path):
    nodes = [prepare(), train("glass", TEXTURES), train("draem", TEXTURES), train("patchcore")]
    with pytest.raises(click.ClickException, match=r"textures\.dtd\.folder") as error:
        start(nodes, lost)
    assert str(tmp_path / "nowhere") in error.value.message
    assert "2 trainings of draem and glass need it" in error.value.message
    assert "patchcore" not in error.value.message
    assert isinstance(error.value, DetectorError)


def test_trainings_are_counted_and_each_detector_is_named_once(lost):
    cells = [train("draem", TEXTURES, cell=number) for number in range(3)]
    with pytest.raises(DetectorError, match=r"3 trainings of draem need it"):
        start([prepare(), *cells], lost)


@pytest.mark.parametrize("folder", [None, ""])
def test_entry_without_a_folder_stops_the_run(folder):
    with pytest.raises(DetectorError, match=r"textures\.dtd\.folder.*draem"):
        start([prepare(), train("draem", TEXTURES)], catalog_of(dtd={"folder": folder}))


def test_entry_that_says_nothing_stops_the_run():
    with pytest.raises(DetectorError, match=r"textures\.dtd\.folder.*draem"):
        start([prepare(), train("draem", TEXTURES)], catalog_of(dtd={}))


def test_folder_without_images_stops_the_run(tmp_path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DetectorError, match=r"holds no image.*textures\.dtd\.folder.*draem"):
        start([prepare(), train("draem", TEXTURES)], catalog_of(dtd={"folder": str(tmp_path)}))


def stops(nodes, catalog):
    try:
        start(nodes, catalog)
    except DetectorError:
        return True
    return False


WANTED = [prepare(), train("draem", TEXTURES)]


def test_folder_with_an_image_is_fine(lost, tmp_path):
    assert stops(WANTED, lost)
    (tmp_path / "nowhere/bark").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "nowhere/bark/1.png")
    assert not stops(WANTED, lost)


def test_textures_that_are_prepared_already_need_no_folder(lost):
    assert stops(WANTED, lost)
    lost[TEXTURES] = MemoryDataset(np.zeros((1, 64, 64, 3), np.uint8))
    assert not stops(WANTED, lost)


def test_generated_textures_need_no_folder():
    assert stops(WANTED, catalog_of(dtd={"generator": None}))
    assert not stops(WANTED, catalog_of(dtd={"generator": {"seed": 1, "count": 4}}))


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([prepare(), train("patchcore")], id="no training wants them"),
        pytest.param([prepare()], id="the run only prepares them, and their node says so"),
        pytest.param([train("draem", TEXTURES)], id="as with --from-nodes: what is missing there, the runner says"),
    ],
)
def test_run_that_would_not_miss_its_textures_late_is_left_alone(nodes, lost):
    assert not stops(nodes, lost)
    assert stops([*WANTED, *(node for node in nodes if node not in WANTED)], lost)


def test_only_the_entry_that_is_missing_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    catalog = catalog_of(mine={"folder": str(tmp_path)}, dtd={"folder": str(tmp_path / "nowhere")})
    nodes = [prepare("mine", "data_prep.mine.64.textures"), train("draem", "data_prep.mine.64.textures"), prepare()]
    start(nodes, catalog)
    with pytest.raises(DetectorError, match=r"textures\.dtd\.folder.*1 trainings? of glass") as error:
        start([*nodes, train("glass", TEXTURES)], catalog)
    assert "mine" not in error.value.message and "draem" not in error.value.message


def test_hook_is_registered():
    from shopfloor.settings import HOOKS

    assert any(isinstance(hook, TextureHooks) for hook in HOOKS)


def test_every_training_of_the_real_pipelines_that_wants_textures_is_found(registered):
    """The names that the hook goes by are those that the pipelines use."""
    for pipeline in registered.values():
        tagged = [node for node in pipeline.nodes if TEXTURES_TAG in node.tags]
        made = {name for node in tagged for name in node.outputs}
        wanting = [node for node in pipeline.nodes if made & set(node.inputs)]
        assert {node.namespace for node in wanting} <= {"training"}
        if not wanting:
            continue
        entries: dict[str, AbstractDataset] = {
            name: MemoryDataset({"folder": None}) for node in tagged for name in node.inputs
        }
        with pytest.raises(DetectorError, match=r"\(textures\.\w+\.folder\).* trainings? of \w+"):
            TextureHooks().before_pipeline_run(pipeline, DataCatalog(entries))
