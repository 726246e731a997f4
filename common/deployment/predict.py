"""The work of `common.predict`: a stream of images in; a table, pictures and label maps out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from common import overlay, rle, runs
from common import thresholds as thresholds_module
from common.dataset import drift
from common.dataset.images import any_large, find_images, refuse_doubles
from common.dataset.stream import ahead
from common.deployment.findings import Findings
from common.deployment.submission import submission
from common.deployment.trained import Photo, network_says
from common.devices import pick_device
from common.errors import UserError
from common.files import publish, spare
from common.inference import Segmenter, decide_bands
from common.labels import tables_beside
from common.machine import cores
from common.pixels import read_image
from common.progress import tqdm
from common.resize import resize_image
from common.tables import can_stand
from common.thresholds import RULES, Thresholds, keep

if TYPE_CHECKING:
    from common.predict import Config

FLIPS = ((), (2,), (3,), (2, 3))  # dimensions of (N, C, H, W) that are mirrored


@dataclass(frozen=True)
class Named(Photo):
    """A photo from a file; statistics: the figures that drift is judged by."""

    path: Path
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
            read = ahead(partial(_read, size=record.size, bits=record.bits), paths, pool, depth)
            photos = _without_errors(read, unread, bar)
            flips = FLIPS if config.flip_tta else ((),)
            segmented = (
                (photo, *decide_bands(logits, photo.image.shape, thresholds))
                for photo, logits in network_says(segmenter, photos, batch_size, flips)
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


def _check_folders(config: Config, paths: Sequence[Path]) -> None:
    """Raises UserError where a picture would replace an image or another picture."""
    folders = [folder.resolve() for folder in (config.overlays, config.masks) if folder]
    if folders:
        refuse_doubles([path.stem for path in paths])
    if len(set(folders)) < len(folders):
        raise UserError("--overlays and --masks must be different folders.")
    for folder in {path.resolve().parent for path in paths} & set(folders):
        raise UserError(f"{folder} holds images to segment: they would be overwritten.")


def _read(path: Path, size: tuple[int, int], bits: int) -> Named | UserError:
    if not can_stand(path.name):
        return UserError(f"{path.name!a}: no table can hold this name; rename it.")
    try:
        image = read_image(path, bits)
    except UserError as error:
        return error
    resized = resize_image(image, size)
    return Named(image, resized, path, drift.statistics(resized))


def _without_errors(
    results: Iterable[Named | UserError], errors: list[UserError], bar: tqdm
) -> Iterator[Named]:
    for result in results:
        if isinstance(result, Named):
            yield result
        else:
            errors.append(result)
            tqdm.write(f"left out: {result}", file=sys.stderr)
            bar.update()


def _finish(
    segmented: tuple[Named, np.ndarray, np.ndarray | None],
    thresholds: Thresholds | None,
    config: Config,
) -> tuple[Named, np.ndarray, dict[int, str]]:
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
        rules = (getattr(thresholds, name) for name in RULES)
        listed = ", ".join(
            f"class {title}: {probability:g}, {max(peak, probability):g}, {area} px and {total} px"
            for title, probability, peak, area, total in zip(titles, *rules, strict=True)
        )
        return (
            f"decided by its thresholds.json (aim: {thresholds.aim}), least probability, peak, "
            f"area and total: {listed}"
        )
    reason = "the run has no thresholds.json" if config.thresholds else "--no-thresholds"
    return f"decided by the most probable class of a pixel ({reason})"
