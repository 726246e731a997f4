"""Batches of strips resized to 128x800."""

from common.dataset.augment import Augmentation
from common.dataset.loader import Loader, build_loaders

AUGMENTATION = Augmentation()


def build_dataloaders(config) -> tuple[Loader, Loader, Loader]:
    """Loaders of the train, val and test part of `config.data`, in this order."""
    return build_loaders(config, AUGMENTATION)
