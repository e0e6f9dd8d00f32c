"""Project settings, read by Kedro."""

import warnings

from shopfloor.config import ProjectConfigLoader
from shopfloor.hooks import DatasetSummaryHooks, ReportPathHooks, TextureHooks
from shopfloor.session import ShopfloorSession

# Dataset names hold dots by design ("<stage>.<cell>.<what>"); Kedro warns about each pair of stages they cross.
warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
# Lightning remarks on what is meant to be so: no validation loop, no optimiser, frozen backbones, no loader processes.
warnings.filterwarnings("ignore", module="lightning")
warnings.filterwarnings("ignore", category=FutureWarning, module="timm|anomalib")
warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
# It points to a parameter of the runner, which has no effect either.
warnings.filterwarnings("ignore", message="Option '--async' is deprecated")

CONFIG_LOADER_CLASS = ProjectConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment may override one key of a nested block without repeating the rest.
    "merge_strategy": {"parameters": "soft"},
}
SESSION_CLASS = ShopfloorSession
HOOKS = (TextureHooks(), DatasetSummaryHooks(), ReportPathHooks())
# kedro-viz's run hook warns on every partial run; `kedro viz` works without it.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)
