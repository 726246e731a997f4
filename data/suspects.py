"""What is worth a look in a data set: legal, read without a word, and most likely not meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common import overlay
from common.labels import Labels
from data.image_files import passed_over
from data.mask_fit import UPRIGHT
from data.twins import Twins

if TYPE_CHECKING:
    from data.check import Look

SHOWN, DRAWN = 3, 100  # examples named, pictures drawn
CELL = 32767  # characters that a spreadsheet keeps of a cell
ENOUGH = 20  # images from which edges tell of a whole set
FEW, CLEARLY = 0.2, 1.3  # share of images that fit better turned; how much better one must
USED_BITS = 14  # cameras have 10, 12 or 14


@dataclass(frozen=True)
class Suspicion:
    """what: a phrase. names: the files that it was seen in, the worst first."""

    what: str
    names: Sequence[str] = ()

    def __str__(self) -> str:
        if not self.names:
            return self.what
        more = ", ..." if len(self.names) > SHOWN else ""
        return f"{self.what}: {len(self.names)}, such as {', '.join(self.names[:SHOWN])}{more}"


def find(found: Labels, looks: Sequence[Look], twins: Sequence[Twins]) -> list[Suspicion]:
    """Everything worth a look, what concerns all masks first."""
    return [
        *_masks(found, looks),
        *_edges(looks),
        *_pictures(looks),
        *_classes(found, looks),
        *_twins(found, twins),
        *(Suspicion(what, names) for what, names in passed_over(found.image_dir)),
    ]


def _masks(found: Labels, looks: Sequence[Look]) -> Iterable[Suspicion]:
    if looks and not found.rles:
        yield Suspicion("no image has a defect: train.csv holds no mask")
    fits = {look.name: look.fit for look in looks if look.fit}
    shapes = {look.name: look.shape for look in looks}
    rows = [name for name, fit in fits.items() if fit.height == shapes[name][1]]
    if rows:
        yield Suspicion(
            "masks that hold together only when read along the rows (row-major run lengths, or "
            "images turned after labelling)",
            rows,
        )
    resized = [name for name, fit in fits.items() if fit.height and name not in rows]
    if resized:
        heights = Counter(fits[name].height for name in resized)
        yield Suspicion(
            f"masks that seem drawn on images of another height ({heights.most_common(1)[0][0]} "
            "pixels), resized after labelling",
            resized,
        )
    whole = {name: fit for name, fit in fits.items() if not fit.height}
    first, last = (sum(getattr(fit, k) for fit in whole.values()) for k in ("first", "last"))
    if last >= 5 and last > first:
        yield Suspicion(
            f"run lengths that may count from 0 instead of 1 ({last} runs begin in the last row "
            f"and go on in the next column, {first} begin in the first row)",
            sorted((n for n in whole if whole[n].last), key=lambda n: -whole[n].last),
        )
    cut = [
        n for n, own in found.rles.items() for text in own.values() if CELL - 1 <= len(text) <= CELL
    ]
    if cut:
        yield Suspicion(f"masks cut at {CELL:,} characters, where a spreadsheet cuts", cut)


def _edges(looks: Sequence[Look]) -> Iterable[Suspicion]:
    """Masks that follow the edges better when they are turned.

    Steel has few edges, so a single image tells nothing unless nearly all others are plain.
    """
    edges = {k.name: k.fit.edges for k in looks if k.fit and k.fit.edges and not k.fit.height}
    if len(edges) < ENOUGH:
        return
    better: dict[str, dict[str, float]] = {}  # way -> image -> by which factor it fits better
    for name, own in edges.items():
        for way, value in own.items():
            if value > own[UPRIGHT]:
                better.setdefault(way, {})[name] = value / max(own[UPRIGHT], 1e-6)
    if not better:
        return
    way, wins = max(better.items(), key=lambda item: len(item[1]))
    if len(wins) > len(edges) / 2 + 1.5 * len(edges) ** 0.5:  # three deviations of a fair coin
        names = sorted(wins, key=wins.get, reverse=True)
        yield Suspicion(f"masks that fit their images' edges better {way}", names)
    elif len(wins) <= FEW * len(edges):
        gains = {name: max(own.values()) / max(own[UPRIGHT], 1e-6) for name, own in edges.items()}
        names = [n for n in sorted(gains, key=gains.get, reverse=True) if gains[n] >= CLEARLY]
        if names:
            yield Suspicion("masks that fit their images' edges better mirrored or turned", names)


def _pictures(looks: Sequence[Look]) -> Iterable[Suspicion]:
    kinds = {
        "images damaged inside, as the JPEG decoder warns": lambda f: f.damage,
        "images that EXIF turns; programs that do not look there lay masks otherwise": (
            lambda f: f.orientation != 1
        ),
        "16-bit TIFF files with white as 0, read inverted": lambda f: f.inverted,
    }
    for what, is_so in kinds.items():
        if names := [look.name for look in looks if is_so(look.facts)]:
            yield Suspicion(what, names)
    deep = {look.name: look.facts.bits for look in looks if look.facts.bits is not None}
    if deep and (bits := max(deep.values())) <= USED_BITS:
        yield Suspicion(
            f"16-bit images of which none uses more than {bits} bits; they are read as such, and "
            "brighter ones are refused later",
            list(deep),
        )


def _classes(found: Labels, looks: Sequence[Look]) -> Iterable[Suspicion]:
    """A class of hardly any mask that stands far above the others: 11 typed for 1."""
    names: dict[int, list[str]] = {}
    for look in looks:
        for defect_class in look.areas:
            names.setdefault(defect_class, []).append(look.name)
    total = sum(map(len, names.values()))
    for k in sorted(names):
        alone = k > 3 and not {k - 1, k - 2} & {*names, *found.class_names}
        if alone and k not in found.class_names and len(names[k]) <= max(1, 0.01 * total):
            yield Suspicion(f"class {k}, far from the others and hardly used (a slip?)", names[k])


def _twins(found: Labels, twins: Sequence[Twins]) -> Iterable[Suspicion]:
    apart = [
        name
        for pair in twins
        if pair.dice and bool(found.classes(pair.first)) != bool(found.classes(pair.second))
        for name in (pair.first, pair.second)
    ]
    if apart:
        yield Suspicion("images whose picture is there with masks and without", apart)


def draw(
    found: Labels, looks: Sequence[Look], suspicions: Sequence[Suspicion], folder: Path
) -> int:
    """Draws truth on up to DRAWN images into `folder`; returns how many.

    Suspects come first, then the images whose masks follow edges least. Images that cannot be read
    and those of which a mask does not fit are left out: they are problems. Raises OSError where
    the disk refuses.
    """
    sound = {k.name: k for k in looks if set(k.areas) == set(found.classes(k.name))}
    marked = [name for suspicion in suspicions for name in suspicion.names if name in sound]
    fits = {name: k.fit.edges[UPRIGHT] for name, k in sound.items() if k.fit and k.fit.edges}
    names = list(dict.fromkeys([*marked, *sorted(fits, key=fits.get)]))[:DRAWN]
    folder.mkdir(parents=True, exist_ok=True)
    for rank, name in enumerate(names, 1):
        image = found.read(name)
        picture = overlay.draw(image, found.label_map(name, image.shape))
        overlay.save(folder / f"{rank:03d}-{Path(name).stem}.png", picture)
    return len(names)
