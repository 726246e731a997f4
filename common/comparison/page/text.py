"""Figures as text for the report page: one rule for each kind of figure, and never "nan"."""

from __future__ import annotations

from typing import Any

THIN = "\N{NARROW NO-BREAK SPACE}"


def score(value: float) -> str:
    """A metric: three decimals, fewer once they say nothing; a true minus sign."""
    size = abs(value)
    return _minus(f"{value:.{3 if size < 10 else 1 if size < 1000 else 0}f}")


def signed(value: float) -> str:
    """A difference of two metrics, its sign always shown (a zero has none)."""
    text = score(value)
    return text if value <= 0 or not any(digit in text for digit in "123456789") else f"+{text}"


def interval(low: float | None, high: float | None) -> str:
    """An interval in brackets; empty where a side is not known."""
    return "" if low is None or high is None else f"[{score(low)}, {score(high)}]"


def amount(value: float) -> str:
    """Milliseconds, GFLOP and the like: about three significant digits."""
    size = abs(value)
    if size >= 1e6:
        return f"{_minus(f'{value / 1e6:.{2 if size < 1e8 else 0}f}')}{THIN}M"
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2
    return _minus(f"{value:,.{decimals}f}").replace(",", THIN)


def count(value: float) -> str:
    """A whole number, thousands set apart."""
    return _minus(f"{value:,.0f}").replace(",", THIN)


def times(ratio: float) -> str:
    """How often something is done in the time of another: "4.1", "22"."""
    return f"{ratio:.2g}" if ratio < 9.95 else count(ratio)


def area(pixels: float) -> str:
    """A number of pixels, short: 350, 2.5k, 25k."""
    return count(pixels) if pixels < 1000 else f"{pixels / 1000:.3g}k"


def input_size(variant: dict[str, Any]) -> str:
    """What a variant's network sees of an image, in pixels: "128×800"."""
    return f"{variant['height']}×{variant['width']}"


def size_range(entry: dict[str, Any]) -> str:
    """A size bin of results, in pixels: "1k–4k", "64k+"."""
    low, high = entry["low_px"], entry["high_px"]
    return f"{area(low)}+" if high is None else f"{area(low)}–{area(high)}"


def names(items: list) -> str:
    """ "a", "a and b", "a, b and c"."""
    texts = [str(item) for item in items]
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]])) if texts else ""


def trainings(variant: dict[str, Any]) -> str:
    """How many trainings a variant has: "2"; "2 in 5 folds" where each is a run a fold.

    Empty where predictions are all that is known.
    """
    if not variant["runs"]:
        return ""
    return f"{variant['seeds']}" + (f" in {variant['folds']} folds" if variant["folds"] else "")


def versions(runs: list[dict]) -> str:
    """What runs were trained with, each set of versions once: "torch 2.14.1, numpy 2.4.6".

    Empty where no run says. runs: each one's versions by name; what it has not is left out.
    """
    sets = [", ".join(f"{name} {k}" for name, k in run.items() if k is not None) for run in runs]
    return "; ".join(filter(None, dict.fromkeys(sets)))


def _minus(text: str) -> str:
    # "-0.000" is a zero that rounding left with a sign.
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")
