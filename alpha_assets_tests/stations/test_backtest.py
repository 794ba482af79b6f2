"""The backtest over a home: who speaks, that nobody had seen what followed, that looks are counted, what is logged."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.quant.parameters import BacktestParameters, SignalParameters
from alpha_assets.sources.all import Sources
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.backtest import MOST_SILENT, Wish, backtest
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.trials import family
from alpha_assets.stores.registry import BACKTEST
from alpha_assets_tests.stations.line import LIGHT, NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

FORCED = BacktestParameters(rule="sign", per_position=0.5)


def played(line: Line, wish: Wish | None = None) -> dict[str, Any]:
    return backtest(line.lake, line.ledger, line.registry, line.settings, NOW, wish=wish).told


def oof(line: Line) -> pl.DataFrame:
    return line.lake.read("predictions").filter(pl.col("origin") == "oof")


@pytest.fixture(scope="module")
def judged(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Line:
    return copied(promoted, tmp_path_factory.mktemp("judged") / "home", backtest=FORCED)


@pytest.fixture
def fresh(promoted: Path, tmp_path: Path) -> Line:
    return copied(promoted, tmp_path / "home", backtest=FORCED)


@pytest.fixture(scope="module")
def told(judged: Line) -> dict[str, Any]:
    return played(judged)


def test_every_out_of_fold_row_of_the_present_candidates_speaks_once(judged: Line, told: dict[str, Any]) -> None:
    assert told["state"] == "done"
    assert told["of"]["oof"] == oof(judged).height
    assert told["of"]["late_rows_left_out"] == 0
    assert told["trades"]["decisions"] == told["of"]["rows"]
    assert told["of"]["cells"] == len(SYMBOLS)
    first = oof(judged)["timestamp"].min()
    assert told["period"]["first"] == f"{first:%Y-%m-%d}"


def test_a_planted_edge_earns_before_costs_and_the_delisted_symbol_is_counted(told: dict[str, Any]) -> None:
    assert told["trades"]["gross"]["low"] > 0
    assert told["universe"]["gone"] == ["SIM03"]
    assert told["universe"]["survivor_biased"]
    assert set(told["benchmarks"]) == {"universe"}


def test_a_symbol_that_is_retired_is_neither_delisted_nor_gone(fresh: Line) -> None:
    rows, bars = oof(fresh), fresh.lake.read("bars", symbols=["SIM01"])["timestamp"]
    word = rows.filter(pl.col("symbol") == "SIM01").sort("timestamp")[-1:]
    at = pl.lit(bars[-2]).cast(rows.schema["timestamp"])
    fresh.lake.append("predictions", word.with_columns(timestamp=at, origin=pl.lit("live"), learnt_until=None))
    fresh.ledger.retire(["SIM01"], later(hours=1))
    Simulated(fresh.settings).advance(40)
    ingest(fresh.lake, fresh.ledger, Sources(fresh.settings), fresh.settings, SYMBOLS[1:], later(days=60))
    found = played(fresh)
    assert found["universe"]["gone"] == ["SIM03"]
    assert found["trades"]["retired"] == 1
    assert "delisted" not in found["trades"]


def ended(line: Line, symbol: str, source: str, sessions: int) -> None:
    """Of this symbol there is no bar of the last sessions, and it is the only one of its source."""
    bars = line.lake.read("bars", symbols=[symbol])[:-sessions]
    line.lake.replace("bars", bars, [symbol])
    line.ledger.add_symbols([{"symbol": symbol, "source": source, "calendar": "XNYS", "added_at": NOW}])
    line.ledger.note_state([{"symbol": symbol, "last_bar": bars["timestamp"][-1], "bars": bars.height}])


def test_a_halt_that_ends_after_the_last_word_is_no_delisting(fresh: Line) -> None:
    rows, bars = oof(fresh), fresh.lake.read("bars", symbols=["SIM02"])
    stamps = bars["timestamp"]
    fresh.lake.replace("predictions", rows.filter(pl.col("timestamp") <= stamps[-60]), list(SYMBOLS))
    fresh.lake.replace("bars", pl.concat([bars[:-59], bars[-35:]]), ["SIM02"])
    found = played(fresh)
    assert found["universe"]["gone"] == ["SIM03"]
    assert "delisted" not in found["trades"]
    assert found["period"]["last"] == f"{stamps[-35]:%Y-%m-%d}", "what was bought then is held until it trades again"


def test_the_account_ends_with_its_last_position_and_stands_idle_for_no_bar(fresh: Line) -> None:
    rows = oof(fresh)
    stamps = rows["timestamp"].unique().sort()
    fresh.lake.replace("predictions", rows.filter(pl.col("timestamp") <= stamps[-60]), list(SYMBOLS))
    assert played(fresh)["period"]["last"] == f"{stamps[-59]:%Y-%m-%d}"


def test_where_only_a_source_has_stopped_nothing_is_delisted(fresh: Line) -> None:
    ended(fresh, "SIM01", "files", sessions=40)
    found = played(fresh)
    assert found["universe"]["gone"] == ["SIM03"]
    assert "delisted" not in found["trades"]
    assert found["trades"]["open"] >= 1


def test_the_only_symbol_of_a_source_that_is_retired_is_not_delisted(fresh: Line) -> None:
    ended(fresh, "SIM01", "files", sessions=40)
    fresh.ledger.retire(["SIM01"], later(hours=1))
    found = played(fresh)
    assert found["universe"]["gone"] == ["SIM03"]
    assert found["universe"]["retired"] == ["SIM01"]
    assert "delisted" not in found["trades"]
    assert found["trades"]["retired"] >= 1


def test_the_report_is_a_run_of_its_own_experiment_with_figures_one_file_and_a_picture_and_is_logged_once(
    judged: Line, told: dict[str, Any]
) -> None:
    client = judged.registry.client
    again = played(judged)
    assert again["run"] == told["run"]
    experiment = client.get_experiment_by_name(BACKTEST)
    (run,) = client.search_runs(
        [experiment.experiment_id], f"tags.look = '{client.get_run(told['run']).data.tags['look']}'"
    )
    assert run.info.status == "FINISHED"
    assert run.data.metrics["sharpe"] == pytest.approx(told["figures"]["sharpe"])
    assert run.data.metrics["break_even_bp"] == pytest.approx(told["break_even_bp"])
    files = {file.path: file.file_size for file in client.list_artifacts(told["run"])}
    assert set(files) == {"backtest.json", "portrait.png"}
    assert files["portrait.png"] > 10_000
    json.dumps(told, allow_nan=False)


def test_every_way_of_trading_that_is_looked_at_is_a_trial_and_the_same_one_again_is_none(fresh: Line) -> None:
    def looked(**knobs: Any) -> int:
        other = Line(fresh.settings.home, backtest=replace(FORCED, **knobs))
        return int(played(other)["luck"]["trials"])

    models = len(fresh.ledger.trials(family(fresh.settings, "all")))
    assert looked() == models
    assert looked() == models
    assert looked(long_only=True) == models + 1
    assert looked(sizing="volatility") == models + 2
    assert looked() == models + 2


def test_the_thresholds_of_the_rule_that_trades_by_them_are_ways_of_trading_too(fresh: Line) -> None:
    def looked(rule: str, buy_from: float) -> int:
        ways = {"backtest": replace(FORCED, rule=rule), "signal": SignalParameters(buy_from=buy_from)}
        return int(played(Line(fresh.settings.home, **ways))["luck"]["trials"])

    first = looked("signal", 0.51)
    assert [looked("signal", at) for at in (0.52, 0.53, 0.52)] == [first + 1, first + 2, first + 2]
    assert [looked("sign", at) for at in (0.51, 0.52)] == [first + 3, first + 3]


def test_a_prediction_whose_fit_had_seen_what_followed_is_left_out(fresh: Line) -> None:
    rows = oof(fresh).sort("symbol", "timestamp")
    late = rows[:50].with_columns(learnt_until=pl.col("timestamp") + timedelta(days=30))
    fresh.lake.replace("predictions", pl.concat([late, rows[50:]]), sorted(rows["symbol"].unique()))
    found = played(fresh)
    assert found["of"]["late_rows_left_out"] == 50
    assert found["of"]["rows"] == rows.height - 50


def test_the_voice_that_was_judged_speaks(fresh: Line) -> None:
    candidate = fresh.ledger.candidates()[("SIM01", "all")]
    names = ("training_id", "features_set", "model_name", "model_version", "model_location", "model_digest")
    wish, found = Wish(symbols=("SIM01",)), {}
    for seq, speaker in ((98, None), (99, "linear")):
        decision = {
            **{name: candidate[name] for name in (*names, "trained_at")},
            **{"symbol": "SIM01", "regime": "all", "seq": seq, "verdict": "promote", "stage": "production"},
            **{"reason": "by hand", "who": "a test", "speaker": speaker, "evidence": {}, "decided_at": NOW},
        }
        fresh.ledger.decide([decision])
        found[speaker] = played(fresh, wish)
    rows = oof(fresh).filter(pl.col("symbol") == "SIM01")
    for speaker, column in ((None, "score"), ("linear", "linear_score")):
        assert found[speaker]["of"]["rows"] == rows.height
        long = rows.filter(pl.col(column) > 0).height / rows.height
        assert found[speaker]["figures"]["net_exposure"] == pytest.approx(0.5 * (2 * long - 1), abs=0.02)
    assert found[None]["figures"]["total_return"] != found["linear"]["figures"]["total_return"]


def test_promoted_only_is_what_serves_and_says_so(judged: Line, told: dict[str, Any]) -> None:
    serving = set(judged.ledger.production())
    found = played(judged, Wish(promoted_only=True))
    assert told["of"]["models"] == "every candidate, promoted or not"
    assert told["of"]["promoted"] == len(serving)
    if not serving:
        assert found["state"] == "empty"
        assert "in production" in found["reason"]
        return
    assert found["of"]["models"] == "in production"
    assert found["of"]["cells"] == len(serving)
    assert found["of"]["rows"] < told["of"]["rows"]


def test_models_of_another_horizon_are_not_played_and_where_none_is_left_nothing_was_looked_at(fresh: Line) -> None:
    further = Line(fresh.settings.home, backtest=FORCED, learning=replace(LIGHT, horizon=5))
    for wish in (Wish(), Wish(promoted_only=True)):
        found = played(further, wish)
        assert found["state"] == "empty"
        assert "looks 1 bars ahead and the settings 5: what it said is not judged" in found["reason"]
    assert further.ledger.trials(f"backtest|{family(further.settings, '*')}") == []
    fresh.ledger.note_candidates([{**fresh.ledger.candidates()["SIM01", "all"], "horizon": 7}])
    rest = played(fresh)["of"]
    assert (rest["cells"], rest["cells_of_another_horizon"]) == (len(SYMBOLS) - 1, 1)
    assert rest["rows"] == oof(fresh).filter(pl.col("symbol") != "SIM01").height


def test_days_bound_what_is_traded_and_marked(judged: Line) -> None:
    stamps = oof(judged)["timestamp"].unique().sort()
    since, until = stamps[50].date(), stamps[200].date()
    found = played(judged, Wish(since=since, until=until))
    assert found["period"]["first"] == str(since)
    assert found["period"]["last"] < str(until)
    assert found["period"]["periods"] == 150


def test_live_words_of_the_same_training_count_after_those_out_of_fold(fresh: Line) -> None:
    rows = oof(fresh)
    last = fresh.lake.read("bars")["timestamp"].max()
    word = (
        rows.filter(pl.col("symbol") == "SIM01")
        .sort("timestamp")[-1:]
        .with_columns(timestamp=pl.lit(last).cast(rows.schema["timestamp"]), origin=pl.lit("live"))
    )
    spoken = rows.filter(pl.col("symbol") == "SIM01", pl.col("timestamp") == last).height
    # The same bar out of fold would count instead.
    fresh.lake.append("predictions", word.with_columns(learnt_until=None))
    found = played(fresh)
    assert found["of"]["live"] == 1 - spoken
    stranger = word.with_columns(training_id=pl.lit("somebody else"), learnt_until=None)
    fresh.lake.append("predictions", stranger)
    assert played(fresh)["of"]["live"] == 1 - spoken


def test_over_the_vaults_dates_nobody_spoke_and_they_are_no_idle_time(fresh: Line) -> None:
    rows = oof(fresh)
    stamps = rows["timestamp"].unique().sort()
    spoken = rows.filter(pl.col("timestamp") < stamps[-60])
    fresh.lake.replace("predictions", spoken, sorted(rows["symbol"].unique()))
    before = played(fresh)
    assert before["period"]["last"] < stamps[-30].date().isoformat()
    word = rows.filter(pl.col("timestamp") == stamps[-1]).with_columns(origin=pl.lit("live"), learnt_until=None)
    fresh.lake.append("predictions", word)
    found = played(fresh)
    left_out = {"rows_apart_left_out": word.height, "bars_between": 59}
    assert before["of"]["bars_between"] == 0
    assert [found[part] for part in ("period", "figures", "of")] == [
        before[part] | (left_out if part == "of" else {}) for part in ("period", "figures", "of")
    ]
    alone = played(fresh, Wish(since=stamps[-30].date()))
    assert (alone["of"]["live"], alone["of"]["rows_apart_left_out"]) == (word.height, 0)


def spoken_of(line: Line, live: int) -> tuple[pl.DataFrame, pl.Series]:
    """What is said out of fold, until 60 bars before the end, and the bars; one word was live, of the bar so placed."""
    rows, bars = oof(line), line.lake.read("bars")["timestamp"].unique().sort()
    spoken = rows.filter(pl.col("timestamp") < bars[-60])
    at = pl.lit(bars[live]).cast(rows.schema["timestamp"])
    word = spoken[-1:].with_columns(timestamp=at, origin=pl.lit("live"), learnt_until=None)
    line.lake.replace("predictions", pl.concat([spoken, word]), list(SYMBOLS))
    return spoken, bars


def test_dates_without_a_period_are_refused_with_those_that_can_be_played_and_are_no_look(fresh: Line) -> None:
    spoken, bars = spoken_of(fresh, live=-1)
    line = Line(fresh.settings.home, backtest=FORCED, learning=replace(LIGHT, vault_share=0.15))
    first, last = spoken["timestamp"].min(), spoken["timestamp"].max()
    runs = line.runs()
    for wish in (Wish(since=bars[-40].date()), Wish(since=bars[-40].date(), until=bars[-20].date())):
        found = played(line, wish)
        assert found["state"] == "empty"
        assert f"what was said can be played from {first:%Y-%m-%d} to {last:%Y-%m-%d};" in found["reason"]
        assert "of the newest 15 % of the dates, the vault (ALPHA_LEARNING__VAULT_SHARE)" in found["reason"]
    assert line.ledger.trials(f"backtest|{family(line.settings, '*')}") == []
    assert line.runs() == runs
    assert "vault" not in played(fresh, Wish(since=bars[-1].date()))["reason"], "where there is none"


def test_live_words_that_a_bar_follows_are_among_the_dates_that_can_be_played(fresh: Line) -> None:
    spoken, bars = spoken_of(fresh, live=-20)
    live = f"{bars[-20]:%Y-%m-%d}"
    told = played(fresh, Wish(since=bars[-50].date(), until=bars[-30].date()))["reason"]
    assert f"to {spoken['timestamp'].max():%Y-%m-%d} and from {live} to {live}" in told


def test_words_that_no_bar_has_followed_yet_are_no_backtest(fresh: Line) -> None:
    last = fresh.lake.read("bars")["timestamp"].max()
    rows = oof(fresh)
    word = rows[-1:].with_columns(timestamp=pl.lit(last).cast(rows.schema["timestamp"]), learnt_until=None)
    fresh.lake.replace("predictions", word, list(SYMBOLS))
    found = played(fresh)
    assert (found["state"], found["reason"]) == (
        "empty",
        "no bar has followed what was said yet: alpha-assets refresh",
    )


def test_where_every_signal_says_hold_the_account_has_periods_and_is_played(fresh: Line) -> None:
    silent = {"backtest": replace(FORCED, rule="signal", long_only=True), "signal": SignalParameters(buy_from=0.99)}
    still = Line(fresh.settings.home, **silent)
    found = played(still)
    assert (found["state"], found["trades"]["decisions"]) == ("done", 0)
    assert found["period"]["periods"] > 0


def test_the_bars_whose_labels_no_fit_could_know_are_no_pause(fresh: Line) -> None:
    """Without a vault as many bars as a label lasts lie between what was said out of fold and live."""
    rows = oof(fresh)
    stamps = rows["timestamp"].unique().sort()
    word = rows.filter(pl.col("timestamp") == stamps[-1]).with_columns(origin=pl.lit("live"), learnt_until=None)
    between = MOST_SILENT + fresh.settings.learning.horizon
    for bars, left_out in ((between, 0), (between + 1, word.height)):
        spoken = rows.filter(pl.col("timestamp") < stamps[-bars - 1])
        fresh.lake.replace("predictions", pl.concat([spoken, word]), list(SYMBOLS))
        assert played(fresh)["of"]["rows_apart_left_out"] == left_out


def test_a_home_without_candidates_says_what_to_do(featured: Path, tmp_path: Path) -> None:
    found = played(copied(featured, tmp_path / "home"))
    assert found["state"] == "empty"
    assert "alpha-assets train" in found["reason"]
