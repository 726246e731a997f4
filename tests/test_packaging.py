"""What an installed copy holds, and that it can be imported on any system."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_packages

from common.cli import EXTRAS

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def pyproject() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def test_requirements_txt_names_what_the_package_and_the_commands_need(pyproject):
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    extras = pyproject["project"]["optional-dependencies"]
    needed = pyproject["project"]["dependencies"]
    needed = needed + [line for name in set(EXTRAS.values()) for line in extras[name]]
    assert sorted(line for line in lines if not line.startswith("#")) == sorted(needed)
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package) for line in extras[extra])


def test_every_package_and_every_file_that_is_no_module_is_listed(pyproject):
    listed = pyproject["tool"]["setuptools"]
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
    assert shipped == templates | set((PROJECT / "modified_unet" / "pretrained").iterdir())


WHERE = """
from common.config import CHECKOUT, PROJECT
from common.training.record import git_commit
print(CHECKOUT, PROJECT, git_commit(), sep="\\n")
"""


def test_an_installed_copy_works_where_its_user_is(tmp_path):
    """And not where it lies; a commit of the user's is not the package's."""
    installed, checkout, user = (tmp_path / name for name in ("site", "checkout", "user"))
    for home in (installed, checkout):
        for folder in ("common", "data"):
            for path in (PROJECT / folder).rglob("*.py"):
                copy = home / path.relative_to(PROJECT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    user.mkdir()
    (checkout / "pyproject.toml").write_text("")
    commit = ("-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "first")
    for repository in (tmp_path, user):  # the copies lie in somebody's repository
        (repository / "file").write_text("mine")
        for arguments in (("init", "-q"), ("add", "file"), commit):
            subprocess.run(["git", "-C", repository, *arguments], check=True)

    def says(home: Path) -> list[str]:
        command = [sys.executable, "-c", WHERE]
        environment = os.environ | {"PYTHONPATH": str(home)}
        return subprocess.check_output(command, cwd=user, env=environment, text=True).split()

    assert says(installed) == ["None", str(user), "None"]
    assert says(checkout) == [str(checkout), str(checkout), "None"]
    for arguments in (("init", "-q"), ("add", "."), commit):
        subprocess.run(["git", "-C", checkout, *arguments], check=True)
    own = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True).strip()
    assert says(checkout)[2] == own
    (checkout / "pyproject.toml").write_text("# changed")
    assert says(checkout)[2] == f"{own}+changes"


WITHOUT_POSIX = """
import importlib, sys
for name in "fcntl grp pty pwd resource spwd syslog termios tty".split():
    sys.modules[name] = None
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


def test_no_module_needs_what_only_posix_has() -> None:
    tops = [path.parent for path in PROJECT.glob("*/__init__.py") if path.parent.name != "tests"]
    paths = [path.relative_to(PROJECT) for top in tops for path in top.rglob("*.py")]
    modules = sorted(".".join(path.with_suffix("").parts) for path in paths)
    assert len(modules) > 60
    command = [sys.executable, "-c", WITHOUT_POSIX, *modules]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
