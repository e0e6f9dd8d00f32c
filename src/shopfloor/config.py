"""Configuration that the pipeline registry can see.

Pipelines are made from the parameters, so ``register_pipelines()`` needs the parameters of the session that asks for
them. The config loader is the one thing that every entry point of Kedro builds before (``kedro run``, ``catalog``,
``viz``, ``%load_ext kedro.ipython``); only ``kedro registry`` builds none, and follows the variable ``KEDRO_ENV``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf

LOCAL_ENV = "local"
#: What a machine's owner says in conf/local, whatever the environment: where data and weights lie.
LOCAL_BLOCKS = ("datasets", "own_data", "backbones")


class ProjectConfigLoader(OmegaConfigLoader):
    """Config loader that reads the user's own folders from ``conf/local`` under every environment.

    Kedro's ``--env=paper`` takes the place of ``conf/local``. An environment chooses the size of the grid; where a
    dataset lies is a fact of the machine and must not be lost by choosing another grid.
    """

    latest: ClassVar[ProjectConfigLoader | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ProjectConfigLoader.latest = self

    def __getitem__(self, key: str) -> Any:
        config = super().__getitem__(key)
        if key != "parameters":
            return config
        if (self.env or self.default_run_env) != LOCAL_ENV:
            merged: Any = OmegaConf.to_container(OmegaConf.merge(config, self._local_blocks()))
            config = merged
        return self._with_absolute_roots(config)

    def _local_blocks(self) -> dict[str, Any]:
        local = OmegaConfigLoader(self.conf_source, base_env=LOCAL_ENV, default_run_env=LOCAL_ENV)
        try:
            parameters = local["parameters"]
        except MissingConfigException:
            return {}
        return {key: parameters[key] for key in LOCAL_BLOCKS if parameters.get(key)}

    def _with_absolute_roots(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Folders are relative to the project, as in the catalog, wherever the command or notebook was started."""
        project = Path(self.conf_source).resolve().parent
        for block in ("datasets", "own_data"):
            for entry in (parameters.get(block) or {}).values():
                if isinstance(entry, dict) and entry.get("root"):
                    entry["root"] = str(project / Path(entry["root"]).expanduser())
        return parameters


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
