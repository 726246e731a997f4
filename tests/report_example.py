"""An invented comparison for the report page's tests: seeded, believable, measured by nobody."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from common.comparison.page.page import GalleryItem

CLASSES = (1, 2, 3, 4)
METRIC = "dice_positive_macro"
BEST, SLOW, FAST = "unet_128x800", "unet_64x400", "modified_unet 256x1600"
# name, variant, height, width, parameters, convolutions, GFLOP, ms, skill
VARIANTS = (
    (BEST, "unet_128x800", 128, 800, 14_320_000, 18, 176.0, 1192.0, 0.74),
    (SLOW, "unet_64x400", 64, 400, 14_320_000, 18, 31.8, 281.0, 0.62),
    (FAST, "modified_unet", 256, 1600, 1_160_000, 40, 3.6, 28.6, 0.73),
)
DIFFICULTY = {1: 0.72, 2: 0.63, 3: 1.06, 4: 1.12}
OVERALL = {
    METRIC: ("Positive Dice, mean over classes", 1.0),
    "dice_positive": ("Positive Dice", 1.05),
    "dice_mean": ("Dice, mean over classes", 1.02),
    "iou_mean": ("IoU, mean over classes", 0.86),
    "iou_mean_with_background": ("IoU, mean over classes and background", 0.95),
    "kaggle_dice": ("Kaggle Dice", 1.21),
    "empty_accuracy": ("Empty accuracy", 1.23),
    "accuracy": ("Pixel accuracy", 1.31),
    "reference_accuracy": ("Accuracy, the reference's way", 1.33),
    "reference_iou": ("IoU, the reference's way", 1.31),
    "reference_dice": ("Dice, the reference's way", 1.32),
}
FAMILIES = {
    "dice_positive_class": ("Positive Dice", 1.0), "dice_class": ("Dice", 1.02),
    "iou_class": ("IoU", 0.86), "precision_class": ("Precision", 1.1),
    "recall_class": ("Recall", 1.05), "f1_class": ("F1", 1.07), "auroc_class": ("AUROC", 1.25),
}  # fmt: skip
BASELINE = {"accuracy": 0.968, "kaggle_dice": 0.859, "false_alarms_per_clean_image": 0.0}


def results(seed: int = 0) -> dict:
    """results.json of three variants; class 2 has no AUROC, and the device counts no memory."""
    rng = np.random.default_rng(seed)
    metrics = {
        key: _about(title, None if key.startswith("reference") else "higher")
        for key, (title, _) in OVERALL.items()
    }
    metrics["false_alarms_per_clean_image"] = _about("False alarms per clean image", "lower")
    metrics["false_alarms_per_clean_image"]["unit"] = "alarms"
    for (family, (title, _)), k in itertools.product(FAMILIES.items(), CLASSES):
        metrics[f"{family}_{k}"] = _about(f"{title}, class {k}", "higher")
    variants = [_variant(rng, metrics, *row) for row in VARIANTS]
    floor = {f"{family}_{k}": 0.0 for family in ("dice_class", "iou_class") for k in CLASSES}
    floor |= {key: 0.0 for key in metrics if key.startswith(("dice_positive", "iou_m", "dice_m"))}
    floor |= BASELINE
    return {
        "created": "2031-05-06T07:08:09+00:00",
        "notes": [],
        "command": "python -m common.compare runs/a runs/b runs/c --out report",
        "data": {
            "root": "data/synthetic", "fingerprint": "0f1e2d3c4b5a", "images": 1257,
            "clean_images": 590, "groups": 903, "classes": list(CLASSES),
            "class_titles": [str(k) for k in CLASSES],
            "sizes": [{"height": 256, "width": 1600, "images": 1257}],
        },
        "machine": {"device": "cpu", "threads": 2, "precision": "fp32", "torch": "2.14.0"},
        "baseline": {key: floor.get(key, float("nan")) for key in metrics},
        "metrics": metrics,
        "variants": variants,
        "differences": _differences(rng, variants, metrics, "scores"),
        "differences_thresholded": _differences(rng, variants, metrics, "thresholded"),
        "against_nothing": _against_nothing(variants, floor, "scores"),
        "against_nothing_thresholded": _against_nothing(variants, floor, "thresholded"),
    }  # fmt: skip


def _against_nothing(variants: list[dict], floor: dict, decision: str) -> list[dict]:
    return [
        _entry(v["name"], "predicting nothing", key, v[decision][key]["value"] - floor[key], 0.05)
        for v in variants
        for key in v[decision]
        if key in floor
    ]


def gallery(items: int, seed: int = 0, shape: tuple[int, int] = (256, 1600)) -> list[GalleryItem]:
    """Noisy rolled strips with defects, and predictions that miss, invent and confuse some."""
    rng = np.random.default_rng(seed)
    return [_item(rng, number, shape) for number in range(items)]


def _about(title: str, better: str | None) -> dict:
    note = f"{title} over the test images at their own size; an invented figure for a test."
    return {"title": title, "explanation": note, "better": better, "unit": ""}


def _variant(
    rng, metrics, name, variant, height, width, parameters, convs, gflop, ms, skill
) -> dict:
    scores = {key: _score(rng, key, skill) for key in metrics}
    scores["auroc_class_2"] = dict.fromkeys(("value", "low", "high", "seed_std"), float("nan"))
    thresholded = {key: _score(rng, key, skill + 0.01) for key in metrics}
    thresholded["auroc_class_2"] = scores["auroc_class_2"]
    edges = [(0, 500), (500, 2000), (2000, 8000), (8000, 32000), (32000, float("inf"))]
    recalls = [
        {"class": k, "low_px": low, "high_px": high, "count": int(120 / (i + 1) / (1 + (k or 0))),
         **_interval(rng, min(0.97, skill * (0.45 + 0.16 * i)), 0.03 * (i + 1))}
        for k in (None, *CLASSES) for i, (low, high) in enumerate(edges)
    ]  # fmt: skip
    for entry in recalls:
        entry["recall"] = entry.pop("value")
    probability = np.linspace(0.05, 0.95, 10)
    return {
        "name": name, "variant": variant, "training_seconds": 40 * gflop,
        "network": "unet_128x800 and unet_64x400" if parameters > 10**7 else variant,
        "height": height, "width": width, "share": 1.0, "train_images": 9000.0,
        "runs": [f"runs/{variant}-{seed}" for seed in range(2)], "seeds": 2, "folds": None,
        "predictions": None,
        "versions": [{"python": "3.11.7", "torch": "2.14.0", "cuda": None}] * 2,
        "epochs": [{"done": 30, "planned": 30}] * 2,
        "parameters": parameters, "conv_layers": convs, "gflop": gflop,
        "latency": {
            "batch": 1, "median_ms": ms, "low_ms": ms * 0.96, "high_ms": ms * 1.09,
            "preprocess_ms": 1.1, "network_ms": ms - 6, "postprocess_ms": 4.9,
        },
        "throughput": {
            "batch": 8, "images_per_second": 1180 / ms, "low": 1110 / ms, "high": 1230 / ms
        },
        "peak_memory_mb": None,
        "scores": scores, "thresholded": thresholded,
        "thresholds": {
            "probability": [0.5, 0.55, 0.6, 0.45], "area": [300, 0, 600, 900],
            "total": [512, 0, 0, 1024],
            "peak": [0.5, 0.8, 0.6, 0.9], "aim": "balanced",
        },
        "thresholds_curve": [
            {"class": k, "probability": p, "dice_positive": skill * (1.2 - p) if k != 2 else None,
             "empty_accuracy": p ** 0.2, "taken": p == 0.5}
            for k in CLASSES for p in (0.1, 0.3, 0.5, 0.7, 0.9)
        ],
        "size_recall": recalls,
        "size_recall_thresholded": [
            entry | {"recall": 0.9 * entry["recall"], "low": 0.9 * entry["low"]}
            for entry in recalls
        ],
        "calibration": [
            {"probability": p, "frequency": p ** (2 - skill), "pixels": int(9e6 * (1 - p) ** 3)}
            for p in probability.tolist()
        ],
        "curves": [_curve(rng, f"runs/{variant}-{seed}", skill) for seed in range(2)],
    }  # fmt: skip


def _score(rng, key: str, skill: float) -> dict:
    family, _, k = key.rpartition("_")
    if key in OVERALL:
        value, spread = skill * OVERALL[key][1], 0.02
    elif key == "false_alarms_per_clean_image":
        value, spread = 0.42 * (1 - skill), 0.03
    else:
        value, spread = skill * FAMILIES[family][1] * DIFFICULTY[int(k)], 0.05
    return {**_interval(rng, min(value, 0.985), spread), "seed_std": 0.004}


def _interval(rng, value: float, spread: float) -> dict:
    low, high = value - spread * rng.uniform(0.8, 1.2), value + spread * rng.uniform(0.8, 1.2)
    return {"value": value, "low": max(low, 0.0), "high": min(high, 1.0)}


def _differences(rng, variants: list, metrics: dict, decision: str) -> list[dict]:
    return [
        _entry(
            a["name"], b["name"], metric,
            a[decision][metric]["value"] - b[decision][metric]["value"],
            0.02 * rng.uniform(0.9, 1.1),
        )
        for a, b in itertools.combinations(variants, 2)
        for metric in metrics
        if metric != "auroc_class_2"  # of which no difference can be measured
    ]  # fmt: skip


def _entry(a: str, b: str, metric: str, value: float, half: float) -> dict:
    return {
        "a": a, "b": b, "metric": metric, "difference": value,
        "low": value - half, "high": value + half, "holds": bool(abs(value) > half),
    }  # fmt: skip


def _curve(rng, run: str, skill: float) -> dict:
    epoch = np.arange(1, 31)
    noise = rng.normal(0, 0.01, (3, len(epoch)))
    fall = np.exp(-epoch / 9)
    return {
        "run": run,
        "epoch": epoch.tolist(),
        "train_loss": (0.18 + 0.9 * fall + noise[0]).tolist(),
        "val_loss": (0.27 + 0.8 * fall + 0.002 * epoch + 2 * noise[1]).tolist(),
        "val_dice_mean": (skill * (1 - fall) + noise[2]).tolist(),
    }


def _item(rng, number: int, shape: tuple[int, int]) -> GalleryItem:
    rolling = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 40, sigmaY=1)
    light = np.linspace(-25, 25, shape[1])[None] * rng.uniform(-1, 1)
    surface = 120 + light + 160 * rolling + rng.normal(0, 5, shape)
    truth = np.zeros(shape, np.uint8)
    predictions = {row[0]: np.zeros(shape, np.uint8) for row in VARIANTS}
    for _ in range(number % 4):
        blob = _blob(rng, shape) & (truth == 0)
        k = int(rng.choice(CLASSES))
        truth[blob] = k
        surface[blob] += rng.uniform(-45, 45)
        for row in VARIANTS:
            if rng.random() < row[-1] + 0.1:
                moved = _moved(blob, *rng.uniform(-9, 9, 2))
                predictions[row[0]][moved] = k if rng.random() < 0.85 else k % 4 + 1
    for row in VARIANTS:
        if rng.random() < 0.3:
            predictions[row[0]][_blob(rng, shape)] = int(rng.choice(CLASSES))
    dice = {name: _dice(truth, prediction) for name, prediction in predictions.items()}
    image = np.clip(surface, 0, 255).astype(np.uint8)
    return GalleryItem(f"{rng.integers(16**8):08x}.jpg", image, truth, predictions, dice)


def _blob(rng, shape: tuple[int, int]) -> np.ndarray:
    """A ragged region, longer or higher."""
    canvas = np.zeros(shape, np.uint8)
    centre = tuple(int(rng.uniform(0.1, 0.9) * side) for side in reversed(shape))
    for _ in range(6):
        at = tuple(int(c + rng.normal(0, 25)) for c in centre)
        axes = tuple(int(v) for v in rng.uniform(6, 55, 2))
        cv2.ellipse(canvas, at, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return canvas > 0


def _moved(region: np.ndarray, right: float, down: float) -> np.ndarray:
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return cv2.warpAffine(region.astype(np.uint8), matrix, region.shape[::-1]) > 0


def _dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    present = np.unique(truth[truth > 0])
    if not len(present):
        return float(not prediction.any())
    masks = [(truth == k, prediction == k) for k in present]
    return float(np.mean([2 * (t & p).sum() / (t.sum() + p.sum()) for t, p in masks]))
