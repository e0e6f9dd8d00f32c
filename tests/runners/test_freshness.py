"""What a run knows of files from outside, and of results that other runs and other grids made."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from shopfloor.catalog.traces import stamp
from shopfloor.planning.binding import Sources, bind, bound, reads
from shopfloor.runners.execution import SourceChangedError
from shopfloor.runners.failures import FailedNodesError
from shopfloor.runners.local import LocalRunner
from shopfloor.runners.missing import ACROSS_GRIDS, TOLERANT, MissingResult
from shopfloor.runners.refusals import Accepted, FolderChangedError

ran: list[str] = []


def list_parts(settings: dict[str, str], *, dataset: str = "parts", category: str = "bolt") -> Sources:
    root = Path(settings["root"])
    return Sources({path.name: path for path in root.glob("*.photo")}, {"labels": (root / "labels.txt").read_text()})


@reads(list_parts)
def index(settings: dict[str, str], *, dataset: str, category: str) -> str:
    ran.append("index")
    files = sorted(Path(settings["root"]).glob("*.photo"))
    return (Path(settings["root"]) / "labels.txt").read_text() + ",".join(
        f"{path.name}={path.read_text()}" for path in files
    )


def fit(table: str, *, seed: int) -> str:
    ran.append(f"fit {seed}")
    return f"weights of {table} and {seed}"


def list_weights(settings: dict[str, str]) -> Sources:
    return Sources({"weights": Path(settings["root"]) / "weights.pt"})


@reads(list_weights)
def load_weights(settings: dict[str, str]) -> str:
    ran.append("weights")
    return (Path(settings["root"]) / "weights.pt").read_text()


def use(weights: str) -> str:
    ran.append("use")
    return weights


def sum_up(*results: str, name: str) -> str:
    ran.append(name)
    return f"{name}: " + " ".join(str(each) for each in results)


def page(*summaries: str | MissingResult) -> str:
    ran.append("page")
    return " | ".join(each if isinstance(each, str) else f"<{each.status}>" for each in summaries)


class Project:
    """Two experiments on one folder of photos, each with trainings of its own, and a page over both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photos = folder / "photos"
        self.photos.mkdir()
        for name in "ab":
            self.photo(name).write_text(f"content of {name}")
        (self.photos / "weights.pt").write_text("weights")
        (self.photos / "labels.txt").write_text("good")
        self.settings = {"root": str(self.photos), "title": "Parts"}
        self.seeds = {"one": [1, 2], "two": [2, 3]}
        self.accepted = Accepted()
        self.suffix = ".txt"

    def photo(self, name: str) -> Path:
        return self.photos / f"{name}.photo"

    def pipelines(self) -> dict[str, Pipeline]:
        both = [f"{name}.summary" for name in self.seeds]
        return {
            name: Pipeline(
                [
                    Node(bind(index, dataset="parts", category="bolt"), "params:parts", "index", name="index"),
                    Node(load_weights, "params:parts", "weights", name="weights"),
                    Node(use, "weights", "used", name="use"),
                    *(
                        Node(
                            bind(fit, seed=seed), "index", f"fit_{seed}",
                            name=f"fit_{seed}", namespace="training", tags="gpu",
                        )
                        for seed in seeds
                    ),
                    Node(bind(sum_up, name=name), [f"fit_{seed}" for seed in seeds], f"{name}.summary", name=name),
                    Node(page, both, "page", name="page", tags=[TOLERANT, ACROSS_GRIDS]),
                ]
            )
            for name, seeds in self.seeds.items()
        }  # fmt: skip

    def run(self, name: str = "one", only_missing: bool = True) -> list[str]:
        """Run an experiment; the names of what ran."""
        pipelines = self.pipelines()
        outputs = {output for pipeline in pipelines.values() for output in pipeline.all_outputs()}
        file: dict[str, Any] = {
            each: {
                "type": "shopfloor.catalog.atomic.TextDataset",
                "filepath": str(self.folder / "data" / f"{each}{self.suffix}"),
            }
            for each in outputs
        }
        file["traces"] = {
            "type": "shopfloor.catalog.traces.TracesDataset", "path": str(self.folder / "data" / ".traces")
        }  # fmt: skip
        catalog = DataCatalog.from_config(file)
        catalog["params:parts"] = MemoryDataset(self.settings)
        runner = LocalRunner()
        runner.registered = lambda: pipelines
        runner.accepted = self.accepted
        ran.clear()
        runner.run(pipelines[name], catalog, _create_hook_manager(), only_missing_outputs=only_missing)
        return list(ran)

    def page(self) -> str:
        return (self.folder / "data" / "page.txt").read_text()


def test_what_is_bound_in_two_steps_is_known() -> None:
    inner = bind(fit, seed=1)
    assert bound(bind(inner, table="t")) == {"seed": 1, "table": "t"} and bound(bind(inner, seed=2)) == {"seed": 2}
    assert bound(fit) == {}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.run("one")
    made.run("two")
    return made


def test_what_two_experiments_share_is_made_once(project: Project) -> None:
    assert project.run("one") == project.run("two") == []
    assert "one: " in project.page() and "two: " in project.page()


def test_photos_that_were_touched_cost_nothing(project: Project) -> None:
    project.run("one")
    for name in "ab":
        os.utime(project.photo(name))
    assert project.run("one") == project.run("two") == []


@pytest.mark.parametrize("change", ["altered", "added", "removed", "listed otherwise"])
def test_a_changed_folder_stops_every_run_until_it_is_accepted(project: Project, change: str) -> None:
    if change == "altered":
        project.photo("a").write_text("CONTENT OF A")  # equal name and size
    elif change == "added":
        project.photo("c").write_text("content of c")
    elif change == "removed":
        project.photo("b").unlink()
    else:
        (project.photos / "labels.txt").write_text("bad")
    before = project.page()
    for name in ("one", "two"):
        for only_missing in (True, False):
            with pytest.raises(
                FolderChangedError, match=r"(?s)parts/bolt: 1 image or mask .* 3 trainings .*accept_changed=parts"
            ):
                project.run(name, only_missing)
            assert ran == [] and project.page() == before
    project.accepted = Accepted(changed=("parts",))
    assert project.run("one") == ["index", "fit 1", "fit 2", "one", "page"]
    assert "two: " not in project.page() and "<outdated>" in project.page()
    project.accepted = Accepted()
    assert project.run("two") == ["fit 3", "two", "page"], "the other experiment when it is run, and without asking"
    assert project.run("one") == project.run("two") == []


def test_a_folder_that_changed_while_a_run_was_killed_is_noticed(project: Project) -> None:
    """The node that reads the folder had begun again, and left no results."""
    traces = project.folder / "data" / ".traces" / "index.json"
    content = json.loads(traces.read_text())
    traces.write_text(json.dumps({**content, "results": {}}))
    project.photo("a").write_text("CONTENT OF A")
    with pytest.raises(FolderChangedError):
        project.run("one")
    project.photo("a").write_text("content of a")
    assert project.run("one") == ["index"], "what it makes is the same"


def test_what_is_put_back_is_current_again(project: Project) -> None:
    project.run("one")
    before = project.photo("a").read_text()
    project.photo("a").write_text("something else")
    with pytest.raises(FolderChangedError):
        project.run("one")
    project.photo("a").write_text(before)
    assert project.run("one") == []


def test_weights_replaced_under_the_same_name_are_noticed(project: Project) -> None:
    (project.photos / "weights.pt").write_text("WEIGHTS")
    assert project.run("one")[:2] == ["weights", "use"]


def forge(project: Project, node: str) -> None:
    """Put the times that files have now into a trace, long ago: what a file system would show that keeps no times."""
    path = project.folder / "data" / ".traces" / f"{node}.json"
    content = json.loads(path.read_text())
    for name, source in content["sources"].items():
        source["stamp"] = stamp(project.photos / f"{name}.pt")
    path.write_text(json.dumps({**content, "recorded_ns": content["recorded_ns"] + 10**11}))


def test_equal_size_and_times_are_a_limit_that_hashing_everything_has_not(project: Project) -> None:
    (project.photos / "weights.pt").write_text("WEIGHTS")
    forge(project, "weights")
    assert project.run("one") == []
    project.accepted = Accepted(hash_everything=True)
    assert project.run("one") == ["weights", "use"]


def test_two_photos_that_changed_places_are_noticed_though_sizes_and_times_are_equal(project: Project) -> None:
    old = time.time() - 3600
    for name in "ab":
        os.utime(project.photo(name), (old, old))
    project.run("one")
    one, other, between = project.photo("a"), project.photo("b"), project.photos / "c"
    one.rename(between)
    other.rename(one)
    between.rename(other)
    with pytest.raises(FolderChangedError, match="2 images or masks"):
        project.run("one")


def test_a_file_changed_in_the_instant_of_its_recording_is_hashed_again(project: Project) -> None:
    """Its size and times are those of the record, and the record is too young to trust them."""
    path = project.folder / "data" / ".traces" / "weights.json"
    (project.photos / "weights.pt").write_text("WEIGHTS")
    content = json.loads(path.read_text())
    content["sources"]["weights"]["stamp"] = stamp(project.photos / "weights.pt")
    path.write_text(json.dumps({**content, "recorded_ns": time.time_ns()}))
    assert project.run("one")[:2] == ["weights", "use"]


def test_files_that_were_hashed_again_are_not_hashed_every_time(project: Project) -> None:
    time.sleep(2.1)  # the photos are as young as their record
    project.run("one")
    times = {path: path.stat().st_mtime_ns for path in (project.folder / "data" / ".traces").iterdir()}
    assert project.run("one") == []
    assert times == {path: path.stat().st_mtime_ns for path in (project.folder / "data" / ".traces").iterdir()}


def test_a_place_that_changed_in_the_catalog_is_looked_at(project: Project) -> None:
    project.run("one")
    project.suffix = ".text"
    with_suffix = project.folder / "data" / "fit_1.text"
    assert set(project.run("one")) == {"index", "weights", "use", "fit 1", "fit 2", "one", "page"}
    assert with_suffix.exists()
    project.photo("a").write_text("CONTENT OF A")
    project.accepted = Accepted(changed=("parts",))
    assert "fit 1" in project.run("one")
    project.suffix, project.accepted = ".txt", Accepted()
    assert "fit 1" in project.run("one"), "the older results are where they were, and are not current"


def test_titles_and_places_change_nothing(project: Project) -> None:
    project.run("one")
    moved = project.folder / "moved"
    project.photos.rename(moved)
    project.settings |= {"title": "Other parts", "root": str(moved)}
    assert project.run("one") == []


def test_a_source_that_changes_while_it_is_read_fails_its_node(tmp_path: Path) -> None:
    project = Project(tmp_path)
    weights = project.photos / "weights.pt"

    def meddled(settings: dict[str, str]) -> str:
        text = weights.read_text()
        weights.write_text(text + "!")
        return text

    traces = {"type": "shopfloor.catalog.traces.TracesDataset", "path": str(tmp_path / "data" / ".traces")}
    out = {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(tmp_path / "data" / "w.txt")}
    catalog = DataCatalog.from_config({"w": out, "traces": traces})
    catalog["params:parts"] = MemoryDataset(project.settings)
    pipeline = Pipeline([Node(reads(list_weights)(meddled), "params:parts", "w", name="w")])
    with pytest.raises(FailedNodesError, match="was changed while it was read"):
        LocalRunner().run(pipeline, catalog, _create_hook_manager())
    assert issubclass(SourceChangedError, Exception)


def test_a_narrower_grid_of_one_experiment_leaves_the_other_on_the_page(project: Project) -> None:
    project.seeds = {"one": [1], "two": [2]}
    assert project.run("one") == ["one", "page"]
    assert "two: " in project.page() and "<" not in project.page(), "made by another grid, and still what it says"


def test_an_accepted_name_that_is_no_dataset_is_refused(project: Project) -> None:
    project.accepted = Accepted(changed=("part",))
    with pytest.raises(Exception, match="accept_changed: 'part' is no dataset of this grid. Its datasets: parts"):
        project.run("one")


def test_reading_writes_nothing(project: Project) -> None:
    from shopfloor.runners.freshness import Freshness

    data = project.folder / "data"
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for path in project.photos.iterdir():
        os.utime(path)
    pipeline = project.pipelines()["one"]
    catalog = DataCatalog.from_config(
        {"traces": {"type": "shopfloor.catalog.traces.TracesDataset", "path": str(data / ".traces")}}
    )
    catalog["params:parts"] = MemoryDataset(project.settings)
    freshness = Freshness(pipeline.nodes, pipeline.nodes, catalog)
    assert all(freshness.of(node).is_current for node in pipeline.nodes if node.name != "page")
    assert catalog.load("traces")["dataset"].is_unique
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
