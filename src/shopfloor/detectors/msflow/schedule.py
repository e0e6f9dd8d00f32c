"""Learning rate of MSFlow over the epochs."""

from __future__ import annotations

_EPOCHS = 100  # length of the official training (25 meta-epochs of 4 sub-epochs), of which the following are positions
_WARM_UP = 12
_WARM_UP_START = 0.1
_DROPS = (70, 90)
_DROP_FACTOR = 0.33


def learning_rate_factor(epoch: int, max_epochs: int) -> float:
    """What the learning rate is multiplied with in one epoch (specification of MSFlow, section 5).

    Of 100 epochs the first twelve are a linear warm-up that begins at 0.1; from epoch 70 on the factor is 0.33, from
    epoch 90 on 0.33 squared. An epoch of a training of another length has the factor of the same part of that length.

    Args:
        epoch: Epoch, from 0.
        max_epochs: Length of the training in epochs, above 0.

    Returns:
        Factor above 0, at most 1.
    """
    position = epoch * _EPOCHS / max_epochs
    if position < _WARM_UP:
        return _WARM_UP_START + (1 - _WARM_UP_START) * position / _WARM_UP
    return _DROP_FACTOR ** sum(position >= drop for drop in _DROPS)
