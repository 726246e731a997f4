"""Segment new images with a trained run: Kaggle's CSV, overlays, label maps.

    python -m common.predict runs/A photographs --out submission.csv
    python -m common.predict runs/A 'line3/*.jpg' --overlays pictures --masks maps --report

Images of any sizes stream through: threads decode ahead of the network and write behind it, so a
million images need no more memory than a few batches. An image that cannot be read is reported
and left out; the others are finished, and the exit code is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
import tyro

from common import cli, overlay, rle, runs
from common import thresholds as thresholds_module
from common.dataset import drift
from common.dataset.images import any_large, find_images, refuse_doubles
from common.dataset.stream import ahead, batches
from common.deployment.findings import Findings
from common.deployment.submission import submission
from common.devices import pick_device
from common.errors import UserError
from common.files import publish, spare
from common.inference import Segmenter, decide_bands
from common.labels import read_image, tables_beside
from common.machine import cores
from common.progress import tqdm
from common.resize import resize_image
from common.thresholds import Thresholds, keep

FLIPS = ((), (2,), (3,), (2, 3))  # dimensions of (N, C, H, W) that are mirrored


@dataclass
class Config:
    """Segment images of any size with a trained run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders, image files, or glob patterns in quotes."""
    out: Path = Path("submission.csv")
    """The table of masks; its images go by their file names."""
    format: Literal["new", "old"] = "new"
    """new: ImageId,ClassId,EncodedPixels, a row a mask. old: a row for every image and class."""
    overlays: Path | None = None
    """Folder for pictures of the images with their masks drawn in."""
    masks: Path | None = None
    """Folder for label maps: grey PNG, 0 background, else the class."""
    flip_tta: bool = False
    """Average the network's answer over four mirror images: slower, often a little better."""
    report: bool = False
    """Print how many images, defects and pixels of each class were found."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto takes a GPU where there is one."""
    batch_size: int = 8
    """Images that go through the network together."""
    thresholds: bool = True
    """Decide by the run's thresholds.json where there is one, else by the most probable class."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class Photo:
    """An image to segment.

    image: (H, W) uint8 grey; resized: the same at the network's size, of which `statistics` are
    the figures that drift is judged by.
    """

    path: Path
    image: np.ndarray
    resized: np.ndarray
    statistics: np.ndarray


def predict(config: Config) -> int:
    """Runs the command; 0 where every image was segmented, 1 where some could not be read."""
    record = runs.load(config.run)
    paths = find_images(config.images)
    spare([*paths, *tables_beside(config.out), *record.path.iterdir()], config.out)
    _check_folders(config, paths)
    segmenter = Segmenter(record, pick_device(config.device))
    thresholds = (
        thresholds_module.load(record.path, record.num_classes - 1) if config.thresholds else None
    )
    rule = _rule(thresholds, config, record.class_titles)
    print(f"{len(paths)} images, {record.name} on {segmenter.device}; {rule}")

    findings, statistics, unread = Findings(), [], []
    try:
        for folder in filter(None, (config.out.parent, config.overlays, config.masks)):
            folder.mkdir(parents=True, exist_ok=True)
        with (
            submission(config.out, config.format, record.num_classes - 1) as add,
            ThreadPoolExecutor(cores()) as pool,
            tqdm(total=len(paths), unit="image") as bar,
        ):
            one_by_one = any_large(paths)
            batch_size, depth = (1, 0) if one_by_one else (config.batch_size, 2 * config.batch_size)
            read = ahead(partial(_read, size=record.size), paths, pool, depth)
            photos = _without_errors(read, unread, bar)
            segmented = segment(
                segmenter,
                photos,
                thresholds,
                batch_size,
                FLIPS if config.flip_tta else ((),),
            )
            finish = partial(_finish, thresholds=thresholds, config=config)
            for photo, label_map, masks in ahead(finish, segmented, pool, depth):
                add(photo.path.name, masks)
                findings.add(label_map)
                statistics.append(photo.statistics)
                bar.update()
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a batch of {config.batch_size} images does not fit the GPU. Lower --batch-size."
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or config.out}: {error.strerror or error}\n"
            f"{config.out} was not changed."
        ) from error
    print(f"{findings.images} images segmented, {findings.flagged} with defects: {config.out}")
    if config.report:
        print(findings.table(record.class_titles))
    known = record.data.get("drift")
    if known and (line := drift.warning(known, statistics)):
        print(f"warning: {line}", file=sys.stderr)
    if unread:
        print(f"{len(unread)} of {len(paths)} images were left out, see above", file=sys.stderr)
    return 1 if unread else 0


def segment(
    segmenter: Segmenter,
    photos: Iterable[Photo],
    thresholds: Thresholds | None,
    batch_size: int,
    flips: Sequence[tuple[int, ...]] = ((),),
) -> Iterator[tuple[Photo, np.ndarray, np.ndarray | None]]:
    """Each photo with what `decide_logits` draws at its own size: label map and probability.

    flips: mirror images whose logits are averaged, as dimensions of (N, C, H, W).
    """
    for batch in batches(photos, batch_size):
        pixels = segmenter.preprocess([photo.resized for photo in batch])
        logits = sum(segmenter.logits(pixels.flip(dims)).flip(dims) for dims in flips) / len(flips)
        for photo, own in zip(batch, logits.split(1), strict=True):
            yield photo, *decide_bands(own, photo.image.shape, thresholds)


def _check_folders(config: Config, paths: Sequence[Path]) -> None:
    """Raises UserError where a picture would replace an image or another picture."""
    folders = [folder.resolve() for folder in (config.overlays, config.masks) if folder]
    if folders:
        refuse_doubles([path.stem for path in paths])
    if len(set(folders)) < len(folders):
        raise UserError("--overlays and --masks must be different folders.")
    for folder in {path.resolve().parent for path in paths} & set(folders):
        raise UserError(f"{folder} holds images to segment: they would be overwritten.")


def _read(path: Path, size: tuple[int, int]) -> Photo | UserError:
    try:
        image = read_image(path)
    except UserError as error:
        return error
    resized = resize_image(image, size)
    return Photo(path, image, resized, drift.statistics(resized))


def _without_errors(
    results: Iterable[Photo | UserError], errors: list[UserError], bar: tqdm
) -> Iterator[Photo]:
    for result in results:
        if isinstance(result, Photo):
            yield result
        else:
            errors.append(result)
            tqdm.write(f"left out: {result}", file=sys.stderr)
            bar.update()


def _finish(
    segmented: tuple[Photo, np.ndarray, np.ndarray | None],
    thresholds: Thresholds | None,
    config: Config,
) -> tuple[Photo, np.ndarray, dict[int, str]]:
    """Drops the components that fall short, writes the image's pictures, encodes its masks."""
    photo, label_map, drawn = segmented
    label_map = keep(label_map, drawn, thresholds)
    name = f"{photo.path.stem}.png"
    if config.overlays:
        overlay.save(config.overlays / name, overlay.draw(photo.image, label_map))
    if config.masks:
        publish(config.masks / name, cv2.imencode(".png", label_map)[1].tobytes())
    return photo, label_map, rle.encode_classes(label_map)


def _rule(thresholds: Thresholds | None, config: Config, titles: Sequence[str]) -> str:
    if thresholds is not None:
        chosen = zip(titles, thresholds.probability, thresholds.peak, thresholds.area, strict=True)
        listed = ", ".join(
            f"class {title}: {probability:g}, {max(peak, probability):g} and {area} px"
            for title, probability, peak, area in chosen
        )
        return (
            f"decided by its thresholds.json (aim: {thresholds.aim}), least probability, peak and "
            f"area: {listed}"
        )
    reason = "the run has no thresholds.json" if config.thresholds else "--no-thresholds"
    return f"decided by the most probable class of a pixel ({reason})"


def main(argv: list[str] | None = None) -> int:
    """Segments; returns 0, 1 where some images could not be read, 2 where nothing could be done."""
    return cli.run(predict, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
