"""From metrics to tables, figures and the report."""

from shopfloor.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
