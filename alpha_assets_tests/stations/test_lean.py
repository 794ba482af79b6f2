"""As-traded bars with true splits and dividends through source, cleaning and lake: what comes out is what was known.

``quant/test_adjust.py`` proves the arithmetic on the same file; here the bars and actions are those that the stations
stored and the listings those that ingestion cut.
"""

from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl
import pytest

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.schema import BARS, TIME
from alpha_assets.settings import Settings
from alpha_assets.sources.files import Files
from alpha_assets.stations.base import Report
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.sets import recipe_of, table_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.quant.test_adjust import MAPPED_CUTS

NOW = datetime(2021, 4, 1, 23, 30, tzinfo=UTC)

#: Where the ticker's present company begins, by the gap before it. Elsewhere the map files tell (``MAPPED_CUTS``).
CUT_BY_GAP = {
    "AAA": date(2020, 9, 9),
    "BNO": date(2010, 6, 2),
    "EEM": date(2003, 4, 11),
    "FB": date(2012, 5, 18),
    "QQQ": date(2011, 3, 23),
    "USO": date(2006, 4, 10),
    "WM": date(2009, 8, 5),
}


class Lean:
    """The file's bars, ingested and featurised."""

    def __init__(self, home: Path, file: Path) -> None:
        cuts = {symbol: [cut] for symbol, cut in MAPPED_CUTS.items()}
        self.settings = Settings(
            home=home,
            source="files",
            files=str(file),
            history_start=date(1990, 1, 1),
            listing_cuts=cuts,
            _env_file=None,
        )  # type: ignore[call-arg]
        self.lake, self.ledger = Lake(self.settings), Ledger(self.settings)
        self.raw = pl.read_parquet(file).with_columns(pl.col("timestamp").cast(TIME))
        source = Files(self.settings)
        self.symbols = source.symbols()
        self.ledger.add_symbols(
            [{"symbol": name, "source": "files", "calendar": "XNYS", "added_at": NOW} for name in self.symbols]
        )
        self.report: Report = ingest(self.lake, self.ledger, {"files": source}, self.settings, self.symbols, NOW)
        featurise(self.lake, self.ledger, self.settings, self.symbols)

    def bars(self) -> pl.DataFrame:
        """Adjusted for everything that is known today."""
        bars, left_out = adjusted_bars(self.lake, self.settings, calendars_of(self.ledger), self.symbols)
        assert left_out == {}
        return bars


@pytest.fixture(scope="module")
def lean(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lean:
    return Lean(tmp_path_factory.mktemp("lean"), shared_data / "lean_us_daily_raw.parquet")


def test_every_row_is_accounted_for(lean: Lean) -> None:
    totals = lean.report.totals
    assert totals["rows_read"] == totals["kept"] + totals["repaired"] + totals["dropped"] == 70_025
    assert (totals["repaired"], totals["dropped"], totals["quarantined"]) == (0, 1, 0)
    assert lean.lake.read("bars").height == 70_024


def test_listings_are_cut_where_the_ticker_changed_hands(lean: Lean) -> None:
    begun = {(row["symbol"], row["day"]) for row in lean.ledger.findings(["listing_begins"])}
    assert begun == set(CUT_BY_GAP.items()) | set(MAPPED_CUTS.items())
    listings = lean.lake.read("bars").select("symbol", "listing").unique()
    later = listings.filter(pl.col("listing") > pl.col("listing").min().over("symbol"))
    assert set(later.rows()) == begun


def test_adjusted_closes_as_of_the_last_date_are_the_files_own(lean: Lean) -> None:
    """The newest listing of each symbol: the file carries factors across the cuts into the older ones."""
    ours = lean.bars().filter(pl.col("listing") == pl.col("listing").max().over("symbol"))
    theirs = lean.raw.drop_nulls("adj_close").select("symbol", "timestamp", "adj_close")
    both = ours.join(theirs, on=["symbol", "timestamp"])
    # NWSA's two bars are older than everything that its factor file, the new News Corp's, knows of.
    both = both.filter(pl.col("symbol") != "NWSA")
    assert both["symbol"].n_unique() == 14
    assert both.height > 50_000
    assert both.select((pl.col("close") / pl.col("adj_close") - 1).abs().max()).item() < 1e-4


def test_as_of_the_day_before_its_2014_split_apple_is_what_was_known_that_day(lean: Lean) -> None:
    eve = date(2014, 6, 6)
    bars = lean.lake.read("bars", symbols=["AAPL"], columns=list(BARS))
    actions = lean.lake.read("actions", symbols=["AAPL"]).drop("first_seen_at")
    known = adjusted(bars, actions, eve).join(
        lean.raw.select("symbol", "timestamp", "adj_close"), on=["symbol", "timestamp"]
    )
    traded = bars.filter(pl.col("timestamp").dt.date() <= eve)
    assert known["close"][-1] == traded["close"][-1] == pytest.approx(645.57, abs=0.5)
    in_force = known["adj_close"][-1] / traded["close"][-1]
    assert known.select((pl.col("close") * in_force / pl.col("adj_close") - 1).abs().max()).item() < 1e-4
    split = actions.filter(pl.col("kind") == "split", pl.col("ex_date") == date(2014, 6, 9))
    assert split["value"].to_list() == pytest.approx([7.0], rel=1e-4)
    next_day = adjusted(bars, actions, date(2014, 6, 9)).filter(pl.col("timestamp").dt.date() <= eve)
    assert (known["close"] / next_day["close"]).to_numpy() == pytest.approx(7.0, rel=1e-4)


def test_no_feature_looks_across_a_cut(lean: Lean) -> None:
    """Each listing's features are those of a series that holds nothing else: they warm up anew."""
    features = lean.lake.read(table_of(lean.settings))
    bars = lean.lake.read("bars", columns=["symbol", "timestamp", "listing"])
    place = features.join(bars, on=["symbol", "timestamp"]).with_columns(
        place=pl.int_range(pl.len()).over("symbol", "listing")
    )
    for feature in recipe_of(lean.settings).feature_set.features:
        early = place.filter(pl.col("place") < feature.warm_up)
        assert early[feature.name].null_count() == early.height, feature.name
    cut = {name: datetime.combine(day, time(), UTC) for name, day in CUT_BY_GAP.items()}
    for name, first in cut.items():
        after = features.filter(pl.col("symbol") == name, pl.col("timestamp") >= first)
        assert after["return_1"][0] is None
        assert after["return_1"][1] is not None


def test_no_label_holds_bars_of_two_companies(lean: Lean) -> None:
    bars = lean.bars()
    labels = open_to_open(with_known_at(bars, lean.settings, calendars_of(lean.ledger)), 5)
    beside = labels.join(bars.select("symbol", "timestamp", "listing"), on=["symbol", "timestamp"])
    ends = beside.filter(pl.int_range(pl.len(), 0, -1).over("symbol", "listing") <= 6)
    assert ends["label_return"].null_count() == ends.height
    # Waste Management against Washington Mutual would be 177 times the money; a thin EEM of 1998 makes 4 of 1.
    assert beside["label_return"].drop_nulls().max() < 5.0  # type: ignore[operator]
