from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from common import alarms, labels, predict, thresholds
from common.comparison import false_alarms
from common.dataset import splits
from tests import tiny


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny.make_data(tmp_path_factory.mktemp("data") / "strips", images=60)


def val_images(root, run):
    data = labels.load(root)
    split = splits.read(run / "split.csv", data)
    names = split.loc[split["split"] == "val", "image"]
    return data, [name for name in names if not data.classes(name)]


@pytest.mark.parametrize(
    ("rate", "area", "raised", "found"),
    [
        (0.2, 10, 0, 1),  # none of four may: above the largest
        (0.25, 6, 1, 2),
        (0.5, 0, 2, 3),  # two have none at all: any component counts
        (0.99, 0, 2, 3),
    ],
)
def test_the_smallest_area_that_keeps_the_rate(rate, area, raised, found):
    clean, defective = np.array([0, 9, 0, 5]), np.array([3, 8, 0, 11])
    choice = false_alarms.choose(0.5, clean, defective, rate)
    assert (choice.area, choice.alarms, choice.found) == (area, raised, found)
    assert (choice.clean, choice.defective) == (4, 4)


@given(areas=st.lists(st.integers(0, 30), min_size=1, max_size=40), rate=st.floats(0.001, 0.999))
def test_the_rate_is_kept_and_no_smaller_area_would(areas, rate):
    areas = np.array(areas)
    choice = false_alarms.choose(0.5, areas, areas, rate)
    assert choice.alarms <= rate * len(areas)
    if choice.area:
        assert (areas >= max(choice.area - 1, 1)).sum() > rate * len(areas)


class Painted:
    """A segmenter that takes grey values / 255 for the probability of class 1, or of class 2."""

    run = SimpleNamespace(num_classes=3, bits=16)

    def probabilities(self, images):
        grey = torch.from_numpy(np.stack(images)) / 255
        right = torch.arange(grey.shape[2]) >= grey.shape[2] // 2
        return torch.stack([1 - grey, grey * ~right, grey * right], dim=1)


def test_largest_components_are_counted_as_scipy_does(tmp_path):
    generator = np.random.default_rng(0)
    images, truths, paths = [], [], []
    for i in range(4):
        image = cv2.resize(generator.integers(0, 256, (6, 10)).astype(np.uint8), (40, 24))
        images.append(image)
        truths.append((generator.random((24, 40)) < 0.02).astype(np.uint8))
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), image)

    def largest(image, probability, touching):
        sizes = [0]
        for half in (slice(0, 20), slice(20, 40)):
            parts, count = ndimage.label(image[:, half] / 255 >= probability, np.ones((3, 3)))
            for part in range(1, count + 1):
                if touching[:, half][parts == part].any():
                    sizes.append((parts == part).sum())
        return max(sizes)

    known = SimpleNamespace(label_map=lambda name, shape: truths[int(name[0])])
    for masks in (None, known):
        found = list(false_alarms.largest_areas(Painted(), paths, masks))
        for areas, image, truth in zip(found, images, truths, strict=True):
            touching = np.ones_like(truth) if masks is None else truth
            expected = [largest(image, p, touching) for p in false_alarms.PROBABILITIES]
            assert areas.tolist() == expected
    assert max(expected) > 0


def test_written_thresholds_keep_the_rate_in_predict(run, root, tmp_path, capsys):
    argv = [str(run), "--rate", "0.25", "--write", "--device", "cpu"]
    assert alarms.main(argv) == 0
    said = capsys.readouterr().out
    chosen = thresholds.load(run)
    assert chosen.aim == "alarms, 25 per 100"
    assert len(set(chosen.probability)) == len(set(chosen.area)) == 1
    assert f"best: probability {chosen.probability[0]:g} and least area {chosen.area[0]} px" in said

    data, clean = val_images(root, run)
    paths = [str(data.path(name)) for name in clean]
    assert (
        predict.main([str(run), *paths, "--out", str(tmp_path / "o.csv"), "--device", "cpu"]) == 0
    )
    flagged = int(capsys.readouterr().out.split(" segmented, ")[1].split()[0])
    assert flagged <= 0.25 * len(clean)
    rows = [line.split() for line in said.splitlines()[1 : 1 + len(false_alarms.PROBABILITIES)]]
    (row,) = [row for row in rows if float(row[0]) == chosen.probability[0]]
    assert row[1:5] == [str(chosen.area[0]), str(flagged), "of", str(len(clean))]


def test_without_write_nothing_changes(run, capsys):
    assert alarms.main([str(run), "--rate", "0.3", "--device", "cpu"]) == 0
    assert thresholds.load(run) is None


def test_more_clean_strips_count_too(run, root, tmp_path, capsys):
    _, clean = val_images(root, run)
    folder = tmp_path / "clean"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.full(tiny.SIZE, 90, np.uint8))
    argv = [str(run), "--rate", "0.25", "--clean", str(folder), "--device", "cpu"]
    assert alarms.main(argv) == 0
    assert f"of {len(clean) + 3} " in capsys.readouterr().out


def test_a_rate_that_the_strips_cannot_show_is_refused(run, capsys):
    assert alarms.main([str(run), "--rate", "0.001"]) == 2
    said = capsys.readouterr().err
    assert "at least 1000 clean ones" in said
    assert "--clean" in said
    assert alarms.main([str(run), "--rate", "1.5"]) == 2
    assert "--rate must lie between 0 and 1" in capsys.readouterr().err
