"""Profiles: two documents a symbol, written where bars, events, features or the company's facts are not in them yet."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.quant.calendars import bars_a_year
from alpha_assets.quant.parameters import ProfileParameters
from alpha_assets.quant.profile_schema import COMPANY, SCHEMA_VERSION, STATE, STATISTICAL, faults, leaves
from alpha_assets.quant.profiles import statistical_profile
from alpha_assets.sources.all import Sources
from alpha_assets.sources.base import Cause, Companies, Failure, SourceUnavailable
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.profile import profile, read_series
from alpha_assets_tests.quant.histories import assert_same
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, impossible, later

pytestmark = pytest.mark.xdist_group("line")


@pytest.fixture
def line(featured: Path, tmp_path: Path) -> Line:
    return copied(featured, tmp_path / "home")


def write(line: Line, now: datetime = NOW, symbols: Sequence[str] = SYMBOLS, **more: Any) -> Any:
    return profile(line.lake, line.ledger, line.settings, symbols, now, **more)


def document(line: Line, symbol: str, kind: str = STATISTICAL) -> dict[str, Any]:
    found: dict[str, Any] = line.ledger.profiles()[symbol, kind]["document"]
    return found


def computed(line: Line, symbol: str) -> dict[str, Any]:
    """What a profile at once says of the stored bars, features left out."""
    series, _ = read_series(line.lake, line.settings, {symbol: "XNYS"}, [symbol])
    return statistical_profile(series[symbol], bars_a_year("XNYS", "1d"))


def figures(document: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in leaves(document) if not path.startswith(("regimes.", "indicators."))}


def restate(line: Line, symbol: str) -> None:
    """Another close in the middle, written as the ingestion writes it."""
    bars = line.lake.read("bars", symbols=[symbol])
    middle = pl.int_range(pl.len()) == 100
    line.lake.replace("bars", bars.with_columns(close=pl.when(middle).then(pl.col("low")).otherwise("close")), [symbol])


def test_the_documents_hold_the_figures_of_the_adjusted_bars_and_follow_their_schema(line: Line) -> None:
    report = write(line)
    assert report.states() == {"written": len(SYMBOLS)}
    for symbol in SYMBOLS:
        row = line.ledger.profiles()[symbol, STATISTICAL]
        assert (row["schema_version"], row["written_at"]) == (SCHEMA_VERSION, NOW)
        assert figures(row["document"]) == figures(computed(line, symbol))
        assert document(line, symbol, COMPANY)["coverage"]["bars"] == line.ledger.states()[symbol]["bars"]
        assert report.partitions[symbol]["annual_return"] == row["document"]["returns"]["annual"]
        for kind in (STATISTICAL, COMPANY):
            assert faults(kind, document(line, symbol, kind)) == []


def test_it_is_written_again_only_where_there_is_a_new_bar(line: Line) -> None:
    write(line)
    assert write(line, later(days=1)).states() == {"unchanged": 4}
    Simulated(line.settings).advance(1)
    line.refresh(later(days=1))
    report = write(line, later(days=2))
    assert report.in_state("unchanged") == ["SIM03"], "the delisted one has no new bar"
    assert report.states() == {"unchanged": 1, "written": 3}
    assert {row["written_at"] for row in line.ledger.profiles().values()} == {NOW, later(days=2)}


def test_sessions_are_merged_into_what_was_written_and_the_figures_are_those_of_all_bars_at_once(line: Line) -> None:
    write(line)
    for sessions in (1, 3, 40):
        Simulated(line.settings).advance(sessions)
        line.refresh(later(days=sessions))
        write(line, later(days=sessions))
    for symbol in SYMBOLS:
        assert_same(figures(document(line, symbol)), figures(computed(line, symbol)))


def test_a_restated_bar_is_seen_though_neither_their_number_nor_the_last_one_changed(line: Line) -> None:
    write(line)
    restate(line, "SIM01")
    report = write(line, later(days=1))
    assert report.in_state("written") == ["SIM01"]
    assert figures(document(line, "SIM01")) == figures(computed(line, "SIM01"))


@pytest.mark.parametrize("changed", [pl.col("high") * 1.01, pl.col("low") * 0.99, pl.lit("stale").alias("flags")])
def test_a_bar_of_which_not_the_close_changed_is_seen_too(line: Line, changed: pl.Expr) -> None:
    """Regimes and indicators come of the whole bar."""
    write(line)
    bars = line.lake.read("bars", symbols=["SIM01"])
    name = changed.meta.output_name()
    middle = pl.int_range(pl.len()) == 300
    line.lake.replace("bars", bars.with_columns(pl.when(middle).then(changed).otherwise(name).alias(name)), ["SIM01"])
    assert write(line, later(days=1)).in_state("written") == ["SIM01"]


def test_an_event_learnt_late_is_seen(line: Line) -> None:
    write(line)
    bars = line.lake.read("bars", symbols=["SIM02"])
    paid = {"symbol": "SIM02", "ex_date": bars["timestamp"][200].date(), "kind": "dividend", "value": 0.5}
    line.lake.append("actions", pl.DataFrame([{**paid, "first_seen_at": NOW}]))
    before = document(line, "SIM02")["returns"]["total"]
    assert write(line, later(days=1)).in_state("written") == ["SIM02"]
    assert document(line, "SIM02")["returns"]["total"] > before


def test_a_document_of_an_older_schema_is_written_anew(line: Line) -> None:
    write(line)
    row = line.ledger.profiles()["SIM01", STATISTICAL]
    line.ledger.put_profiles([{**row, "schema_version": 2, "document": {"bars": 3}}])
    assert write(line, later(days=1)).in_state("written") == ["SIM01"]


def test_the_newest_features_are_in_the_document_and_new_features_are_a_reason_to_write(line: Line) -> None:
    write(line)
    state = line.ledger.states()["SIM01"]
    told = document(line, "SIM01")["indicators"]
    assert (told["at"], told["table"]) == (state["features_until"].isoformat(), state["features_set"])
    newest = line.lake.read(state["features_set"], symbols=["SIM01"], since=state["features_until"]).to_dicts()[-1]
    assert told["values"]
    assert told["values"] == pytest.approx({name: newest[name] for name in told["values"]}, rel=1e-6)
    line.ledger.note_state([{"symbol": "SIM01", "rebuild_features": True}])
    assert write(line, later(days=1)).in_state("written") == ["SIM01"]
    assert "indicators" not in document(line, "SIM01"), "features that are to be rebuilt belong to other bars"


def test_regimes_of_the_features_are_counted_and_later_ones_merged(line: Line) -> None:
    """A table with a regime a bar; the second part comes when the first is in the documents."""
    table = "features/with-regimes"
    bars = line.lake.read("bars", columns=["symbol", "timestamp"]).filter(pl.col("symbol").is_in(["SIM01", "SIM02"]))
    turn = pl.int_range(pl.len()).over("symbol")
    labelled = bars.with_columns(
        regime=pl.when(turn < 20)
        .then(None)
        .when(turn // 7 % 2 == 0)
        .then(pl.lit("trending"))
        .otherwise(pl.lit("volatile")),
        rsi=(turn / 1e4).cast(pl.Float32),
    )
    cut = labelled["timestamp"].unique().sort()[-30]
    for part in (labelled.filter(pl.col("timestamp") <= cut), labelled.filter(pl.col("timestamp") > cut)):
        line.lake.append(table, part)
        until = dict(part.group_by("symbol").agg(pl.col("timestamp").max()).iter_rows())
        line.ledger.note_state(
            [{"symbol": name, "features_set": table, "features_until": at} for name, at in until.items()]
        )
        write(line, symbols=list(until))
    merged = document(line, "SIM01")["regimes"]
    own = labelled.filter(pl.col("symbol") == "SIM01")["regime"]
    assert merged["bars"] == {name: own.eq(name).sum() for name in ("trending", "volatile")}
    pairs = pl.DataFrame({"a": own, "b": own.shift(-1)}).drop_nulls()
    assert merged["transitions"]["trending"]["volatile"] == pytest.approx(
        pairs.filter(pl.col("a") == "trending")["b"].eq("volatile").mean()
    )
    assert merged["now"] == own[-1]
    assert faults(STATISTICAL, document(line, "SIM01")) == []


def test_a_symbol_without_bars_has_none(line: Line) -> None:
    report = write(line, symbols=["NEW"])
    assert report.partitions["NEW"] == {"state": "empty", "reason": "no bars yet"}
    assert line.ledger.profiles() == {}


def test_a_symbol_with_an_impossible_dividend_is_held_and_the_others_are_written(line: Line) -> None:
    impossible(line, "SIM01")
    report = write(line)
    assert report.states() == {"written": 3, "held": 1}
    assert "dividend" in report.partitions["SIM01"]["reason"]


def test_a_symbol_whose_figures_cannot_be_computed_is_quarantined_until_they_can_and_the_others_are_written(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moody(series: Any, *more: Any) -> dict[str, object]:
        if series.symbol == "SIM02":
            raise ValueError("no figures today")
        return statistical_profile(series, *more)

    with monkeypatch.context() as patch:
        patch.setattr("alpha_assets.stations.profile.statistical_profile", moody)
        report = write(line)
    assert report.states() == {"written": 3, "held": 1}
    assert "no figures today" in report.partitions["SIM02"]["reason"]
    state = line.ledger.states()["SIM02"]
    assert (state["quarantine_cause"], state["quarantined_at"]) == ("profile_failed", NOW)
    assert write(line).states() == {"unchanged": 3, "written": 1}
    assert line.ledger.states()["SIM02"]["quarantine_cause"] is None


# -- fundamentals -----------------------------------------------------------------------------------------------------


class Almanac:
    """A source that knows companies: what it says of whom, whom it fails, and who was asked."""

    name = "simulated"

    def __init__(self, facts: Mapping[str, Mapping[str, Any]], failing: Mapping[str, Cause] | None = None) -> None:
        self.facts, self.failing = dict(facts), dict(failing or {})
        self.unavailable: Exception | None = None
        self.asked: list[list[str]] = []

    def fundamentals(self, symbols: Sequence[str], now: datetime) -> Companies:  # noqa: ARG002
        self.asked.append(list(symbols))
        if self.unavailable is not None:
            raise self.unavailable
        failures = {name: Failure(name, self.failing[name], "not today") for name in symbols if name in self.failing}
        return Companies({name: self.facts.get(name, {}) for name in symbols if name not in failures}, failures)


def test_the_simulated_market_says_when_a_company_was_listed_and_delisted(line: Line) -> None:
    write(line, sources=Sources(line.settings))
    told = document(line, "SIM03", COMPANY)["fundamentals"]
    bars = line.lake.read("bars", symbols=["SIM03"])["timestamp"]
    assert told["delisted"]["read_at"] == NOW.isoformat()
    assert told["listed"]["value"] <= str(bars[0].date())
    assert str(bars[-1].date()) <= told["delisted"]["value"]
    assert "delisted" not in document(line, "SIM01", COMPANY)["fundamentals"]
    assert faults(COMPANY, document(line, "SIM03", COMPANY)) == []


def test_companies_are_asked_about_again_after_days_and_keep_what_was_said_with_its_time(line: Line) -> None:
    almanac = Almanac({"SIM01": {"sector": "Energy"}})
    sources = {"simulated": almanac}
    write(line, sources=sources)
    assert write(line, later(days=6), sources=sources).states() == {"unchanged": 4}
    assert almanac.asked == [list(SYMBOLS)]
    almanac.facts = {"SIM01": {"sector": "Utilities", "beta": 0.4}}
    assert write(line, later(days=7), sources=sources).states() == {"unchanged": 4}
    read_at = later(days=7).isoformat()
    assert document(line, "SIM01", COMPANY)["fundamentals"] == {
        "sector": {"value": "Utilities", "read_at": read_at},
        "beta": {"value": 0.4, "read_at": read_at},
    }
    restate(line, "SIM01")
    write(line, later(days=8), sources=sources)
    assert document(line, "SIM01", COMPANY)["fundamentals"]["beta"]["read_at"] == read_at, "new bars ask nobody"


def test_a_source_that_says_nothing_of_a_company_takes_nothing_away(line: Line) -> None:
    almanac = Almanac({"SIM01": {"sector": "Energy"}})
    write(line, sources={"simulated": almanac})
    almanac.facts = {"SIM01": {}}
    write(line, later(days=8), sources={"simulated": almanac})
    assert document(line, "SIM01", COMPANY)["fundamentals"]["sector"]["value"] == "Energy"
    assert document(line, "SIM01", COMPANY)["fundamentals_asked_at"] == later(days=8).isoformat()


def test_what_a_company_does_not_have_is_absent(line: Line) -> None:
    write(line, sources={"simulated": Almanac({"SIM01": {"sector": "Energy"}})})
    assert document(line, "SIM02", COMPANY).get("fundamentals", {}) == {}
    assert document(line, "SIM02", COMPANY)["fundamentals_asked_at"] == NOW.isoformat()
    assert list(document(line, "SIM01", COMPANY)["fundamentals"]) == ["sector"]


def test_few_companies_a_run_are_asked_about_and_those_that_waited_longest_first(
    featured: Path, tmp_path: Path
) -> None:
    knobs = ProfileParameters(fundamentals_batch=2, fundamentals_days=1.5)
    line = copied(featured, tmp_path / "home", profiles=knobs)
    almanac = Almanac({})
    for day in range(3):
        write(line, later(days=day), sources={"simulated": almanac})
    assert almanac.asked == [["SIM01", "SIM02"], ["SIM03", "SIM04"], ["SIM01", "SIM02"]]


def test_a_source_that_fails_holds_nobody_and_is_asked_again(line: Line) -> None:
    almanac = Almanac({"SIM01": {"sector": "Energy"}}, {"SIM02": Cause.OUTAGE, "SIM03": Cause.UNKNOWN_SYMBOL})
    report = write(line, sources={"simulated": almanac})
    assert report.states() == {"written": 4}
    assert (report.totals["companies_failed"], report.totals["companies_trouble"]) == (2, "not today")
    almanac.unavailable = SourceUnavailable("nobody is there")
    report = write(line, later(days=1), sources={"simulated": almanac})
    assert "nobody is there" in report.totals["companies_trouble"]
    assert almanac.asked[-1] == ["SIM02"], "the outage heals, an unknown symbol does not"
    almanac.unavailable = TypeError("a fault of the source")
    assert write(line, later(days=30), sources={"simulated": almanac}).states() == {"unchanged": 4}
    assert document(line, "SIM01", COMPANY)["fundamentals"]["sector"]["value"] == "Energy"


def test_a_source_without_companies_is_not_asked(line: Line) -> None:
    write(line, sources={"simulated": object()})
    assert "fundamentals_asked_at" not in document(line, "SIM01", COMPANY)
    assert document(line, "SIM01")[STATE]["bars"] == line.ledger.states()["SIM01"]["bars"]
