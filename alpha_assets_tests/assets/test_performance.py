"""Outcomes and performance come in the run of the signals, over all symbols, whichever of them the run is for."""

import polars as pl

from alpha_assets.automation.jobs import REFRESH
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.stores.lake import SIGNALS
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets_tests.assets.world import NOW, World, said


def tell(world: World, symbol: str) -> None:
    """BUY on each of the last ten bars."""
    stamps = world.lake.read("bars", symbols=[symbol], columns=["timestamp"])["timestamp"].tail(10)
    row = {"symbol": symbol, "signal": "BUY", "confidence": 0.6, "reason": "told by a test", "created_at": NOW}
    rows = [{**row, "bar_time": stamp, "signal_id": f"{symbol}{stamp}"} for stamp in stamps]
    frame = [{name: row.get(name) for name in SIGNALS} for row in rows]
    world.lake.append("signals", pl.DataFrame(frame, schema=dict(SIGNALS)))


def test_a_refresh_of_one_symbol_books_and_tells_what_became_of_all(world: World) -> None:
    world.follow("AAA", "BBB")
    first = world.run("refresh", REFRESH, ["AAA", "BBB"])
    (told,) = said(first, "strategy_performance").values()
    assert told["run"]["cells"] == 0
    assert "picture" not in told
    tell(world, "AAA")
    tell(world, "BBB")
    # Signals of bars before those that were traded already are seen by a rebuild alone.
    tags = {"dagster/asset_partition_range_start": "AAA", "dagster/asset_partition_range_end": "AAA"}
    result = world.launch("refresh", tags, {"ops": {"signal_outcomes": {"config": {"rebuild": True}}}})
    assert result.success
    (outcomes,) = said(result, "signal_outcomes").values()
    assert outcomes["run"]["symbols"] == 2
    # Of ten signals of each symbol eight are over, one is held, and one waits for its open.
    assert outcomes["run"]["closed"] == 16
    (told,) = said(result, "strategy_performance").values()
    assert told["strategies"]["blend"]["closed"] == 16
    assert told["picture"].startswith("![account")
    assert DISCLAIMER in told["picture"]
    assert {row["symbol"] for row in Outcomes(world.ledger).performance()} == {"*", "AAA", "BBB"}
