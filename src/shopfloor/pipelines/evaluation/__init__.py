"""From checkpoints and test images to scores, maps and metrics."""

from shopfloor.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
