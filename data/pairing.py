"""Which label map belongs to which image, by their names."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError, refuse
from common.pixels import EXTENSIONS
from common.tables import same
from data.conversion import list_images

LOSSLESS = {".png", ".tif", ".tiff", ".bmp"}  # a GIF's writers number colours anew


def pair_up(
    images: Path, masks: Path, suffix: str = "", missing_is_clean: bool = False
) -> list[tuple[Path, Path | None]]:
    """Each image with its label map, in order of names; None for a clean one without a map.

    x.jpg goes with x.png or x.jpg.png, or another ending of LOSSLESS. suffix: how label maps end
    behind the image's name ("_mask"), with or without the ending ("_mask.png", ".jpg"). `images`
    and `masks` may be one folder. Raises UserError that lists images with no or several maps, maps
    without an image, and files that might be either.
    """
    paths = list_images(images)
    if not masks.is_dir():
        raise UserError(f"there is no folder {masks}.")
    maps = _maps(masks, suffix)
    problems = []
    if masks.samefile(images):
        drawn = {path.name for path in maps}
        paths = [path for path in paths if path.name not in drawn]
        if not suffix:  # x.jpg is the image of x.png
            photographed = {same(path.stem) for path in paths}
            either = [path for path in maps if same(path.stem) not in photographed]
            problems += [
                f"{path} may be an image or a label map: say how label maps end with --suffix, as "
                "in --suffix _mask.png"
                for path in either
            ]
            maps = [path for path in maps if same(path.stem) in photographed]
    stem_end = suffix.removesuffix(_ending(suffix))
    owners: dict[str, list[Path]] = {}  # by the image's name, with or without its ending
    for path in maps:
        owners.setdefault(same(path.stem.removesuffix(stem_end)), []).append(path)

    pairs, seen, missing = [], {}, []
    for path in paths:
        if (first := seen.setdefault(same(path.stem), path)) is not path:
            problems.append(f"{path} and {first.name} would share one label map")
            continue
        own = [m for name in (path.stem, path.name) for m in owners.pop(same(name), [])]
        if len(own) > 1:
            problems.append(f"{path} has several label maps: {', '.join(m.name for m in own)}")
        elif not own:
            missing.append(path)
        pairs.append((path, own[0] if own else None))
    unowned = [m.name for left in owners.values() for m in left]
    if missing and (not missing_is_clean or len(missing) == len(paths)):
        kind = _ending(suffix) or ".png"
        problems += [
            f"{path} has no label map {masks / path.stem}{stem_end}{kind} (clean: all zeros)"
            for path in missing
        ]
        problems[-1] += _hint(missing[0], masks)
    if unowned:
        problems.append(
            f"{masks} holds {len(unowned)} label maps without an image, such as "
            f"{', '.join(sorted(unowned)[:3])}: move them away, or name them as their images"
        )
    refuse(problems)
    return pairs


def _maps(folder: Path, suffix: str) -> list[Path]:
    ending = _ending(suffix)
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in ({ending.lower()} if ending else LOSSLESS)
        and path.stem.endswith(suffix.removesuffix(ending))
        and not path.name.startswith(".")
    )


def _ending(suffix: str) -> str:
    """The file ending in `--suffix`, empty where it has none."""
    ending = "." + suffix.rpartition(".")[2]
    return ending if suffix.endswith(ending) and ending.lower() in EXTENSIONS else ""


def _hint(image: Path, masks: Path) -> str:
    """What to do about a missing label map."""
    ends = sorted(
        path.name.removeprefix(image.stem)
        for path in masks.iterdir()
        if path.name.startswith(image.stem)
        and path.suffix.lower() in EXTENSIONS
        and not path.samefile(image)
    )
    for end in ends:
        if not end[0].isalnum():  # 10.png is nothing to 1.jpg
            return f".\nThere is {image.stem}{end}: --suffix {end}"
    return ".\nWhere images without a map are clean: --missing-is-clean"
