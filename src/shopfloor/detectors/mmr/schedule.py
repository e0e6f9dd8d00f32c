"""Learning rate of MMR over the epochs."""

from __future__ import annotations

_EPOCHS = 200  # length of the official training, of which the following are positions
_WARM_UP = 50
_DROPS = (119, 159)
_SHORTEST_WARM_UP = 2


def learning_rate_factor(epoch: int, max_epochs: int) -> float:
    """What the learning rate is multiplied with in one epoch (specification of MMR, section 5).

    A linear warm-up over the first quarter, in whose first epoch the rate is 0, then 1, from epoch 119 on 0.1 and from
    epoch 159 on 0.01. A training of another length than 200 epochs has warm-up and drops at the same parts of its
    length. A warm-up of less than two epochs would be nothing but an epoch at rate 0, and is left out.

    Args:
        epoch: Epoch, from 0.
        max_epochs: Length of the training in epochs, above 0.

    Returns:
        Factor from 0 to 1.
    """
    position = epoch * _EPOCHS
    if position < _WARM_UP * max_epochs and _WARM_UP * max_epochs >= _SHORTEST_WARM_UP * _EPOCHS:
        return position / (_WARM_UP * max_epochs)
    return 0.1 ** sum(position >= drop * max_epochs for drop in _DROPS)
