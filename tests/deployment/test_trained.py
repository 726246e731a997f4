"""Two lines of Python give what the command gives."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from common import load_run, overlay, predict, rle, runs
from common.errors import UserError
from common.inference import Segmenter
from common.pixels import read_image
from common.thresholds import Thresholds
from tests import tiny

THRESHOLDS = Thresholds((0.22, 0.3, 0.25, 0.2), (5, 0, 9, 3), (0.4, 0.3, 0.45, 0.3))


@pytest.fixture(scope="module", params=["plain", "decided"])
def run(request, root, tmp_path_factory):
    path = tiny.make_run(tmp_path_factory.mktemp("runs") / "unet", root, (32, 96))
    if request.param == "decided":
        THRESHOLDS.save(path)
    return path


@pytest.fixture(scope="module")
def photos(root, tmp_path_factory):
    """Grey and coloured, of three sizes."""
    folder = tmp_path_factory.mktemp("photos")
    strips = [read_image(path) for path in sorted((root / "train_images").iterdir())[:3]]
    cv2.imwrite(str(folder / "a.jpg"), strips[0])
    cv2.imwrite(str(folder / "b.png"), strips[1][:50, :131])
    coloured = cv2.merge([strips[2], strips[2] // 2, 255 - strips[2]])
    cv2.imwrite(str(folder / "c.png"), cv2.resize(coloured, (400, 80)))
    return sorted(folder.iterdir())


def test_masks_are_the_commands(run, photos, tmp_path):
    argv = [str(run), *map(str, photos), "--out", str(tmp_path / "o.csv"), "--device", "cpu"]
    assert predict.main([*argv, "--masks", str(tmp_path), "--batch-size", "1"]) == 0
    table = pd.read_csv(tmp_path / "o.csv")
    trained = load_run(run, "cpu")
    for path, found in zip(photos, trained.predict(photos), strict=True):
        expected = cv2.imread(str(tmp_path / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert found.label_map.dtype == np.uint8
        assert (found.label_map == expected).mean() > 0.999  # sums of a batch round otherwise
        alone = trained.predict(str(path))
        assert (alone.label_map == expected).all()
        rows = table[table["ImageId"] == path.name]
        assert alone.rles == dict(zip(rows["ClassId"], rows["EncodedPixels"], strict=True))
        assert {k: rle.encode(expected == k) for k in alone.rles} == alone.rles
        assert len(alone.rles) > 1


def test_probabilities_are_the_networks_at_the_images_own_size(run, photos):
    found = load_run(run, "cpu").predict(photos[1])
    image = read_image(photos[1])
    expected = Segmenter(runs.load(run), torch.device("cpu")).probabilities([image])[0].numpy()
    assert found.probabilities.shape == (5, 50, 131)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities == pytest.approx(expected, abs=1e-6)
    assert (found.overlay() == overlay.draw(image, found.label_map)).all()


def test_arrays_are_grey_or_rgb(run, photos):
    trained = load_run(run, "cpu")
    for path in photos:
        expected = trained.predict(path)
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        grey = read_image(path)
        as_grey, as_rgb = trained.predict(grey), trained.predict(rgb)
        assert (as_grey.label_map == expected.label_map).all()
        # Image decoders round the grey of coloured pixels in their own ways.
        assert np.abs(as_rgb.image.astype(int) - grey).max() <= (path.name == "c.png")
        assert (as_rgb.label_map == trained.predict(as_rgb.image).label_map).all()
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    assert (trained.predict(bgr).image != grey).mean() > 0.5
    assert trained.predict([]) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 320), np.float32),
        np.zeros((2, 64, 320), np.uint8),
        np.zeros((64, 320, 4), np.uint8),
        np.zeros(64, np.uint8),
        np.zeros((0, 320), np.uint8),
        "nowhere.jpg",
    ],
)
def test_what_is_no_image_is_refused(run, image):
    with pytest.raises(UserError, match=r"must be an array of uint8|cannot read nowhere\.jpg"):
        load_run(run, "cpu").predict(image)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        load_run(tmp_path / "nowhere")


def test_the_package_alone_does_not_load_pytorch():
    program = (
        "import sys, common\n"
        "assert 'torch' not in sys.modules\n"
        "from common import load_run\n"
        "assert 'torch' in sys.modules and callable(load_run)\n"
        "assert not hasattr(common, 'lode_run')"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
