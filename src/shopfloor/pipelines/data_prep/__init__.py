"""From a folder of images to an index table and prepared images."""

from shopfloor.pipelines.data_prep.pipeline import create_pipeline

__all__ = ["create_pipeline"]
