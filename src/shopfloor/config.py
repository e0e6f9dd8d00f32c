"""Configuration that the pipeline registry can see.

Pipelines are made from the parameters, so ``register_pipelines()`` needs the parameters of the session that asks for
them. The config loader is the one thing that every entry point of Kedro builds before (``kedro run``, ``catalog``,
``viz``, ``%load_ext kedro.ipython``); only ``kedro registry`` builds none, and follows the variable ``KEDRO_ENV``.
"""

from __future__ import annotations

import copy
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import click
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from shopfloor.planning.errors import unknown

logger = logging.getLogger(__name__)

LOCAL_ENV = "local"
#: What a machine's owner says in conf/local, whatever the environment: where data and weights lie.
LOCAL_BLOCKS = ("datasets", "own_data", "backbones", "textures", "foreground")

#: Keys that hold the path of a folder, by block.
_FOLDER_KEYS = {
    "datasets": ("root", "foreground_folder"),
    "own_data": ("root", "foreground_folder"),
    "textures": ("folder",),
}


class ConfigError(click.ClickException):
    """Configuration files that cannot be read or do not fit together."""


class ProjectConfigLoader(OmegaConfigLoader):
    """Config loader that reads the user's own folders from ``conf/local`` under every environment.

    Kedro's ``--env=paper`` takes the place of ``conf/local``. An environment chooses the size of the grid; where a
    dataset lies is a fact of the machine and must not be lost by choosing another grid.
    """

    latest: ClassVar[ProjectConfigLoader | None] = None
    _warned: ClassVar[set[str | None]] = set()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._parameters: dict[str, Any] | None = None
        super().__init__(*args, **kwargs)
        self._check_folders()
        ProjectConfigLoader.latest = self

    @property
    def _run_env(self) -> str:
        return str(self.env or self.default_run_env)

    def _check_folders(self) -> None:
        """Refuse an environment or a source without its folder."""
        if self._protocol != "file":  # an archive, or a place in the cloud
            return
        source = Path(self.conf_source)
        if not (source / self.base_env).is_dir():
            raise ConfigError(f"{source} is not the project's configuration: it has no folder {self.base_env}.")
        if not (source / self._run_env).is_dir():
            environments = [path.name for path in source.iterdir() if path.is_dir()]
            text = unknown("--env", self._run_env, environments)
            raise ConfigError(f"{text} An environment is a folder in {source}.")

    def __getitem__(self, key: str) -> Any:
        """Load as Kedro does; parameters once, as one run asks for them several times and reading them takes long."""
        if key != "parameters" or key in self:  # set on the loader, see OmegaConfigLoader
            return self._load(key)
        if self._parameters is None:
            self._parameters = self._load(key)
        return copy.deepcopy(self._parameters)

    def _load(self, key: str) -> Any:
        try:
            config = super().__getitem__(key)
            if key != "parameters":
                return config
            if self._run_env != LOCAL_ENV:
                merged: Any = OmegaConf.to_container(OmegaConf.merge(config, self._local_blocks()))
                config = merged
        except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(self._explain(key, error)) from error
        return self._with_absolute_roots(config)

    def _explain(self, key: str, error: Exception) -> str:
        """What is wrong with the files of the environment and of conf/local; OmegaConf names neither file nor key."""
        loaded: dict[str, Any] = {}
        for env in dict.fromkeys([self.base_env, self._run_env, LOCAL_ENV]):
            for path in sorted(Path(self.conf_source, env).rglob(f"{key}*.y*ml")):
                try:
                    OmegaConf.load(path)
                except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as unreadable:
                    return f"{path} cannot be read: {' '.join(str(unreadable).split())}"
            with suppress(OmegaConfBaseException, MissingConfigException):
                loaded[env] = OmegaConfigLoader(self.conf_source, base_env=env, default_run_env=env)[key]
        sources = [f"conf/{env}" for env in loaded] + (["--params"] if self.runtime_params else [])
        what = str(error).partition("\n")[0]
        text = f"The {key} files in {', '.join(sources)} cannot be read together: {what}"
        base = loaded.pop(self.base_env, {})
        found = "".join(
            f"\n  {path}: {one} in conf/{self.base_env}, {other} in conf/{env}"
            for env, config in loaded.items()
            for path, one, other in _clashes(base, config)
        )
        return text + found

    def _local_blocks(self) -> dict[str, Any]:
        local = OmegaConfigLoader(self.conf_source, base_env=LOCAL_ENV, default_run_env=LOCAL_ENV)
        try:
            parameters = local["parameters"]
        except MissingConfigException:
            return {}
        left_out = sorted(set(parameters) - set(LOCAL_BLOCKS))
        if left_out and self.env not in self._warned:
            self._warned.add(self.env)
            logger.warning(
                "conf/local: %s is not read with --env=%s, whose grid is its own; %s are.",
                ", ".join(left_out),
                self.env,
                ", ".join(LOCAL_BLOCKS),
            )
        return {key: parameters[key] for key in LOCAL_BLOCKS if parameters.get(key)}

    def _with_absolute_roots(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Folders are relative to the project, as in the catalog, wherever the command or notebook was started."""
        project = Path(self.conf_source).resolve().parent
        for block, keys in _FOLDER_KEYS.items():
            entries = parameters.get(block)
            for entry in entries.values() if isinstance(entries, dict) else ():  # what is wrong is said with the grid
                for key in keys if isinstance(entry, dict) else ():
                    if entry.get(key) and isinstance(entry[key], str):
                        entry[key] = str(project / Path(entry[key]).expanduser())
        return parameters


def _clashes(base: Any, other: Any, path: str = "") -> list[tuple[str, str, str]]:
    """Keys that hold a mapping on one side and something else on the other."""
    if isinstance(base, dict) and isinstance(other, dict):
        shared = [key for key in other if key in base]
        return [clash for key in shared for clash in _clashes(base[key], other[key], f"{path}.{key}".strip("."))]
    if isinstance(base, dict) == isinstance(other, dict) or other is None:
        return []
    one, two = ("a mapping" if isinstance(side, dict) else repr(side) for side in (base, other))
    return [(path, one, two)]


def project_parameters() -> dict[str, Any]:
    """Parameters of the session that is loading the pipelines."""
    loader = ProjectConfigLoader.latest
    if loader is None:  # bool(loader) is False for a loader without explicit entries
        from kedro.framework.project import settings

        root = find_kedro_project(Path.cwd()) or Path.cwd()
        loader = ProjectConfigLoader(
            str(root / settings.CONF_SOURCE), env=os.getenv("KEDRO_ENV"), **settings.CONFIG_LOADER_ARGS
        )
    return loader["parameters"]
