"""The axes that every experiment has: dataset and category, detector, image size and seed, from its lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from shopfloor.planning.cell import CLEAN, Category, Cell
from shopfloor.planning.errors import GridError, joined
from shopfloor.planning.settings import (
    BackboneSettings,
    DatasetSettings,
    DetectorSettings,
    ExperimentSettings,
    ProjectSettings,
    TextureSettings,
)
from shopfloor.readers import DatasetError, list_categories

#: Stands for the categories of a dataset whose folder cannot be listed while the grid is planned.
UNKNOWN_CATEGORY = "unknown"


@dataclass(frozen=True)
class _Detector:
    """A detector with the entries that its own names."""

    name: str
    settings: DetectorSettings
    networks: Mapping[str, BackboneSettings]
    textures: TextureSettings | None


class Axes:
    """The axes that every experiment has.

    Args:
        project: What all experiments share.
        experiment: Name of the experiment.
    """

    def __init__(self, project: ProjectSettings, experiment: str) -> None:
        self._project = project
        self.experiment = experiment

    @property
    def known_datasets(self) -> frozenset[str]:
        """Names of the project's datasets and of the user's own."""
        return frozenset([*self._project.datasets, *self._project.own_data])

    def cells(self, settings: ExperimentSettings, datasets: Sequence[str] | None = None) -> Iterator[Cell]:
        """Make a clean cell for every category, detector, image size and seed, in this order.

        Args:
            settings: The experiment's own lists.
            datasets: Names of datasets, or ``dataset/category``, in the place of its own list; which alone the user's
                own data joins.

        Raises:
            GridError: A list names what is not there, or what does not go together.
        """
        detectors = [self._detector(name) for name in self._narrowed("detectors", settings.detectors)]
        own = self._own_data() if datasets is None else []
        wanted = self._narrowed("datasets", settings.datasets if datasets is None else datasets)
        for category, detector, size in product(self.categories_of([*wanted, *own]), detectors, settings.image_sizes):
            self._check_size(detector, size)
            first = Cell(
                category.dataset,
                category.category,
                category.dataset_params,
                category.dataset_settings,
                detector=detector.name,
                image_size=size,
                condition=CLEAN,
                seed=settings.seeds[0],
                detector_settings=detector.settings,
                network_settings=detector.networks,
                texture_settings=detector.textures,
            )
            for seed in settings.seeds:
                yield replace(first, seed=seed)

    def checked_categories(self, datasets: Sequence[str]) -> list[Category]:
        """Give the categories of some datasets, narrowed by ``only``; the user's own data does not join them."""
        return self.categories_of(self._narrowed("datasets", datasets))

    def categories_of(self, names: Iterable[str]) -> list[Category]:
        """Give the categories of some datasets, or those that are named as ``dataset/category``, each once.

        Raises:
            GridError: There is no such dataset or category.
        """
        found: dict[tuple[str, str], Category] = {}
        where = f"{self.experiment}.datasets"
        for name in names:
            dataset, _, category = name.partition("/")
            is_own = dataset in self._project.own_data
            block = "own_data" if is_own else "datasets"
            entry = (self._project.own_data if is_own else self._project.datasets).of(dataset, where)
            known = entry.categories or _listed_categories(dataset, entry)
            if category and category not in known:
                raise GridError(f"{where}: {dataset} has no category {category!r}. Categories: {joined(known)}.")
            for each in [category] if category else known:
                found[dataset, each] = Category(dataset, each, f"params:{block}.{dataset}", entry)
        return list(found.values())

    def _detector(self, name: str) -> _Detector:
        entry = self._project.detectors.of(name, f"{self.experiment}.detectors")
        where = f"detectors.{name}"
        if strangers := set(entry.foreground_of) - self.known_datasets:
            raise GridError(
                f"{where}.foreground_of: {joined(strangers)} is unknown. Known datasets: {joined(self.known_datasets)}."
            )
        named = [*entry.named_networks.items(), *(("networks", network) for network in entry.networks)]
        networks = {network: self._project.backbones.of(network, f"{where}.{key}") for key, network in named}
        textures = self._project.textures.of(entry.textures, f"{where}.textures") if entry.textures else None
        return _Detector(name, entry, networks, textures)

    def _check_size(self, detector: _Detector, size: int) -> None:
        multiple = detector.settings.size_multiple
        if size % multiple:
            raise GridError(
                f"{self.experiment}.image_sizes: {size} does not fit detector {detector.name}, "
                f"which needs a multiple of {multiple} (detectors.{detector.name}.size_multiple)."
            )

    def _own_data(self) -> list[str]:
        """The user's own data joins every experiment, unless ``only.datasets`` leaves it out."""
        own = self._project.own_data
        if both := set(own) & set(self._project.datasets):
            raise GridError(f"own_data: {joined(both)} is the name of a dataset of the project. Choose another name.")
        return self._narrowed("datasets", list(own))

    def _narrowed(self, what: str, names: Sequence[str]) -> list[str]:
        """Keep the names that ``only`` asks for; of a dataset, the categories that it asks for."""
        only: Sequence[str] = getattr(self._project.only, what)
        known = self.known_datasets if what == "datasets" else frozenset(self._project.detectors)
        if strangers := [name for name in only if name.partition("/")[0] not in known]:
            raise GridError(f"only.{what}: {joined(strangers)} is unknown. Known: {joined(known)}.")
        if not only:
            return list(names)
        kept = [name for name in names if name in only or name.partition("/")[0] in only]
        return kept + [name for name in only if "/" in name and name.partition("/")[0] in names]


def _listed_categories(dataset: str, entry: DatasetSettings) -> Sequence[str]:
    """Categories that are found in the folder of a dataset."""
    page = entry.project_page or ""
    try:
        return list(list_categories(entry.reader, entry.root, entry.options, dataset=dataset, project_page=page))
    except DatasetError:
        # Its own cells fail with the reason; other datasets run.
        return [UNKNOWN_CATEGORY]
