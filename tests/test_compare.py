"""The comparison from the command line: right figures, whole outputs, refusals in words."""

import json
import shlex
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from common import rle
from common.compare import main
from common.comparison import timing
from common.comparison.evaluate import read_prediction
from common.files import without_nan
from common.labels import load
from common.metrics import baselines, confusion, scores
from common.pixels import read_image
from common.thresholds import Thresholds
from tests import report_example, tiny


def derived(run, folder, noise=0.0, **options):
    """A copy of a run that pretends to have been trained with other options."""
    shutil.copytree(run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["options"] |= options
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = torch.load(folder / "best.pt", weights_only=True)
    torch.manual_seed(options.get("seed", 0))
    for name, tensor in checkpoint["model"].items():
        if name.endswith("weight"):
            tensor.add_(noise * tensor.std(correction=0) * torch.randn_like(tensor))
    torch.save(checkpoint, folder / "best.pt")
    return folder


@pytest.fixture(scope="module")
def three_runs(trained_run, tmp_path_factory):
    """Two seeds at one size, and a third run at another."""
    folder = tmp_path_factory.mktemp("compared")
    first = derived(trained_run, folder / "first")
    seed = derived(trained_run, folder / "seed", noise=0.3, seed=7)
    for run in (first, seed):  # chosen by hand, so that there are predictions to count
        Thresholds((0.15,) * 4, (0, 0, 50, 0)).save(run)
    larger = derived(trained_run, folder / "larger", noise=0.1, height=64, width=400)
    return [first, seed, larger]


@pytest.fixture(scope="module")
def report(three_runs, tmp_path_factory):
    """The folder of a finished comparison."""
    out = tmp_path_factory.mktemp("report")
    assert compare(three_runs, out) == 0
    return out


def compare(runs, out, *options):
    """Calls the command with as little timing as there can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "BATCHES", (1,))
        patch.setattr(timing, "peak_memory_mb", lambda *_: 1.0)
        arguments = ["--device", "cpu", "--repeats", "1", "--resamples", "200", *options]
        if "--wandb" not in options:
            arguments += ["--wandb", "disabled"]
        return main([*map(str, runs), "--out", str(out), *arguments])


@pytest.fixture(scope="module")
def results(report):
    return json.loads((report / "results.json").read_text())


@pytest.fixture(scope="module")
def truths(three_runs, dataset):
    """(names of the test images, their label maps)."""
    labels = load(dataset)
    split = pd.read_csv(three_runs[0] / "split.csv")
    names = sorted(split.loc[split["split"] == "test", "image"])
    return names, np.stack([labels.label_map(name, (256, 1600)) for name in names])


def test_everything_is_written(report, truths):
    written = {path.name for path in report.iterdir()}
    assert written >= {
        "results.csv", "results.json", "results.md", "index.html", "plots", "predictions",
    }  # fmt: skip
    assert "<html" in (report / "index.html").read_text()
    assert len(pd.read_csv(report / "results.csv")) == 3
    assert len(list((report / "plots").glob("*.png"))) == 10  # one network at two sizes
    for run in ("first", "seed", "larger"):
        maps = sorted((report / "predictions" / run).iterdir())
        assert [path.name for path in maps] == [f"{name}.png" for name in truths[0]]


def test_results_have_the_form_that_the_page_reads(results):
    def form(value):
        if isinstance(value, dict):
            return {key: form(item) for key, item in value.items()}
        return [form(value[0])] if isinstance(value, list) and value else None

    # The first variant's decision was made by hand, so it has no curve; the second has one.
    curved = results | {"variants": results["variants"][1:]}
    assert form(results)["variants"][0]["thresholds_curve"] is None
    ours, example = form(curved), form(without_nan(report_example.results()))
    for part in ("metrics", "baseline"):
        assert set(ours.pop(part)) >= set(example.pop(part))
    for form_of in (ours, example):
        assert form_of["variants"][0].pop("versions")[0].keys() >= {"python", "torch"}
        for decision in ("scores", "thresholded"):
            every = form_of["variants"][0].pop(decision)
            assert every["dice_mean"] == dict.fromkeys(("value", "low", "high", "seed_std"))
    assert ours == example
    assert "NaN" not in json.dumps(results)


def test_seeds_are_pooled_and_sizes_are_apart(results):
    first, second = results["variants"]
    assert [first["name"], second["name"]] == ["modified_unet 32x200", "modified_unet 64x400"]
    assert (first["seeds"], second["seeds"]) == (2, 1)
    assert first["scores"]["dice_mean"]["seed_std"] > 0
    assert second["scores"]["dice_mean"]["seed_std"] is None
    assert len(first["curves"]) == 2
    assert first["curves"][0]["epoch"] == [1, 2]
    assert first["gflop"] < second["gflop"]
    assert first["parameters"] == second["parameters"]
    assert first["network"] == second["network"] == "modified_unet"
    assert 0 < second["training_seconds"] < 100


def test_thresholded_figures_follow_from_the_label_maps(report, results, truths):
    names, truth = truths

    def of(run):
        folder = report / "predictions" / run
        maps = np.stack([read_prediction(folder / f"{name}.png") for name in names])
        return scores(confusion(maps, truth))

    first, seed, larger = of("first"), of("seed"), of("larger")
    pooled, single = (variant["thresholded"] for variant in results["variants"])
    for metric in ("dice_mean", "kaggle_dice", "iou_class_3", "dice_positive", "accuracy"):
        mean = (first[metric] + seed[metric]) / 2
        assert pooled[metric]["value"] == pytest.approx(mean), metric
        spread = np.std([first[metric], seed[metric]], ddof=1)
        assert spread > 0, metric
        assert pooled[metric]["seed_std"] == pytest.approx(spread, abs=1e-12), metric
        assert single[metric]["value"] == pytest.approx(larger[metric]), metric


def test_the_baseline_is_the_empty_prediction_of_the_test_images(results, truths):
    counts = np.stack([np.bincount(truth.ravel(), minlength=5) for truth in truths[1]])
    expected = baselines(torch.from_numpy(counts))["empty"]
    for metric in ("kaggle_dice", "accuracy", "dice_mean"):
        assert results["baseline"][metric] == pytest.approx(expected[metric])
    assert results["data"]["clean_images"] == (counts[:, 1:].sum(axis=1) == 0).sum()
    assert results["data"]["images"] == len(truths[0])


def test_differences_are_those_of_the_figures_and_hold_away_from_zero(results):
    a, b = results["variants"]
    assert results["differences"]
    for entry in results["differences"]:
        values = [v["scores"][entry["metric"]]["value"] for v in (a, b)]
        assert (entry["a"], entry["b"]) == (a["name"], b["name"])
        assert entry["difference"] == pytest.approx(values[0] - values[1])
        assert entry["low"] <= entry["high"]
        assert entry["holds"] == (entry["low"] > 0 or entry["high"] < 0)


def test_intervals_hold_the_figures(results):
    for variant in results["variants"]:
        for metric, score in variant["scores"].items():
            if None not in (score["value"], score["low"]) and "auroc" not in metric:
                slack = 1e-9
                assert score["low"] - slack <= score["value"] <= score["high"] + slack, metric


def test_thresholds_are_kept_in_the_run_and_are_those_of_the_report(three_runs, results):
    by_hand, chosen = (
        json.loads((three_runs[run] / "thresholds.json").read_text()) for run in (0, 2)
    )
    assert by_hand["area"] == [0, 0, 50, 0]
    assert results["variants"][0]["thresholds"] == by_hand
    assert results["variants"][1]["thresholds"] == chosen
    assert chosen["aim"] == "balanced"  # nothing else was asked for
    assert results["variants"][0]["thresholds_curve"] == []
    curve = pd.DataFrame(results["variants"][1]["thresholds_curve"])
    taken = curve[curve["taken"]]
    assert taken["class"].tolist() == [1, 2, 3, 4]
    assert taken["probability"].tolist() == chosen["probability"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--aim", "fame"], "fame"),
        (["--aim", "alarms"], "go together"),
        (["--aim", "kaggle", "--alarms-per-100", "3"], "go together"),
        (["--aim", "alarms", "--alarms-per-100", "100"], "between 0 and 100"),
        (["--aim", "positive"], "--aim positive and --empty-accuracy E go together"),
        (["--aim", "kaggle", "--empty-accuracy", "0.9"], "go together"),
        (["--aim", "positive", "--empty-accuracy", "1"], "between 0 and 1"),
    ],
)
def test_aims_that_cannot_be_are_refused_at_once(options, said, tmp_path, capsys):
    assert main([str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err


def test_an_aim_chooses_anew_and_says_where_val_cannot_show_it(three_runs, tmp_path, capsys):
    run = shutil.copytree(three_runs[2], tmp_path / "run")
    options = ["--aim", "alarms", "--alarms-per-100"]
    assert compare([run], tmp_path / "report", *options, "1") == 2
    said = capsys.readouterr().err
    assert "cannot show a rate of 0.01: that takes at least 100 clean ones" in said
    assert "common.alarms RUN --clean" in said
    assert compare([run], tmp_path / "report", *options, "60") == 0
    chosen = json.loads((run / "thresholds.json").read_text())
    assert chosen["aim"] == "alarms, 60 per 100"
    assert not (run / "thresholds_curve.csv").exists()
    (variant,) = json.loads((tmp_path / "report" / "results.json").read_text())["variants"]
    assert variant["thresholds"] == chosen


def test_again_gives_the_same_figures_without_the_networks(
    three_runs, report, results, monkeypatch, capsys
):
    from common.comparison import evaluate

    monkeypatch.setattr(evaluate, "_evaluate_chunk", None)  # would fail if it were called
    assert compare(three_runs, report) == 0
    again = json.loads((report / "results.json").read_text())
    measured = {"latency", "throughput"}
    for before, after in zip(results["variants"], again["variants"], strict=True):
        assert {k: v for k, v in before.items() if k not in measured} == {
            k: v for k, v in after.items() if k not in measured
        }
    assert before["scores"] == after["scores"]
    assert again["differences"] == results["differences"]
    said = capsys.readouterr().out
    assert "modified_unet 32x200" in said
    assert "Kaggle Dice" in said
    assert str(report / "index.html") in said


def test_figures_with_thresholds_have_differences_of_their_own(results):
    a, b = (variant["thresholded"] for variant in results["variants"])
    plain = {entry["metric"]: entry for entry in results["differences"]}
    assert results["differences_thresholded"]
    for entry in results["differences_thresholded"]:
        metric = entry["metric"]
        assert entry["difference"] == pytest.approx(a[metric]["value"] - b[metric]["value"])
    assert any(entry != plain.get(entry["metric"]) for entry in results["differences_thresholded"])


@pytest.mark.parametrize("decision", ["scores", "thresholded"])
def test_every_variant_is_compared_with_predicting_nothing_in_pairs(results, decision):
    kind = "against_nothing" if decision == "scores" else "against_nothing_thresholded"
    found = {(entry["a"], entry["metric"]): entry for entry in results[kind]}
    for variant in results["variants"]:
        entry = found[variant["name"], "dice_mean"]
        score = variant[decision]["dice_mean"]
        assert results["baseline"]["dice_mean"] == 0
        # Against a constant the difference has the interval of the figure itself,
        assert entry["difference"] == pytest.approx(score["value"])
        # and is wider for being one of two.
        own = score["high"] - score["low"]
        assert 1.1 * own <= entry["high"] - entry["low"] <= 1.2 * own
        if decision == "thresholded":  # which may report nothing, after so little training
            continue
        assert own > 0
        kaggle, alone = found[variant["name"], "kaggle_dice"], variant["scores"]["kaggle_dice"]
        paired = kaggle["high"] - kaggle["low"]
        assert paired != pytest.approx(alone["high"] - alone["low"])


def test_the_epochs_of_every_training_are_recorded(results, three_runs, tmp_path, capsys):
    assert [variant["epochs"] for variant in results["variants"]] == [
        [{"done": 2, "planned": 2}] * 2,
        [{"done": 2, "planned": 2}],
    ]
    half = derived(three_runs[2], tmp_path / "half", epochs=5)
    assert compare([half], tmp_path / "report") == 0
    assert "half was trained for 2 of 5 epochs" in capsys.readouterr().out


def test_the_recorded_command_is_the_one_that_was_given(three_runs, tmp_path):
    out = tmp_path / "my report"
    assert compare(three_runs[2:], out, "--seed", "3") == 0
    command = json.loads((out / "results.json").read_text())["command"]
    assert command.startswith(f"python -m common.compare {three_runs[2]} --out '{out}' ")
    assert shlex.split(command)[-4:] == ["--seed", "3", "--wandb", "disabled"]


@pytest.fixture
def mixed(tmp_path):
    """A run on strips of two sizes, the smaller ones fewer."""
    root = tiny.make_data(tmp_path / "data")
    before = load(root)
    rows = ["ImageId,ClassId,EncodedPixels"]
    for number, name in enumerate(before.images):
        image = read_image(before.path(name))
        truth = before.label_map(name, image.shape)
        width = 320 if number % 3 else 240
        cv2.imwrite(str(before.path(name)), image[:, :width])
        for k in np.unique(truth[:, :width][truth[:, :width] > 0]):
            rows.append(f"{name},{k},{rle.encode((truth[:, :width] == k).astype(np.uint8))}")
    (root / "train.csv").write_text("\n".join(rows))
    run = tiny.make_run(tmp_path / "run", root, (32, 96), wandb_group="group")
    parts = ["test"] * 6 + ["val"] * 4 + ["train"] * (len(before.images) - 10)
    split = pd.DataFrame({"image": before.images, "split": parts, "group": before.images})
    split.to_csv(run / "split.csv", index=False)
    return run, load(root)


def test_images_of_mixed_sizes_are_scored_each_at_its_own(mixed, tmp_path):
    run, labels = mixed
    out = tmp_path / "report"
    assert compare([run], out) == 0
    split = pd.read_csv(run / "split.csv")
    names = sorted(split.loc[split["split"] == "test", "image"])
    shapes = [read_image(labels.path(name)).shape for name in names]
    results = json.loads((out / "results.json").read_text())
    said = {(s["height"], s["width"]): s["images"] for s in results["data"]["sizes"]}
    assert said == {shape: shapes.count(shape) for shape in set(shapes)}
    assert len(said) == 2
    assert results["data"]["sizes"][0]["images"] == max(said.values())

    matrices = []
    for name, shape in zip(names, shapes, strict=True):
        label_map = read_prediction(out / "predictions" / "run" / f"{name}.png")
        assert label_map.shape == shape
        matrices.append(confusion(label_map[None], labels.label_map(name, shape)[None]))
    expected = scores(torch.cat(matrices))
    (variant,) = results["variants"]
    for metric in ("dice_mean", "kaggle_dice", "accuracy"):
        assert variant["thresholded"][metric]["value"] == pytest.approx(expected[metric]), metric


def test_one_run_alone_can_be_compared_with_nothing(three_runs, tmp_path):
    assert compare(three_runs[2:], tmp_path / "report") == 0
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["differences"] == []
    assert (tmp_path / "report" / "index.html").exists()


def test_runs_of_one_name_keep_their_label_maps_apart(three_runs, tmp_path):
    other = derived(three_runs[0], tmp_path / "first", noise=0.2, seed=9)
    assert compare([three_runs[0], other], tmp_path / "report") == 0
    third = derived(three_runs[0], tmp_path / "first-2", noise=0.2, seed=10)
    assert compare([three_runs[0], other, third], tmp_path / "numbered") == 0
    for out, expected in {
        "report": ["first", "first-2"],
        "numbered": ["first", "first-2", "first-2-2"],
    }.items():
        folders = (tmp_path / out / "predictions").iterdir()
        assert sorted(path.name for path in folders) == expected


def refused(capsys, code):
    assert code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(
    three_runs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("common.comparison.compare.evaluate", lambda *_: pytest.fail("too late"))
    (tmp_path / "file").touch()
    assert compare(three_runs, tmp_path / "file") == 2
    assert f"{tmp_path / 'file'}: File exists" in capsys.readouterr().err


def test_changed_data_is_refused(three_runs, dataset, tmp_path, capsys):
    changed = tmp_path / "data"
    shutil.copytree(dataset, changed)
    next(iter((changed / "train_images").iterdir())).unlink()
    table = pd.read_csv(changed / "train.csv")
    kept = {path.name for path in (changed / "train_images").iterdir()}
    table[table["ImageId"].isin(kept)].to_csv(changed / "train.csv", index=False)
    code = compare(three_runs, tmp_path / "report", "--data", str(changed))
    message = refused(capsys, code)
    assert "fingerprint" in message
    assert "first" in message
    assert not (tmp_path / "report").exists()


def test_a_run_trained_on_the_others_test_images_is_refused(three_runs, tmp_path, capsys):
    leaky = derived(three_runs[0], tmp_path / "leaky", seed=3)
    split = pd.read_csv(leaky / "split.csv")
    turned = {"train": "test", "test": "train", "val": "val"}
    split["split"] = split["split"].map(turned)
    split.to_csv(leaky / "split.csv", index=False)
    message = refused(capsys, compare([three_runs[0], leaky], tmp_path / "report"))
    count = (split["split"] == "test").sum()  # all that the first run was trained on
    assert f"first was trained on {count} of the {count} test images of {leaky}" in message


def test_unusable_options_and_folders_are_refused(three_runs, tmp_path, capsys):
    assert "twice" in refused(capsys, compare([three_runs[0]] * 2, tmp_path / "report"))
    assert "no run directory" in refused(capsys, compare([tmp_path / "x"], tmp_path / "report"))
    message = refused(capsys, compare(three_runs, tmp_path / "report", "--batch-size", "0"))
    assert "--batch-size must be at least 1" in message
    (tmp_path / "file").write_text("in the way")
    message = refused(capsys, compare(three_runs, tmp_path / "file"))
    assert "cannot write" in message
    assert "--out" in message
