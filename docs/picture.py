"""Takes the README's picture of a report page, in headless Chromium.

    python docs/picture.py report/index.html docs/report.png

Take it of a report on synthetic strips: the Severstal and NEU images may not be passed on.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1200, "height": 1500}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main(page_file: str, picture: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        page.goto(Path(page_file).resolve().as_uri())
        page.wait_for_timeout(1000)  # charts and gallery are drawn
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
