"""What the commands that convert annotations share: a new data set, whole or not at all."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.dataset.images import LARGE
from common.errors import UserError, refuse
from common.files import publish, refusals_said
from common.labels import COLUMNS, class_titles
from common.pixels import EXTENSIONS, is_image
from common.progress import in_threads, tqdm
from common.tables import as_csv, can_stand, same

_large = threading.Lock()

Item, Result = TypeVar("Item"), TypeVar("Result")


@dataclass(frozen=True)
class Annotation:
    """An image with its masks: class -> run-length encoding."""

    image: Path
    rles: dict[int, str]


def list_images(folder: Path, below: bool = False) -> list[Path]:
    """The images of a folder, and of those `below` it if asked for, in order of their names.

    Raises UserError where there are none.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}.")
    paths = sorted(filter(is_image, folder.rglob("*") if below else folder.iterdir()))
    if not paths:
        raise UserError(f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))}).")
    return paths


def check_target(out: Path, images: Sequence[Path]) -> None:
    """Raises UserError where `out` is there, and for names that no folder or table can hold."""
    if out.exists():
        raise UserError(f"{out} is there already; name a new folder with --out.")
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path in images:
        first = seen.get(same(path.name))
        seen[same(path.name)] = path
        if first == path:
            problems.append(f"{path} is listed twice")
        elif first:
            problems.append(f"{path} and {first} cannot lie in one folder: rename one of them")
        if not can_stand(path.name):
            problems.append(f"{path.name!a} cannot stand in a table: rename the image")
        if path.suffix.lower() not in EXTENSIONS:
            problems.append(f"{path} has none of the endings {', '.join(sorted(EXTENSIONS))}")
    refuse(problems)


def gather(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` done on each item, by threads, in order.

    Raises UserError that names all items on which `work` raised one.
    """
    results, problems = [], []

    def attempt(item: Item) -> Result | UserError:
        try:
            return work(item)
        except UserError as error:
            return error

    for result in in_threads(attempt, items, desc="reading", unit="image", leave=False):
        (problems if isinstance(result, UserError) else results).append(result)
    refuse(list(map(str, problems)))
    return results


@contextmanager
def room_for(pixels: int) -> Iterator[None]:
    """Keeps memory from growing with the cores: large images wait for one another."""
    if pixels < LARGE:
        yield
        return
    with _large:
        yield


def number_classes(found: Sequence[str], given: Sequence[str]) -> dict[str, int]:
    """The class of each name: its place in `given`, which must hold them all, else in `found`.

    Raises UserError for names that `given` lacks or holds twice, or that no table can hold.
    """
    if doubled := [name for name, count in Counter(given).items() if count > 1]:
        raise UserError(f"--classes names {', '.join(doubled)} more than once.")
    if given and (lacking := [name for name in found if name not in given]):
        raise UserError(
            f"--classes lacks {', '.join(lacking)}; the annotations hold {', '.join(found)}."
        )
    names = list(given or found)
    if strange := [name for name in names if not name.isprintable()]:
        raise UserError(f"the class name {strange[0]!a} cannot stand in a table.")
    if len(names) > 255:
        raise UserError(f"there are {len(names)} classes; 255 are the most.")
    return {name: k for k, name in enumerate(names, start=1)}


def write(
    out: Path,
    annotations: Sequence[Annotation],
    names: Mapping[int, str],
    num_classes: int = 0,
) -> str:
    """Makes the data set: copies the images, writes train.csv and, with names, classes.csv.

    Returns what was made, in words, and the next commands. num_classes: at least so many, also
    where the last ones have no mask. Raises UserError where the disk refuses.
    """
    rows = [
        [annotation.image.name, defect_class, text]
        for annotation in annotations
        for defect_class, text in sorted(annotation.rles.items())
    ]
    if num_classes and all(defect_class != num_classes for _, defect_class, _ in rows):
        rows.append([annotations[0].image.name, num_classes, ""])  # keeps the count
    with refusals_said(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            new = Path(folder) / out.name
            (new / "train_images").mkdir(parents=True)
            for annotation in tqdm(annotations, "copying", unit="image", leave=False):
                shutil.copyfile(annotation.image, new / "train_images" / annotation.image.name)
            publish(new / "train.csv", as_csv(COLUMNS, rows))
            if names:
                publish(new / "classes.csv", as_csv(["class", "name"], sorted(names.items())))
            os.replace(new, out)
    counts = Counter(k for a in annotations for k, text in a.rles.items() if text)
    titles = class_titles(max([*counts, *names], default=0), names)
    listed = "".join(
        f", class {title} on {counts[k]}"
        for k, title in enumerate(titles, start=1)
        if counts[k] or names
    )
    return (
        f"{out}: {len(annotations)} images{listed}\n"
        f"next: python -m data.check {shlex.quote(str(out))}\n"
        f"      python unet_64x400/train.py --data {shlex.quote(str(out))}"
    )
