"""Fetches the Severstal images and masks from Kaggle, with the user's own credentials.

    python -m data.download

The competition's data may not be passed on, so everyone fetches it: about 1.7 GB. A notebook on
Kaggle has it already, and that is looked for first. An interrupted download goes on where it was.
The folder is filled with links to kagglehub's cache (copies on another disk), train.csv last:
until then it is no data set.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from common import labels
from common.cli import run
from common.config import PROJECT
from common.errors import UserError
from common.files import refusals_said
from common.progress import tqdm

COMPETITION = "severstal-steel-defect-detection"
URL = f"https://www.kaggle.com/competitions/{COMPETITION}"
IMAGES = 12_568
KAGGLE = Path("/kaggle/input")  # of a notebook there
MOUNTED = (KAGGLE / COMPETITION, KAGGLE / "competitions" / COMPETITION)

STEPS = f"""\
1. Sign in at https://www.kaggle.com (an account is free) and accept the rules of the competition:
   {URL}/rules
2. At https://www.kaggle.com/settings create an API token. Put the kaggle.json that it gives you at
   ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY to the two values in it.
3. Run again: python -m data.download
Without an account, python -m data.synthetic makes a data set of the same form."""


@dataclass
class Config:
    """Fetch Kaggle's Severstal data set with your own credentials."""

    out: Path = PROJECT / "data" / "severstal"
    """Folder of the data set."""


def download(out: Path) -> bool:
    """Fills `out` with train_images/ and train.csv; False where it holds them already.

    Raises UserError where Kaggle does not let us in, the connection or the disk fails, or what
    came is not the whole data set.
    """
    if (out / "train.csv").exists():
        _check_count(len(labels.load(out).images), out)
        return False
    source = next((folder for folder in MOUNTED if (folder / "train.csv").exists()), None)
    with refusals_said(out, "Mend this and run again; what was downloaded is kept."):
        _place(source or _fetch(), out)
    return True


def _fetch() -> Path:
    """Folder of kagglehub's cache that holds the competition's files."""
    import kagglehub  # an extra
    from kagglehub.exceptions import (
        DataCorruptionError,
        KaggleApiHTTPError,
        UnauthenticatedError,
    )

    try:
        return Path(kagglehub.competition_download(COMPETITION))
    except UnauthenticatedError:
        raise UserError(f"Kaggle needs to know who you are.\n{STEPS}") from None
    except KaggleApiHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise UserError(
                f"Kaggle refuses the download (HTTP {status}): the credentials are wrong, or the "
                f"rules are not accepted yet.\n{STEPS}"
            ) from None
        raise UserError(f"Kaggle does not answer as it should: {error}\nTry again later.") from None
    except DataCorruptionError as error:
        raise UserError(f"the download is damaged: {error}\nRun again.") from None
    except ValueError as error:  # a kaggle.json that is none
        raise UserError(f"the Kaggle credentials cannot be used: {error}\n{STEPS}") from None
    except OSError as error:  # the network, too
        raise UserError(
            f"the download stopped: {error}\nRun again to go on with it: python -m data.download"
        ) from None


def _place(source: Path, out: Path) -> None:
    """Links or copies images, each whole or not at all, and then the table."""
    images = sorted((source / "train_images").iterdir())
    _check_count(len(images), source)
    (out / "train_images").mkdir(parents=True, exist_ok=True)
    for image in tqdm(images, "placing", unit="image", leave=False):
        _put(image, out / "train_images" / image.name)
    _put(source / "train.csv", out / "train.csv")


def _put(source: Path, target: Path) -> None:
    if target.exists():  # complete, since it was renamed into place
        return
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, partial)
    os.replace(partial, target)


def _check_count(count: int, root: Path) -> None:
    """Raises UserError where these are not all of Kaggle's images."""
    if count != IMAGES:
        raise UserError(
            f"{root} holds {count:,} images, Kaggle's set {IMAGES:,}.\n"
            "Remove this folder and run again: python -m data.download"
        )


def main(argv: list[str] | None = None) -> int:
    """Downloads; returns the exit code."""

    def show(config: Config) -> None:
        fetched = download(config.out)
        print(
            f"{config.out} {'now holds' if fetched else 'already holds'} the whole data set.\n"
            f"next: python -m data.check {shlex.quote(str(config.out))}"
        )

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
