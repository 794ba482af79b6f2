"""The vault: no fold is tested on the newest dates, refits know them all, and a release reads them once."""

from dataclasses import replace
from pathlib import Path

import pytest

from alpha_assets.quant.symbols import REGIMES
from alpha_assets.stations.base import StationFailed
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.train import shut_from
from alpha_assets.stations.trials import family
from alpha_assets.stations.vault import VaultRead, read_vault
from alpha_assets.stores.registry import PROMOTION
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


def test_without_a_share_there_is_nothing_to_read(featured: Path, tmp_path: Path) -> None:
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, vault_share=0.0))
    with pytest.raises(StationFailed, match="ALPHA_LEARNING__VAULT_SHARE is 0"):
        read(line)
