"""What each training condition trains on and is tested on."""

from shopfloor.pipelines.perturbation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
