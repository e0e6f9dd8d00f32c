"""Settings of a grid: what the entries of the parameter files may hold, and the files read into them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from typing_extensions import TypedDict  # pydantic needs it below Python 3.12

from shopfloor.entries import (
    AnyNumber,
    AtLeastOne,
    Expected,
    Folder,
    Keys,
    Known,
    Listed,
    Name,
    Names,
    Number,
    OneOf,
    OrNone,
    Seed,
    Settings,
    Text,
    WholeNumber,
    refusal,
)
from shopfloor.planning.reading import Entries, Model, read_settings
from shopfloor.planning.report_settings import BootstrapSettings, DriftAlarmSettings, PaperTablesSettings
from shopfloor.readers import DEFAULT_READER

ForegroundMethod = Literal["none", "folder", "automatic", "mobile_sam"]
#: How a detector is told where the part is: not at all, by masks of the user, by segmenting the training images.
FOREGROUND_METHODS: tuple[ForegroundMethod, ...] = get_args(ForegroundMethod)
#: What a pretrained network can be to a detector: keys of its entry, and arguments of its class.
NETWORK_ROLES = ("backbone", "encoder")
LearningType = Literal["one_class", "unsupervised", "supervised"]

_Method = Annotated[ForegroundMethod, OneOf(*FOREGROUND_METHODS)]
_EntryName = Annotated[str, Expected("the name of an entry")]


class ExperimentSettings(Settings):
    """What every experiment is told.

    Attributes:
        title: Title of its report.
        demo_note: Remark on the size of the demo, shown in the report.
        datasets: Names of datasets, or ``dataset/category``.
        detectors: Names of detectors.
        image_sizes: Sides of the square model input, in pixels.
        seeds: Seeds of trainings and draws.
    """

    title: Text | None = None
    demo_note: Text | None = None
    datasets: Names
    detectors: Names
    image_sizes: Annotated[tuple[WholeNumber, ...], AtLeastOne]
    seeds: Annotated[tuple[Seed, ...], AtLeastOne]


class CountsSettings(Settings):
    """How many images of each kind are rendered or drawn."""

    train_good: Seed | None = None
    train_bad: Seed | None = None
    test_good: Seed | None = None
    test_bad: Seed | None = None


class GeneratorSettings(Settings):
    """How Shopfloor renders a dataset of its own.

    Attributes:
        seed: Seed of the whole dataset.
        size: Side of the images, in pixels.
        counts: Numbers of images.
    """

    seed: Seed | None = None
    size: WholeNumber | None = None
    counts: CountsSettings = CountsSettings()


class DatasetSettings(Settings):
    """A dataset.

    Attributes:
        reader: Name of its reader, or the dotted path of a module.
        root: Its folder.
        categories: Names of its categories; none lets them be found in the folder.
        options: What only its reader is told.
        generator: How it is rendered; None for one that lies in its folder.
        title: Its name in reports.
        licence: Its licence.
        source: Who made it.
        project_page: Where it can be had.
        measured_apart: Types of anomalies that are measured apart and averaged (protocol 3.1).
        foreground_folder: Folder of the user's masks of the part.
    """

    expected: ClassVar[str] = "keys and values (e.g. root: /path/to/folder)"

    reader: Text = DEFAULT_READER
    root: Folder | None = None
    categories: Annotated[
        tuple[Annotated[str, Expected("a text", "{found} is not a text. Put names in quotes, e.g. '01'.")], ...],
        AnyNumber,
    ] = ()
    options: Keys = {}
    generator: GeneratorSettings | None = None
    title: Text | None = None
    licence: Text | None = None
    source: Text | None = None
    project_page: Text | None = None
    measured_apart: Annotated[tuple[Name, ...], AnyNumber] = ()
    foreground_folder: Folder | None = None


class BackboneSettings(Settings):
    """A pretrained network.

    Attributes:
        weights: ``hub``, ``random``, ``{file: path}`` or ``{package: module}``.
        mean: Mean per channel of the input normalisation, of values in [0, 1].
        std: Standard deviation per channel.
    """

    weights: Any = None
    mean: Annotated[tuple[Number, ...], AnyNumber] | None = None
    std: Annotated[tuple[Number, ...], AnyNumber] | None = None


class TextureGeneratorSettings(Settings):
    """How texture images are rendered.

    Attributes:
        seed: Seed of all of them.
        count: How many.
    """

    expected: ClassVar[str] = "seed and count"

    seed: Seed
    count: WholeNumber


class TextureSettings(Settings):
    """Texture images, of which some detectors make defects.

    Attributes:
        folder: Their folder.
        generator: How they are rendered, in the place of a folder.
        title: Their name in reports.
        licence: Their licence.
        source: Who made them.
    """

    folder: Folder | None = None
    generator: TextureGeneratorSettings | None = None
    title: Text | None = None
    licence: Text | None = None
    source: Text | None = None


class ForegroundSettings(Settings):
    """How the part is told from the background.

    Attributes:
        mobile_sam: File of MobileSAM's weights.
    """

    mobile_sam: Annotated[str, Expected("the path of a file")] | None = None


class BalanceSettings(Settings):
    """How many images of each label a training batch holds.

    Attributes:
        good: Good images per batch.
        bad: Bad images per batch.
        batches: Batches per epoch.
    """

    expected: ClassVar[str] = "good, bad and batches"

    good: WholeNumber
    bad: WholeNumber
    batches: WholeNumber


class InitArgs(TypedDict, total=False):
    """Arguments of a detector's class, of which a few are known here.

    Attributes:
        coreset_sampling_ratio: Share of the training patches that PatchCore keeps.
    """

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]  # read by pydantic

    coreset_sampling_ratio: Annotated[int | float, Field(gt=0, le=1), Expected("a number above 0, 1 at most")]


class TrainerArguments(TypedDict, total=False):
    """Arguments of Lightning's Trainer, of which a few are known here.

    Attributes:
        accelerator: What it trains on; without it a GPU where there is one. Whether it is there is seen where the
            training runs (:mod:`shopfloor.runners.accelerators`).
        devices: 1, or a list with the number of one. For every further one Lightning would start the whole run again.
    """

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]  # read by pydantic

    accelerator: Text
    devices: Annotated[
        Annotated[int, Field(ge=1, le=1)] | Annotated[list[Seed], Field(min_length=1, max_length=1)],
        Expected("1, or the number of one device in a list (a training runs on one)"),
    ]


def _methods(value: Any) -> Any:
    if not isinstance(value, Mapping | None):
        raise refusal(f"expected datasets with a method below them, found {value!r}.")
    return value or {}


class DetectorSettings(Settings):
    """A detector.

    Attributes:
        class_path: Full name of its class, an anomalib-style Lightning module.
        init_args: Arguments of the class.
        backbone: Name of the pretrained network that the class takes under this name.
        encoder: Likewise.
        networks: Names of pretrained networks that the class asks for by itself.
        textures: Name of the texture images that it makes defects of.
        crop_textures: Whether these keep their aspect ratio and are cropped to a square; otherwise they are squeezed.
        foreground: How it is told where the part is.
        foreground_of: Likewise, for some datasets.
        learning_type: What it learns from: good images, images that may be bad, labelled images.
        gives_maps: Whether it gives anomaly maps.
        batch_size: Images per batch.
        balance: How many of them are good and bad; None takes every image once per epoch.
        trainer: Arguments of Lightning's Trainer.
        size_multiple: The side of the input must be a multiple of this, in pixels.
        num_workers: Processes that read images ahead.
        version: Raised when the user's own class changes what it computes.
    """

    class_path: Annotated[str, Expected("the full name of the detector's class, e.g. anomalib.models.Padim")]
    init_args: Annotated[Mapping[str, Any], Known(InitArgs), OrNone] = {}
    backbone: _EntryName | None = None
    encoder: _EntryName | None = None
    networks: Annotated[tuple[str, ...], Listed, Expected("a list of names")] = ()
    textures: _EntryName | None = None
    crop_textures: bool = False
    foreground: _Method = "none"
    foreground_of: Annotated[Mapping[str, _Method], BeforeValidator(_methods)] = {}
    learning_type: Annotated[LearningType, OneOf(*get_args(LearningType))]
    gives_maps: bool = True
    batch_size: WholeNumber
    balance: BalanceSettings | None = None
    trainer: Annotated[Mapping[str, Any], Known(TrainerArguments), OrNone, Field(validate_default=True)] = {}
    size_multiple: WholeNumber = 1
    num_workers: Seed = 0
    version: Any = None

    @field_validator("balance")
    @classmethod
    def _adds_up(cls, balance: BalanceSettings | None, info: ValidationInfo) -> BalanceSettings | None:
        size = info.data.get("batch_size")
        if balance is not None and size is not None and balance.good + balance.bad != size:
            raise refusal(f"good and bad do not add up to batch_size, {size}.")
        return balance

    @field_validator("trainer")
    @classmethod
    def _ends(cls, trainer: Mapping[str, Any]) -> Mapping[str, Any]:
        if trainer.get("max_epochs") is None and trainer.get("max_steps") is None:
            raise refusal("say max_epochs or max_steps; Lightning would train for 1,000 epochs.")
        return trainer

    @property
    def named_networks(self) -> dict[str, str]:
        """Names of the pretrained networks that are arguments of the class, by that argument."""
        return {role: name for role in NETWORK_ROLES if (name := getattr(self, role))}


def _names_to_keep(value: Any) -> Any:
    """``--params`` has no lists, so one text names several with + between them."""
    if value is None or not str(value).strip():
        raise refusal("no name is given. Name one, or several with + between them, or leave it out.")
    return tuple(str(name).strip() for name in (value if isinstance(value, list) else str(value).split("+")))


class Only(Settings):
    """What narrows every experiment.

    Attributes:
        datasets: Names of datasets, or ``dataset/category``; none for all.
        detectors: Names of detectors; none for all.
    """

    datasets: Annotated[tuple[str, ...], BeforeValidator(_names_to_keep)] = ()
    detectors: Annotated[tuple[str, ...], BeforeValidator(_names_to_keep)] = ()


class DataPrepSettings(Settings):
    """What is checked beyond the experiments.

    Attributes:
        datasets: Names of datasets, or ``dataset/category``.
    """

    datasets: Annotated[tuple[Name, ...], AnyNumber] = ()


class ProjectSettings:
    """What all experiments share.

    Attributes:
        datasets: The project's datasets.
        own_data: The user's own.
        detectors: The detectors.
        backbones: The pretrained networks.
        textures: The texture images.
        only: What narrows every experiment.

    Args:
        parameters: All parameters of the environment.

    Raises:
        GridError: A block holds no entries, or one whose name cannot be part of a path.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self.datasets = self._entries("datasets", DatasetSettings)
        self.own_data = self._entries("own_data", DatasetSettings)
        self.detectors = self._entries("detectors", DetectorSettings)
        self.backbones = self._entries("backbones", BackboneSettings)
        self.textures = self._entries("textures", TextureSettings)
        self.only = self._block("only", Only)

    def _entries(self, block: str, model: type[Model]) -> Entries[Model]:
        return Entries(block, model, self._parameters.get(block))

    def _block(self, name: str, model: type[Model]) -> Model:
        return read_settings(model, name, self._parameters.get(name))

    @cached_property
    def foreground(self) -> ForegroundSettings:
        """How the part is told from the background."""
        return self._block("foreground", ForegroundSettings)

    @cached_property
    def data_prep(self) -> DataPrepSettings:
        """What is checked beyond the experiments."""
        return self._block("data_prep", DataPrepSettings)

    @cached_property
    def bootstrap(self) -> BootstrapSettings:
        """Intervals over test images."""
        return self._block("bootstrap", BootstrapSettings)

    @cached_property
    def drift_alarm(self) -> DriftAlarmSettings:
        """How well scores tell drift."""
        return self._block("drift_alarm", DriftAlarmSettings)

    @cached_property
    def paper_tables(self) -> PaperTablesSettings:
        """The paper's tables."""
        return self._block("paper_tables", PaperTablesSettings)
