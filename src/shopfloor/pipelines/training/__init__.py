"""From training images to checkpoints."""

from shopfloor.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
