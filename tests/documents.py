"""Looks for what a document names and the project does not hold.

Commands are parsed by their own options, up to where they would begin. A path counts where the
project itself would hold it: data sets, runs and reports are the user's.
"""

import argparse
import ast
import importlib
import itertools
import pkgutil
import re
import shlex
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path

import pytest

from common import cli
from common.errors import UserError

PROJECT = Path(__file__).parents[1]
PACKAGES = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
PROGRAMS = ("python", "torchrun", "make", "wandb")


class Wrong(Exception):
    """What a document says and does not hold."""


@cache
def options_of(module: str) -> type:
    """The dataclass that `python -m module` parses its command line into; nothing is run."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "parse", lambda config_type, argv: seen.append(config_type))
        try:
            importlib.import_module(module).main([])
        except (ModuleNotFoundError, AttributeError) as error:
            raise Wrong(f"{module} is no command") from error
    (config_type,) = seen
    return config_type


def parse(module: str, words: list[str]) -> None:
    """Raises Wrong where the command refuses these words."""
    try:
        cli.parse(options_of(module), words)
    except UserError as error:
        raise Wrong(f"{module} {shlex.join(words)}: {error}") from error


def required(config_type: type) -> list[str]:
    """Some value for every option that a command cannot do without."""
    words = []
    for field in fields(config_type):
        if field.default is MISSING and field.default_factory is MISSING:
            positional = "Positional" in str(field.type)
            words += ["1"] if positional else [f"--{field.name.replace('_', '-')}", "1"]
    return words


def takes(module: str, words: list[str]) -> bool:
    """Whether the command knows these options, and their values where values are named."""
    config_type = options_of(module)
    named = cli._named(config_type, words)
    if len(named) < sum(word.startswith("--") for word in words):
        return False
    if all(word.startswith("--") for word in words):
        return True
    try:
        parse(module, [*required(config_type), *words])
    except Wrong:
        return False
    return True


@cache
def all_commands() -> tuple[str, ...]:
    """Every module of the project that can be run, trainings first."""
    folders = PACKAGES - {"tests"}
    paths = [path for folder in folders for path in (PROJECT / folder).rglob("*.py")]
    runnable = [path for path in paths if "\ndef main(" in path.read_text()]
    runnable.sort(key=lambda path: (path.stem != "train", path))
    names = (path.relative_to(PROJECT).with_suffix("").parts for path in runnable)
    return tuple(".".join(parts) for parts in names)


@cache
def torchrun() -> argparse.ArgumentParser:
    return importlib.import_module("torch.distributed.run").get_args_parser()


def check_command(words: list[str]) -> None:
    """Raises Wrong unless the program exists and takes the rest."""
    words = list(itertools.dropwhile(ASSIGNMENT.fullmatch, words))
    program, *rest = words
    if program == "python" and rest[0] == "-m":
        parse(rest[1], rest[2:])
    elif program == "python":
        check_script(rest[0], rest[1:])
    elif program == "torchrun":
        try:
            given = torchrun().parse_args(rest)
        except SystemExit as refused:
            raise Wrong(shlex.join(words)) from refused
        check_script(given.training_script, given.training_script_args)
    elif program == "make":
        if not re.search(rf"^{rest[0]}:", (PROJECT / "Makefile").read_text(), re.MULTILINE):
            raise Wrong(f"no target {rest[0]} in the Makefile")
    elif rest[0] not in importlib.import_module("wandb.cli.cli").cli.commands:
        raise Wrong(f"wandb has no command {rest[0]}")


def check_script(script: str, words: list[str]) -> None:
    path = Path(script)
    if not (PROJECT / path).is_file():
        raise Wrong(f"no file {script}")
    if path.parts[0] in PACKAGES:
        parse(".".join(path.with_suffix("").parts), words)


def check_span(span: str) -> None:
    """Raises Wrong where `span` names a command, option, module or path that is not there."""
    typed = span.startswith(("--", *PROGRAMS))
    words = shlex.split(span) if typed else span.split()
    first, rest = words[0], words[1:]
    if first in PROGRAMS and rest:
        check_command(words)
    elif first.startswith("--"):
        known = torchrun()._option_string_actions
        words = shlex.split(span)
        if first not in known and not any(takes(module, words) for module in all_commands()):
            raise Wrong(f"no command takes {span}")
    elif first == "train.py" and rest:
        if not takes("unet_64x400.train", rest):
            raise Wrong(f"train.py does not take {rest}")
    elif re.fullmatch(r"\w+(\.\w+)+", first) and first.partition(".")[0] in PACKAGES:
        if rest and not takes(first, rest):
            raise Wrong(f"{first} does not take {rest}")
        try:
            pkgutil.resolve_name(first)
        except (ImportError, AttributeError) as error:
            raise Wrong(f"no module or name {first}") from error
    elif not rest:
        check_path(first)


def check_path(name: str) -> None:
    """Only what the project itself holds: data sets, runs and reports are the user's."""
    path = Path(name)
    ours = path.parts[0] in {*PACKAGES, "docs", ".ci"} and "*" not in name
    if path.parts[0] == "data" and len(path.parts) > 1:
        ours = path.suffix in (".py", ".md")
    if len(path.parts) == 1 and path.suffix == ".py":
        if not any(list((PROJECT / folder).rglob(name)) for folder in PACKAGES):
            raise Wrong(f"no module {name} anywhere")
    elif ours and not (PROJECT / path).exists():
        raise Wrong(f"no {name}")


def check_link(target: str, folder: Path) -> None:
    if target.startswith("https://"):
        return
    name, _, anchor = target.partition("#")
    path = folder / name
    if not path.exists():
        raise Wrong(f"link to {target}")
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if anchor else []
    slugs = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
    if anchor and anchor not in slugs:
        raise Wrong(f"link to {target}: {path.name} has the headings {sorted(slugs)}")


def check_block(language: str, code: str) -> None:
    if language == "python":
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in PACKAGES:
                for alias in node.names:
                    check_span(f"{node.module}.{alias.name}")
        return
    parent = ""
    for line in code.replace("\\\n", " ").split("\n"):
        if folder := re.match(r"( *)(\w+/)  ", line):
            parent = parent if folder[1] else folder[2]
            check_path(parent + folder[2] if folder[1] else parent)
        elif words := shlex.split(line, comments=True):
            if words[0] in PROGRAMS or ASSIGNMENT.fullmatch(words[0]):
                check_command(words)
            elif words[0].startswith("--"):
                check_span(shlex.join(words))


def problems(text: str, folder: Path) -> list[str]:
    """Everything in a document that does not hold; `folder` is where its links start."""
    blocks = FENCE.findall(text)
    prose = FENCE.sub("", text)
    checks = [
        *((check_block, block) for block in blocks),
        *((check_span, (re.sub(r"\s+", " ", span),)) for span in SPAN.findall(prose)),
        *((check_link, (target, folder)) for target in LINK.findall(prose)),
    ]
    found = []
    for check, arguments in checks:
        try:
            check(*arguments)
        except Wrong as wrong:
            found.append(str(wrong))
    return found
