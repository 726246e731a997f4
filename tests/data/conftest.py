"""What the tests of commands that convert annotations share."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def leaves_nothing(tmp_path: Path, capsys) -> Callable[[Callable[[Path], int], str], None]:
    """Asserts exit code 2 of what makes a new folder, a message that matches, and no folder."""

    def check(command: Callable[[Path], int], said: str) -> None:
        assert command(tmp_path / "new" / "set") == 2
        err = capsys.readouterr().err
        assert re.search(said, err, re.DOTALL), err
        assert not (tmp_path / "new").exists()

    return check
