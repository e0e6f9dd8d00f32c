"""Parts as anomalib's Engine takes them."""

from __future__ import annotations

from torch.utils.data import DataLoader

from shopfloor.detectors.datamodule import PartDataModule


class ValidatedParts(PartDataModule):
    """What anomalib's own data modules are like: with a name, and with images to validate and to test on."""

    name = category = "parts"

    def val_dataloader(self) -> DataLoader:
        """The images in their order, with labels."""
        return self.labelled_dataloader()

    test_dataloader = val_dataloader
