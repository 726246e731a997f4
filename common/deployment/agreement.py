"""Whether an exported file says what PyTorch says, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from common.dataset.stream import ahead, batches
from common.deployment.deploy import open_session
from common.inference import Segmenter
from common.machine import cores
from common.pixels import read_image
from common.progress import tqdm
from common.thresholds import Thresholds, decide

BATCH = 4


@dataclass(frozen=True)
class Agreement:
    """How a file's answers compare with PyTorch's.

    logit_difference: the largest difference of any logit, taken relative to the background's
    (softmax forgets their common offset).
    """

    images: int
    pixels: int
    differing: int
    logit_difference: float

    @property
    def share(self) -> float:
        return 1 - self.differing / self.pixels

    def __str__(self) -> str:
        return (
            f"on {self.images} images {self.share:.5%} of {self.pixels} pixels get the class "
            f"that PyTorch gives them ({self.differing} differ); largest logit difference "
            f"{self.logit_difference:.2g}"
        )


def check(
    model: bytes,
    segmenter: Segmenter,
    thresholds: Thresholds | None,
    paths: Sequence[Path],
) -> Agreement:
    """Compares a file's answers with those of `segmenter` on images of one size."""
    session = open_session(model)
    pixels = differing = 0
    logit_difference = 0.0
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=len(paths), desc="check", unit="image") as bar,
    ):
        images = ahead(partial(read_image, bits=segmenter.run.bits), paths, pool, 2 * BATCH)
        for batch in batches(images, BATCH):
            expected = segmenter.probabilities(batch)
            found, label_maps = session.run(
                ["probabilities", "label_map"], {"strips": np.stack(batch)}
            )
            pixels += label_maps.size
            differing += int((decide(expected, thresholds).numpy() != label_maps).sum())
            difference = _relative_logits(expected) - _relative_logits(torch.from_numpy(found))
            logit_difference = max(logit_difference, float(difference.abs().max()))
            bar.update(len(batch))
    return Agreement(len(paths), pixels, differing, logit_difference)


def _relative_logits(probabilities: torch.Tensor) -> torch.Tensor:
    """Logits less the background's, (N, K, H, W); exact down to probabilities of 1e-30."""
    logits = probabilities.clamp(min=1e-30).log()
    return logits[:, 1:] - logits[:, :1]
