"""What an installed copy holds."""

import sys
from pathlib import Path

import pytest
from setuptools import find_packages

PROJECT = Path(__file__).parents[1]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_every_package_and_every_file_that_is_no_module_is_listed():
    import tomllib

    listed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tops = [path.parent for path in PROJECT.glob("*/__init__.py") if path.parent.name != "tests"]
    folders = {path.parent for top in tops for path in top.rglob("*.py")}
    packages = {".".join(folder.relative_to(PROJECT).parts) for folder in folders}
    assert packages >= {"common", "common.comparison.page", "unet_64x400"}
    assert set(find_packages(str(PROJECT), **listed["packages"]["find"])) == packages

    shipped = {
        path
        for package, patterns in listed["package-data"].items()
        for pattern in patterns
        for path in (PROJECT / package.replace(".", "/")).glob(pattern)
    }
    templates = {path for path in (PROJECT / "common").rglob("templates/*") if path.is_file()}
    assert len(templates) >= 5
    assert shipped == templates
