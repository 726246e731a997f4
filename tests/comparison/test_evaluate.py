"""Evaluation in one pass: right counts, nothing computed twice, nothing kept that is stale."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common import inference, runs
from common.comparison import contestants
from common.comparison import evaluate as module
from common.comparison.contestants import Network
from common.comparison.evaluate import evaluate, pooled, read_prediction
from common.comparison.tally import concatenate, sums_of, tally_image, truth_of
from common.dataset import images
from common.errors import UserError
from common.inference import Segmenter
from common.labels import load
from common.metrics import confusion
from common.pixels import read_image
from common.thresholds import Thresholds, decide, drawn_probability, keep

CONTEXT = ["fingerprint", "fp32"]


@pytest.fixture(scope="module")
def labels(dataset):
    return load(dataset)


@pytest.fixture(scope="module")
def names(labels):
    """Some images with and without defects."""
    defective = [name for name in labels.images if labels.classes(name)]
    clean = [name for name in labels.images if not labels.classes(name)]
    return sorted(defective[:4] + clean[:2])


@pytest.fixture(scope="module")
def thresholds(trained_run, labels, names):
    """Such as let every class be predicted somewhere, whatever little training has taught."""
    segmenter = Segmenter(runs.load(trained_run), torch.device("cpu"))
    probabilities = segmenter.probabilities([read_image(labels.path(name)) for name in names])
    by_class = probabilities[:, 1:, ::4, ::4].movedim(1, 0).flatten(1)
    high, peak = by_class.quantile(torch.tensor([0.99, 0.995]), dim=1).tolist()
    return Thresholds(tuple(high), (0, 500, 2000, 8000), tuple(peak))


@pytest.fixture
def contestant(trained_run, thresholds, tmp_path):
    segmenter = Segmenter(runs.load(trained_run), torch.device("cpu"))
    folder = tmp_path / "predictions" / "one"
    return Network(predictions=folder, segmenter=segmenter, thresholds=thresholds)


@pytest.fixture
def forwards(monkeypatch):
    """The number of images in each forward pass."""
    seen = []
    whole = Segmenter.logits

    def counted(self, batch):
        seen.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(Segmenter, "logits", counted)
    return seen


def equal(a, b):
    return all((getattr(a, name) == getattr(b, name)).all() for name in vars(a))


def test_large_images_are_evaluated_one_by_one_in_bands(
    contestant, labels, names, forwards, tmp_path, monkeypatch
):
    (tally,) = evaluate([contestant], labels, names, CONTEXT, tmp_path / "state", batch_size=3)
    forwards.clear()
    monkeypatch.setattr(images, "LARGE", 256 * 1600)
    for each in (contestants, inference):
        monkeypatch.setattr(each, "BAND", 100 * 1600)
    context = [*CONTEXT, "again"]
    (again,) = evaluate([contestant], labels, names, context, tmp_path / "state", batch_size=3)
    assert forwards == [1] * len(names)
    for name in ("confusion", "confusion_thresholded"):
        difference = np.abs(getattr(again, name) - getattr(tally, name))
        assert difference.max() <= 1e-4 * 256 * 1600
    assert again.confusion_thresholded[:, :, 1:].sum() > 0
    assert (again.components == tally.components).all()
    assert again.probability == pytest.approx(tally.probability, abs=1e-4)
    assert again.calibration == pytest.approx(tally.calibration, rel=1e-3, abs=50)


def test_counts_are_those_of_each_image_by_itself(contestant, labels, names, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    (tally,) = evaluate([contestant], labels, names, CONTEXT, tmp_path / "state", batch_size=2)
    assert len(tally) == len(names)

    expected, dropped = [], 0
    for name in names:
        image = read_image(labels.path(name))
        truth = labels.label_map(name, image.shape)
        probabilities = contestant.segmenter.probabilities([image])
        plain = decide(probabilities, None)[0].numpy()
        decided = decide(probabilities, contestant.thresholds)[0].numpy()
        drawn = drawn_probability(decided, probabilities[0].numpy())
        final = keep(decided, drawn, contestant.thresholds)
        dropped += (decided != final).sum()
        sums = sums_of(probabilities[0].numpy(), truth)
        expected.append(tally_image(truth_of(truth, 5), sums, plain, final))
    expected = concatenate(expected)
    assert dropped > 0
    assert expected.confusion_thresholded[:, :, 1:].sum() > 0
    # A batch may round otherwise than an image alone, so a pixel in ten thousand may differ.
    close = 1e-4 * 256 * 1600
    for name in ("confusion", "confusion_thresholded"):
        assert np.abs(getattr(tally, name) - getattr(expected, name)).max() <= close
    assert (tally.components == expected.components).all()
    assert tally.probability == pytest.approx(expected.probability, abs=1e-4)
    assert (tally.confusion.sum(axis=(1, 2)) == 256 * 1600).all()

    predictions = np.stack([read_prediction(contestant.prediction_path(name)) for name in names])
    truths = np.stack([labels.label_map(name, (256, 1600)) for name in names])
    assert (confusion(predictions, truths).numpy() == tally.confusion_thresholded).all()


def test_an_evaluation_cut_off_goes_on_where_it_was(
    contestant, labels, names, tmp_path, monkeypatch, forwards
):
    monkeypatch.setattr(module, "CHUNK", 3)
    (undisturbed,) = evaluate([contestant], labels, names, CONTEXT, tmp_path / "whole", 2)
    other = replace(contestant, predictions=tmp_path / "predictions" / "two")

    whole = module.tally_image
    left = iter(range(4))  # the power fails in the second chunk

    def fails(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(module, "tally_image", fails)
    with pytest.raises(KeyboardInterrupt):
        evaluate([other], labels, names, CONTEXT, tmp_path / "state", 2)
    monkeypatch.setattr(module, "tally_image", whole)
    assert len(list((tmp_path / "state").glob("*.npz"))) == 1

    forwards.clear()
    (resumed,) = evaluate([other], labels, names, CONTEXT, tmp_path / "state", 2)
    assert sum(forwards) == len(names) - 3
    assert equal(resumed, undisturbed)
    forwards.clear()
    (again,) = evaluate([other], labels, names, CONTEXT, tmp_path / "state", 2)
    assert forwards == []
    assert equal(again, undisturbed)


def test_each_is_asked_about_its_own_images_and_counts_as_it_does_alone(
    contestant, labels, names, tmp_path, forwards
):
    folds = [
        replace(
            contestant,
            images=frozenset(names[k::3]),
            predictions=tmp_path / "predictions" / str(k),
            thresholds=replace(contestant.thresholds, area=(k, 9 * k, 9, 9)),
        )
        for k in range(3)
    ]
    tallies = evaluate(folds, labels, names, CONTEXT, tmp_path / "state")
    assert sum(forwards) == len(names)
    parts = []
    for k, fold in enumerate(folds):
        assert sorted(path.stem for path in fold.predictions.iterdir()) == names[k::3]
        alone = replace(fold, images=None, predictions=tmp_path / "alone")
        parts.append((names[k::3], evaluate([alone], labels, names[k::3], CONTEXT, tmp_path)[0]))
        assert equal(parts[k][1], tallies[k])
    whole = pooled(names, parts)
    assert len(whole) == len(names)
    for k, (_, tally) in enumerate(parts):
        assert (whole.confusion[k::3] == tally.confusion).all()
        assert (whole.probability[k::3] == tally.probability).all()
    with pytest.raises(AssertionError):
        pooled(names, [*parts, parts[0]])


def test_a_run_more_computes_only_that_run(contestant, labels, names, tmp_path, forwards):
    evaluate([contestant], labels, names, CONTEXT, tmp_path / "state")
    assert sum(forwards) == len(names)
    second = replace(
        contestant, thresholds=replace(contestant.thresholds, area=(9, 9, 9, 9)),
        predictions=tmp_path / "predictions" / "two",
    )  # fmt: skip
    forwards.clear()
    evaluate([contestant, second], labels, names, CONTEXT, tmp_path / "state")
    assert sum(forwards) == len(names)


def test_whatever_a_figure_depends_on_makes_it_new(contestant, labels, names, tmp_path, forwards):
    def again(changed, part=names, context=CONTEXT):
        forwards.clear()
        evaluate([changed], labels, part, context, tmp_path / "state")
        return sum(forwards)

    assert again(contestant) == len(names)
    assert again(contestant) == 0
    assert again(contestant, context=["other data", "fp32"]) == len(names)
    assert again(contestant, part=names[:-1]) == len(names) - 1
    assert (
        again(replace(contestant, thresholds=replace(contestant.thresholds, area=(1, 1, 1, 1)))) > 0
    )
    assert again(contestant) == len(names)  # its label maps were those of the other thresholds
    next(contestant.predictions.iterdir()).unlink()
    assert again(contestant) == len(names)
    assert again(contestant) == 0


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-1], lambda b: b[:-9] + b"x" * 9])
def test_a_damaged_chunk_is_evaluated_anew_and_said(
    contestant, labels, names, tmp_path, forwards, capsys, damage
):
    (before,) = evaluate([contestant], labels, names, CONTEXT, tmp_path / "state")
    (chunk,) = (tmp_path / "state").glob("*.npz")
    chunk.write_bytes(damage(chunk.read_bytes()))
    forwards.clear()
    (again,) = evaluate([contestant], labels, names, CONTEXT, tmp_path / "state")
    assert sum(forwards) == len(names)
    assert f"{chunk} was damaged" in capsys.readouterr().out
    for name, array in vars(before).items():
        np.testing.assert_array_equal(getattr(again, name), array)
    evaluate([contestant], labels, names, CONTEXT, tmp_path / "state")
    assert sum(forwards) == len(names)


def test_a_damaged_label_map_is_said(tmp_path):
    for content in (b"", b"\x89PNG\r\n"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.png .*(\n.*)*Delete this file"):
            read_prediction(tmp_path / "a.png")


def test_label_maps_of_images_no_longer_asked_for_go(contestant, labels, names, tmp_path):
    def left(part):
        evaluate([contestant], labels, part, CONTEXT, tmp_path / "state")
        return sorted(path.name for path in contestant.predictions.iterdir())

    contestant.predictions.mkdir(parents=True)
    foreign = contestant.predictions / "mine.png"
    foreign.write_bytes(b"not written by an evaluation")
    assert left(names[:3]) == sorted([*(f"{name}.png" for name in names[:3]), "mine.png"])
    foreign.unlink()
    assert left(names[2:5]) == [f"{name}.png" for name in names[2:5]]


def test_what_thresholds_were_chosen_for_makes_nothing_new(
    contestant, labels, names, tmp_path, forwards
):
    evaluate([contestant], labels, names, CONTEXT, tmp_path / "state")
    forwards.clear()
    renamed = replace(contestant, thresholds=replace(contestant.thresholds, aim="a coin"))
    evaluate([renamed], labels, names, CONTEXT, tmp_path / "state")
    assert forwards == []


def test_other_weights_make_figures_new(contestant, trained_run, labels, names, tmp_path, forwards):
    weights = torch.load(trained_run / "best.pt", weights_only=True)
    weights["metrics"]["note"] = 1.0
    run = replace(contestant.segmenter.run, path=tmp_path)
    torch.save(weights, tmp_path / "best.pt")
    evaluate([contestant], labels, names, CONTEXT, tmp_path / "state")
    forwards.clear()
    contestant.segmenter.run = run
    evaluate([contestant], labels, names, CONTEXT, tmp_path / "state")
    assert sum(forwards) == len(names)
