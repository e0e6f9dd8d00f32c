from kedro.pipeline import Pipeline
def create_pipeline(experiments): return Pipeline([])
