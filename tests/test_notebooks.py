"""The notebook runs from top to bottom, in a folder where nothing is."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "compare_resolutions.ipynb"
SMALL = ["--height", "32", "--width", "200", "--base-channels", "8", "--epochs", "1"]
TINY = {
    "STRIPS": 40,
    "LIMIT": 30,
    "TRAIN": [*SMALL, "--device", "cpu", "--batch-size", "4", "--wandb", "disabled"],
    "COMPARE": ["--device", "cpu", "--repeats", "1", "--resamples", "100", "--wandb", "disabled"],
}


@pytest.fixture
def shown(monkeypatch):
    """What the cells display; IPython stands in for itself, as far as they use it."""
    found = []
    module = ModuleType("IPython.display")
    module.display = found.append
    module.Markdown = str
    module.IFrame = lambda source, *_: Path(source)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return found


def test_it_trains_compares_and_predicts(shown, monkeypatch, tmp_path):
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["id"] == "install":
            with pytest.raises(SystemExit, match="INSTALL_FROM"):
                exec(source, dict(names))
            monkeypatch.chdir(NOTEBOOK.parent)  # as it is opened in a checkout
        exec(source, names)
        if cell["id"] == "settings":
            assert set(TINY) | {"INSTALL_FROM"} == {name for name in names if name.isupper()}
            # Small sizes come last, and so count; whole strips too are small here.
            names |= TINY
        if cell["id"] == "install":
            monkeypatch.chdir(tmp_path)
    table, page, picture = shown
    assert all(name in table for name in ("unet_64x400", "unet_128x800", "modified_unet"))
    assert (tmp_path / page).stat().st_size > 10_000
    assert np.asarray(picture).shape == (256, 1600, 3)
