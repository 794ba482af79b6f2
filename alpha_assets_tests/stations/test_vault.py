"""The vault: no fold is tested on the newest dates, refits know them all, and a release reads them once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alpha_assets.quant.heads import Refusal
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.stations.base import StationFailed
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.train import TURNED, family_of, pool_name, shut_from
from alpha_assets.stations.trials import family
from alpha_assets.stations.vault import VaultRead, read_vault
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import PROMOTION, Registry
from alpha_assets_tests.stations.line import NOW, Line, copied
from alpha_assets_tests.stations.market import QUICK

pytestmark = pytest.mark.xdist_group("line")


def read(line: Line) -> list[dict[str, object]]:
    return read_vault(line.lake, line.ledger, line.registry, line.settings, "the release", "somebody", NOW)


def test_no_fold_is_tested_in_the_vault_while_the_refit_knows_it_and_a_release_reads_it_once(
    featured: Path, tmp_path: Path
) -> None:
    line = copied(featured, tmp_path / "home", learning=QUICK)
    shut = shut_from(line.lake, line.settings)
    dates = line.lake.read("bars")["timestamp"].unique().sort()
    assert shut == dates[-int(0.15 * len(dates))]
    train_pools(line.lake, line.ledger, line.registry, line.settings, NOW, regimes=("all",))
    assert line.train(["SIM01"]).states() == {"trained": 1}
    said = line.predictions()
    assert set(said["symbol"]) > {"SIM01"}
    assert said["timestamp"].max() < shut
    for name in ("all.pooled", "SIM01.all"):
        _, tags = line.registry.newest(name) or pytest.fail("no version")
        assert tags["trained_until"] > f"{shut:%Y-%m-%d}"
    told = {row["regime"]: row for row in read(line)}
    assert set(told) == set(REGIMES)
    assert told["all"]["dates"] in range(int(0.15 * len(dates)) - 3, int(0.15 * len(dates)))
    assert told["all"]["sharpe"] is not None
    (trial,) = line.ledger.trials(family(line.settings, "all"))
    assert (trial["source"], trial["score"]) == ("training", None), "a reading is no trial of the gate"
    (run,) = line.registry.client.search_runs(
        [line.registry.client.get_experiment_by_name(PROMOTION).experiment_id], "tags.why = 'the release'"
    )
    assert run.data.metrics["all_ts_ic"] == told["all"]["ts_ic"]
    assert (run.data.tags["who"], run.data.tags["vault_from"]) == ("somebody", f"{shut:%Y-%m-%d}")
    with pytest.raises(VaultRead, match=f"2024-01-02 12:00 UTC.*all {told['all']['sharpe']:.3f}"):
        read(line)
    for other in (replace(QUICK, learner="linear"), replace(QUICK, horizon=2)):
        with pytest.raises(VaultRead):
            read(Line(line.settings.home, learning=other))


def test_a_reading_that_mlflow_did_not_take_was_none_and_one_that_it_took_was_one(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = copied(featured, tmp_path / "home", learning=QUICK)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as fault:
        fault.setattr(Registry, "log_vault", killed)
        with pytest.raises(KeyboardInterrupt):
            read(line)
    with monkeypatch.context() as fault:
        fault.setattr(Ledger, "note_trials", killed)
        with pytest.raises(KeyboardInterrupt):
            read(line)
    with pytest.raises(VaultRead, match="its figures are in MLflow, run «vault"):
        read(line)


def test_a_reading_fits_by_what_the_search_of_these_settings_found_whatever_was_trained_since(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, search_trials=3))
    for training, recipe, rows in (("ours", family_of(line.settings), 21), ("theirs", "of other settings", 99)):
        line.registry.log_candidate(
            pool_name("all"),
            {"heads.json": b"{}"},
            training_id=training,
            columns=["x"],
            answers=["p_up"],
            parameters={},
            metrics={},
            tags={"recipe": recipe, TURNED: json.dumps({"min_leaf_rows": rows})},
            report={},
            dataset=("features", training),
            note="",
        )
    fitted: list[int] = []

    def refused(*given: Any, **_: Any) -> Refusal:
        fitted.append(given[-1].min_leaf_rows)
        return Refusal("enough was seen")

    monkeypatch.setattr("alpha_assets.stations.vault.learn", refused)
    read(line)
    assert dict(zip(REGIMES, fitted, strict=False))["all"] == 21


def test_without_a_share_there_is_nothing_to_read(featured: Path, tmp_path: Path) -> None:
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, vault_share=0.0))
    with pytest.raises(StationFailed, match="ALPHA_LEARNING__VAULT_SHARE is 0"):
        read(line)
