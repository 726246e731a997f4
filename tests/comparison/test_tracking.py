"""A comparison in wandb: table, plots and overlays; and a wandb that fails harms nothing."""

import pytest
import wandb

from common.comparison import plots, report
from common.comparison.tracking import log_comparison
from tests import report_example


class FakeRun:
    def __init__(self):
        self.logged, self.summary = {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def log(self, values):
        self.logged |= values


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    results = report_example.results()
    folder = tmp_path_factory.mktemp("report")
    pictures = plots.save_all(results, folder / "plots")
    return (
        results,
        report.table(results),
        pictures,
        report_example.gallery(2),
        folder,
        "mine",
        "ours",
    )


def test_wandb_gets_table_plots_overlays_and_figures(comparison, monkeypatch):
    fake, arguments = FakeRun(), {}
    monkeypatch.setattr(wandb, "init", lambda **kwargs: arguments.update(kwargs) or fake)
    log_comparison(*comparison, mode=None)
    results, table, pictures, gallery, *_ = comparison
    assert (arguments["project"], arguments["group"]) == ("mine", "ours")
    assert arguments["job_type"] == "compare"
    assert arguments["mode"] == "offline"  # there is no key
    assert fake.logged["comparison"].columns == list(table.columns)
    assert {f"plots/{path.stem}" for path in pictures} <= set(fake.logged)
    names = [variant["name"] for variant in results["variants"]]
    assert [set(image._masks) for image in fake.logged["predictions"]] == [
        {"truth", *names} for _ in gallery
    ]
    for variant in results["variants"]:
        value = variant["scores"]["kaggle_dice"]["value"]
        assert fake.summary[f"{variant['name']}/kaggle_dice"] == value


def test_disabled_means_that_wandb_is_not_called(comparison, monkeypatch):
    monkeypatch.setattr(wandb, "init", None)
    log_comparison(*comparison, mode="disabled")


@pytest.mark.parametrize("where", ["init", "log"])
def test_a_failing_wandb_is_said_and_passed_over(comparison, monkeypatch, capsys, where):
    def fails(*_, **__):
        raise wandb.errors.CommError("unreachable")

    fake = FakeRun()
    fake.log = fails
    monkeypatch.setattr(wandb, "init", fails if where == "init" else lambda **_: fake)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    log_comparison(*comparison, mode="online")
    assert "unreachable" in capsys.readouterr().out


def test_an_offline_run_is_kept_in_the_report(comparison):
    log_comparison(*comparison, mode="offline")
    (run,) = (comparison[4] / "wandb").glob("offline-run-*")
    assert list(run.glob("run-*.wandb"))
