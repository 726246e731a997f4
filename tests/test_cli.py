"""The command line: typed options, and every problem a message and an exit code."""

import importlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from common.cli import run
from common.errors import Interrupted, UserError

ROOT = Path(__file__).parents[1]


@dataclass
class Options:
    """Says nothing much."""

    root: Annotated[Path, tyro.conf.Positional]
    """Folder of things."""
    count: int = 3
    """How many."""
    kind: Literal["round", "square"] = "round"
    """Which shape."""
    limit: int | None = None
    """At most so many. Default: all."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"--count must be at least 1, got {self.count}")


def test_options_arrive_typed() -> None:
    got = []
    assert run(got.append, Options, ["here", "--count", "5", "--kind", "square"]) == 0
    assert got == [Options(Path("here"), 5, "square")]


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (2, 2), ("text", 0)])
def test_an_int_that_the_function_returns_is_the_exit_code(result, code: int) -> None:
    assert run(lambda _: result, Options, ["here"]) == code


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["here", "--bogus", "1"], "--bogus"),
        (["here", "--coun", "1"], "--coun"),
        (["here", "--count", "many"], "--count"),
        (["here", "--count", "2.5"], "--count"),
        (["here", "--count"], "--count"),
        (["here", "--count", "0"], "--count must be at least 1, got 0"),
        (["here", "--kind", "oval"], "oval"),
        (["here", "--limit", "None"], "--limit"),
        (["here", "there"], "there"),
        ([], "Folder of things."),
    ],
)
def test_impossible_options_are_refused_before_anything_runs(
    argv: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert run(lambda _: pytest.fail("ran"), Options, argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said.lower() in err.lower()
    assert "Traceback" not in err


def test_help_lists_the_options(capsys: pytest.CaptureFixture) -> None:
    assert run(lambda _: pytest.fail("ran"), Options, ["--help"]) == 0
    out = capsys.readouterr().out
    for text in (
        "typed options, and every problem",
        "ROOT",
        "--count",
        "How many.",
        "{round,square}",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("spec", "typed"),
    [
        (ModuleSpec("common.summary", None), "usage: python -m common.summary "),
        (None, "usage: python unet_64x400/train.py "),
    ],
)
def test_help_names_the_command_as_it_is_typed(spec, typed, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", ["unet_64x400/train.py"])
    assert run(lambda _: pytest.fail("ran"), Options, ["--help"]) == 0
    assert capsys.readouterr().out.startswith(typed)


@pytest.mark.parametrize("argv", [["here"], ["here", "--limit", "7"]])
def test_an_option_without_a_default_is_a_number_or_left_out(argv: list[str]) -> None:
    got = []
    assert run(got.append, Options, argv) == 0
    assert got[0].limit == (7 if len(argv) > 1 else None)


def test_a_user_error_is_its_message_alone(capsys: pytest.CaptureFixture) -> None:
    def fails(_: Options) -> None:
        raise UserError("no such folder\nMake one.")

    assert run(fails, Options, ["here"]) == 2
    assert capsys.readouterr().err == "error: no such folder\nMake one.\n"


def test_signals_give_the_shells_codes(capsys: pytest.CaptureFixture) -> None:
    def stopped(_: Options) -> None:
        raise Interrupted("saved; go on with ...", signal.SIGTERM)

    def ctrl_c(_: Options) -> None:
        raise KeyboardInterrupt

    assert run(stopped, Options, ["here"]) == 128 + signal.SIGTERM
    assert run(ctrl_c, Options, ["here"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == "saved; go on with ...\ninterrupted\n"


def test_a_bug_is_not_hidden() -> None:
    """Only what the user can mend becomes a message; a ValueError inside the command does not."""
    with pytest.raises(ValueError, match="a bug"):
        run(lambda _: int("a bug"), Options, ["here"])


def test_a_package_of_an_extra_that_is_missing_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert run(lambda _: importlib.import_module("kagglehub"), Options, ["here"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("kagglehub: pip install 'steel-defect-segmentation[download]'\n")
    with pytest.raises(ModuleNotFoundError):
        run(lambda _: importlib.import_module("no_such_package"), Options, ["here"])


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    code = (
        "import sys; from tests.test_cli import Options; from common.cli import run;"
        "sys.exit(run(lambda _: [print('x' * 99) for _ in range(9999)], Options, ['here']))"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.readline()
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait() == 141


@pytest.mark.parametrize(
    "module",
    [
        "unet_64x400.train", "unet_128x800.train", "modified_unet.train",
        "common.alarms", "common.average", "common.compare", "common.export", "common.predict",
        "common.publish", "common.reference", "common.study", "common.summary",
    ],
)  # fmt: skip
def test_help_and_refusals_do_not_wait_for_pytorch(module):
    """The library takes seconds to load; an option that is mistyped should not."""
    program = (
        f"import sys; from {module} import main\n"
        "assert main(['--help']) == 0 and main(['--no-such', '3']) == 2\n"
        "assert not {'torch', 'wandb', 'scipy', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_command_names_the_extra_that_it_lacks():
    """The packages of an extra are imported once the options are known, so that it can be said."""
    program = (
        "import sys; sys.modules['onnx'] = None\n"
        "from common.export import main\n"
        "assert main(['--help']) == 0\n"
        "sys.exit(main(['runs/A']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("onnx: pip install 'steel-defect-segmentation[export]'\n")


def test_a_file_that_refuses_is_named_and_other_errors_of_the_system_are_not_hidden(
    tmp_path: Path, capsys
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for work in (
        lambda _: (tmp_path / "none" / "x").read_text(),
        lambda _: loop.stat(),
        lambda _: loop.resolve(strict=True),
    ):
        assert run(work, Options, ["here"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert str(tmp_path) in said

    def bug(_: Options) -> None:
        raise OSError(9, "Bad file descriptor")

    with pytest.raises(OSError, match="Bad file"):
        run(bug, Options, ["here"])


def command(code: str, **options) -> subprocess.CompletedProcess:
    program = (
        "import sys; from tests.test_cli import Options; from common.cli import run;"
        f"sys.exit(run(lambda _: {code}, Options, ['here']))"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("text", ["'x'", "'x' * 99999"])
def test_a_full_disk_behind_stdout_is_said(text: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = command(f"print({text})", stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device\n"


def test_letters_that_stdout_lacks_are_shown_in_ascii(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    done = command(r"print('\xe4 \u2026 \udce4')", stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stdout == b"\xe4 \\u2026 \\udce4\n"


@pytest.mark.parametrize("closed", ["1", "2", "1,2"])
def test_closed_streams_are_no_harm(closed: str, tmp_path: Path) -> None:
    """A file that is opened then must not get what is printed."""
    out = tmp_path / "out"
    close = "".join(f"os.close({number});" for number in closed.split(","))
    start = (
        f"import os, sys; {close} os.execv(sys.executable, [sys.executable, '-c', '''import sys;"
        "from tests.test_cli import Options; from common.cli import run\n"
        "def work(_):\n"
        "    from common.progress import tqdm\n"
        f"    with open({str(out)!r}, 'w') as file:\n"
        "        print('lost'); print('lost', file=sys.stderr); tqdm.write('lost')\n"
        "        file.write('kept')\n"
        "sys.exit(run(work, Options, ['here']))'''])"
    )
    done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, timeout=60, capture_output=True)
    assert done.returncode == 0
    assert out.read_text() == "kept"
