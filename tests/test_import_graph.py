"""Imports of the package, read from its source: no circles, and arrows point down one list of packages only."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import NamedTuple

import pytest

from tests.conftest import PROJECT

SOURCE = PROJECT / "src"
#: From the top down: a module uses its own package and those below it.
LAYERS = (
    {"__main__", "cli", "config", "hooks", "pipeline_registry", "session", "settings"},
    {"pipelines"},
    {"experiments"},
    {"report"},
    {"detectors"},
    {"runners"},
    {"planning"},
    {"catalog"},
    {"perturbations"},
    {"readers"},
    {"metrics"},
    {"synthetic_parts"},
    {"entries"},
)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
#: Usable without the rest of the house.
ALONE = {"metrics", "readers"}
#: Arrows that point up, and why each is there.
UPWARD = {("shopfloor.pipelines.reporting.nodes", "shopfloor"): "the version, which is all that stands there"}
#: Imports inside functions of `readers`, and why.
LATE_IN_READERS = {
    ("shopfloor.readers.measure", "shopfloor.readers.pixels"): "planning imports readers, and neither NumPy nor Pillow",
}


class Import(NamedTuple):
    """One module that imports another: when it is loaded, for types only, or when a function is called."""

    importer: str
    imported: str
    when: str


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted((SOURCE / "shopfloor").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


TREES = modules()


def imports_below(importer: str, node: ast.AST, when: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, f"{importer} imports by a relative name"
            inside = [f"{child.module}.{alias.name}" for alias in child.names]
            names = [name if name in TREES else str(child.module) for name in inside]
        else:
            names = []
        yield from (Import(importer, name, when) for name in names if name.split(".")[0] == "shopfloor")
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_below(importer, child, "call")
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from imports_below(importer, child, "types")
        else:
            yield from imports_below(importer, child, when)


IMPORTS = [found for name, tree in TREES.items() for found in imports_below(name, tree, "load")]


def part(module: str) -> str:
    """Package or top module: ``shopfloor.readers.types`` gives ``readers``."""
    return (module.split(".") + ["__main__"])[1]


def check_no_circle(imports: list[Import]) -> None:
    graph = defaultdict(set)
    for found in imports:
        graph[found.importer].add(found.imported)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_every_import_is_found() -> None:
    assert {found.when for found in IMPORTS} == {"load", "types", "call"}
    assert {part(name) for name in TREES} == set(LAYER_OF), "every package has its place in the list"
    assert Import("shopfloor.readers.checks", "shopfloor.readers.types", "load") in IMPORTS


def test_no_circle_when_modules_are_loaded() -> None:
    check_no_circle([found for found in IMPORTS if found.when == "load"])


@pytest.mark.parametrize("package", sorted(ALONE))
def test_no_circle_at_all_in_what_stands_alone(package: str) -> None:
    inside = [found for found in IMPORTS if part(found.importer) == package]
    assert {part(found.imported) for found in inside} == {package}
    check_no_circle(inside)


def test_readers_import_at_their_head() -> None:
    late = {found[:2] for found in IMPORTS if part(found.importer) == "readers" and found.when == "call"}
    assert late == set(LATE_IN_READERS)


def test_arrows_point_down() -> None:
    def points_up(found: Import) -> bool:
        above, below = part(found.importer), part(found.imported)
        layers = LAYER_OF[above], LAYER_OF[below]
        return above != below and (layers[0] > layers[1] or layers[0] == layers[1] > 0)

    upward = {found[:2] for found in IMPORTS if points_up(found)}
    assert upward == set(UPWARD)
