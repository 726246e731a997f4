"""What the README and docs name exists: commands, their options, modules, paths and links."""

import pytest

from tests.documents import LINK, PROJECT, problems

DOCUMENTS = sorted(
    [
        *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(PROJECT / folder / "README.md" for folder in ("data", "modified_unet")),
        *(PROJECT / "docs").glob("*.md"),
    ]
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_what_a_document_names_exists(document):
    assert problems(document.read_text(), document.parent) == []


def test_the_readme_is_one_screen_and_leads_to_every_document():
    text = (PROJECT / "README.md").read_text()
    assert len(text.splitlines()) < 130
    linked = {(PROJECT / target).resolve() for target in LINK.findall(text)}
    assert set(DOCUMENTS) - linked == {PROJECT / "README.md"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`python -m common.compare runs/A --colour red`", "--colour"),
        ("`python -m common.compare runs/A --repeats none`", "--repeats"),
        ("`python -m common.nothing runs/A`", "common.nothing"),
        ("`python unet_64x400/trian.py`", "trian.py"),
        ("```\npython -m data.synthetic --images 0 --out x\n```\n", "--images"),
        ("```\ntorchrun --nproc-per-node 4 unet_64x400/train.py --epoch x\n```\n", "--epoch"),
        ("```\ntorchrun --no-such 4 unet_64x400/train.py\n```\n", "--no-such"),
        ("```\ncommon/   the rooms\n  cellar/   none\n```\n", "common/cellar"),
        ("`make tea`", "tea"),
        ("`wandb brew runs`", "brew"),
        ("`--no-such-option`", "--no-such-option"),
        ("`--precision fp64`", "fp64"),
        ("`train.py --size-of 3`", "size-of"),
        ("`data.check --runs`", "--runs"),
        ("`common.rle.inflate`", "inflate"),
        ("`common/splits.py`", "common/splits.py"),
        ("`splitz.py`", "splitz.py"),
        ("[there](docs/nowhere.md)", "nowhere"),
        ("[there](README.md#nowhere)", "nowhere"),
        ("```python\nfrom common.rle import inflate\n```\n", "inflate"),
    ],
)
def test_what_does_not_exist_is_found(text, wrong):
    (problem,) = problems(text, PROJECT)
    assert wrong in problem
