"""The experiments, one module each (protocol 4)."""

from shopfloor.experiments import data_drift, input_size, model_evaluation, noisy_labels, supervised, validation
from shopfloor.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        model_evaluation,
        input_size,
        data_drift,
        noisy_labels,
        supervised,
        validation,
    )
}
"""By name, in the order of the protocol. A new experiment is one module and one line here."""
