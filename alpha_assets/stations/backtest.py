"""What an account would have become that followed what the models said: the backtest over a home.

**Whose word counts.** Of each (symbol, regime) the present candidate speaks, promoted or not, because a market in which
nothing is promoted would have no backtest; ``Wish.promoted_only`` takes what serves instead, and the report says which.
One that looks another horizon than the settings' does not speak: a position lasts as long as the settings' labels.
It speaks in the voice that was judged (its linear model's where the gate chose that). A bar is spoken for by the model
of its own regime, else by that of «all», as in a live signal.

**What it said.** Out of fold, each row by a fit that had not seen it; for the bars after, what the same training said
live or in shadow. A row whose fit had learnt a label that was not known before the bar is left out and counted.

**Looks are counted.** Every rule, sizing or limit that is tried is a configuration of its own in the ledger's trials:
who turns them until the past looks good pays with the deflated Sharpe ratio.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Any

import polars as pl

from alpha_assets.quant import calendars, ratios
from alpha_assets.quant.backtest import NEEDED, depended_on, planned
from alpha_assets.quant.backtest_report import Row, report
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.quant.schema import BARS
from alpha_assets.quant.sharpe import Trials
from alpha_assets.quant.splits import overlapping
from alpha_assets.settings import Settings
from alpha_assets.stations.backtest_picture import backtest_picture
from alpha_assets.stations.base import Progress, silent
from alpha_assets.stations.champions import spoken
from alpha_assets.stations.series import calendars_of, followed_until, soundly_adjusted, with_known_at
from alpha_assets.stations.sets import table_of
from alpha_assets.stations.train import ALL, OUT_OF_FOLD
from alpha_assets.stations.trials import configuration, family
from alpha_assets.stations.watch import looking_alike, looks_elsewhere
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry

#: Who sees the scores here.
BACKTEST = "backtest"

#: Bars without a word between what was said out of fold and live, beyond those whose label no fit could know yet: more
#: of them are a pause that is no part of the account, as the vault's dates are.
MOST_SILENT = 20

#: Of two rows of one training on one bar, which counts: what was said out of fold, live, in shadow.
ORIGINS = (OUT_OF_FOLD, "live", "shadow")

Cell = tuple[str, str]


@dataclass(frozen=True)
class Wish:
    """What to look back on: everything, unless these say less.

    ``symbols`` are the universe; ``regimes`` whose models speak; ``since`` and ``until`` days, both included.
    ``promoted_only`` takes the versions in production, with the out-of-fold rows of their training.
    """

    symbols: tuple[str, ...] | None = None
    regimes: tuple[str, ...] | None = None
    since: date | None = None
    until: date | None = None
    promoted_only: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {name: str(value) if isinstance(value, date) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class LookedBack:
    """What a backtest came to, as ``backtest`` tells it, and its picture; None where there was nothing to play."""

    told: Row
    picture: bytes | None = None


def backtest(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    now: datetime,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
    wish: Wish | None = None,
) -> LookedBack:
    """Play the backtest of these settings, log it as an MLflow run, and tell it (``backtest_report.report``).

    Beside the report, what is told holds ``state`` (done, or empty with the ``reason``), ``of`` (which models spoke and
    how many rows of what origin), ``parameters``, ``run`` (MLflow's id) and ``seconds``. Where no period can be played
    it is empty, nothing is logged and no trial counted.
    """
    started = time.perf_counter()
    wish = wish or Wish()
    names = calendars_of(ledger)
    symbols = [symbol for symbol in names if wish.symbols is None or symbol in wish.symbols]
    chosen, decided = _chosen(ledger, wish, symbols)
    speaking = _speaking(looking_alike(chosen, settings), decided)
    if chosen and not speaking:
        return _nothing(_why_nobody(chosen, settings))
    said = _said(lake, settings, speaking, wish)
    progress("predictions read", 1, 4)
    if said.is_empty():
        return _nothing(_why_nothing(lake, settings, names, speaking, wish))
    bars = _bars(lake, settings, names, symbols, wish)
    heard, late = _unseen(said, bars)
    if heard.is_empty():
        return _nothing("no prediction meets a bar that can be adjusted: refresh the symbols")
    heard, apart, between = _in_one_piece(heard, bars, settings.learning.horizon)
    progress("bars read", 2, 4)
    horizon, trading = settings.learning.horizon, settings.trading
    a_year = max(calendars.bars_a_year(names[symbol], settings.interval) for symbol in symbols)
    plan = planned(
        *(heard, bars),
        horizon=horizon,
        parameters=settings.backtest,
        trading=trading,
        signal=settings.signal,
        a_year=a_year,
        names=names,
        followed_until=followed_until(lake, ledger, settings.cleaning.listing_gap_sessions),
        retired=names.keys() - {row["symbol"] for row in ledger.universe()},
    ).while_held(heard.select(pl.col("timestamp").max()).item())
    net = plan.played(trading.cost_per_side, trading.borrow_bp_year / 10_000).net
    if not len(net):
        return _nothing(_why_nothing(lake, settings, names, speaking, wish))
    trials = _tried(ledger, settings, wish, speaking, ratios.sharpe(net, 1.0), now)
    told = report(plan, trading, settings.gate, horizon, trials, settings.features.benchmark)
    progress("backtest played", 3, 4)
    told |= {
        "state": "done",
        "of": {
            "models": "in production" if wish.promoted_only else "every candidate, promoted or not",
            "cells": len(speaking),
            "cells_of_another_horizon": len(chosen) - len(speaking),
            "promoted": len(speaking.keys() & ledger.production().keys()),
            "rows": heard.height,
            **{origin: int((heard["origin"] == origin).sum()) for origin in ORIGINS},
            "late_rows_left_out": late,
            "rows_apart_left_out": apart,
            "bars_between": between,
        },
        "parameters": {
            **asdict(settings.backtest),
            **asdict(trading),
            "horizon": horizon,
            "features_set": table_of(settings),
            **wish.document,
        },
        "disclaimer": DISCLAIMER,
    }
    title = f"backtest {told['period']['first']} to {told['period']['last']}"
    picture = backtest_picture(told, title)
    told["run"] = _logged(registry, title, told, picture, tags or {})
    progress("backtest logged", 4, 4)
    return LookedBack(told | {"seconds": round(time.perf_counter() - started, 3)}, picture)


def _nothing(why: str) -> LookedBack:
    return LookedBack({"state": "empty", "reason": why, "disclaimer": DISCLAIMER})


#: What a person wants to know first, by where the report has it.
BRIEF = (
    *(("period", name) for name in ("first", "last", "periods")),
    *(("figures", name) for name in ("total_return", "annual_return", "volatility", "sharpe", "sortino", "calmar")),
    *(("figures", name) for name in ("max_drawdown", "turnover", "exposure", "positions")),
    *(("luck", name) for name in ("probabilistic", "deflated", "trials", "years", "minimum_years")),
    *(("of", name) for name in ("models", "cells", "promoted", "rows")),
)


def brief(told: Row) -> Row:
    """One flat object of the figures that matter most; of an empty backtest its state and reason."""
    if told["state"] != "done":
        return {name: told[name] for name in ("state", "reason")}
    found: Row = {"state": told["state"], **{name: told[part][name] for part, name in BRIEF}}
    for name, estimate in ((name, told["trades"].get(name)) for name in ("gross", "net", "profit_factor")):
        for part in ("value", "low", "high"):
            found[f"trade_{name}" + ("" if part == "value" else f"_{part}")] = (estimate or {}).get(part)
    found |= {"trades": sum(told["trades"].get(name, 0) for name in ("closed", "delisted", "retired"))}
    found |= {"break_even_bp": told["break_even_bp"], "universe": told["universe"]["sentence"], "run": told["run"]}
    found |= {f"{name}_held_annual_return": other["annual_return"] for name, other in told["benchmarks"].items()}
    return {name: value for name, value in found.items() if value is not None}


def _why_nothing(
    lake: Lake, settings: Settings, names: Mapping[str, str], speaking: Mapping[Cell, tuple[str, bool]], wish: Wish
) -> str:
    """Why no period can be played between the dates that are wished for, and which dates can be."""
    whole = replace(wish, since=None, until=None)
    said = _said(lake, settings, speaking, whole)
    if said.is_empty():
        return _why_silent(wish)
    bars = _bars(lake, settings, names, sorted({symbol for symbol, _ in speaking}), whole)
    heard, _ = _unseen(said, bars)
    followed = heard.filter(pl.col("timestamp") < bars["timestamp"].max())
    if followed.is_empty():
        return "no bar has followed what was said yet: alpha-assets refresh"
    at = pl.col("timestamp")
    pieces = followed.group_by(since=pl.col("origin") != OUT_OF_FOLD).agg(first=at.min(), last=at.max()).sort("since")
    days = " and ".join(f"from {first:%Y-%m-%d} to {last:%Y-%m-%d}" for _, first, last in pieces.iter_rows())
    why = "nothing can be played between these dates: it takes more than one bar, and what was said can be played"
    return f"{why} {days}{_of_the_vault(settings)}"


def _of_the_vault(settings: Settings) -> str:
    share = settings.learning.vault_share
    vault = f"of the newest {100 * share:g} % of the dates, the vault (ALPHA_LEARNING__VAULT_SHARE)"
    return f"; {vault}, nothing is tested out of fold" if share else ""


def _why_silent(wish: Wish) -> str:
    if wish.promoted_only:
        return "no version in production has said anything of these bars: alpha-assets promotions says what was decided"
    return "no candidate has said anything of these bars out of fold: alpha-assets train"


def _why_nobody(chosen: Mapping[Cell, Row], settings: Settings) -> str:
    row = next(iter(chosen.values()))
    why = looks_elsewhere(row, settings, "what it said")
    return f"{why}; train again, or set ALPHA_LEARNING__HORIZON={row['horizon']}"


def _chosen(ledger: Ledger, wish: Wish, symbols: Sequence[str]) -> tuple[dict[Cell, Row], Mapping[Cell, Row]]:
    """The candidates or versions in production that are wished for, and the newest decision on each cell."""
    decided = ledger.production() if wish.promoted_only else ledger.decided()
    rows = decided if wish.promoted_only else ledger.candidates()
    wanted = set(symbols)
    chosen = {
        cell: row
        for cell, row in rows.items()
        if row["model_version"] is not None and cell[0] in wanted and (wish.regimes is None or cell[1] in wish.regimes)
    }
    return chosen, decided


def _speaking(chosen: Mapping[Cell, Row], decided: Mapping[Cell, Row]) -> dict[Cell, tuple[str, bool]]:
    """Of each cell the training that speaks, and whether its linear model does."""
    return {
        cell: (row["training_id"], (decided.get(cell) or {}).get("speaker") == "linear") for cell, row in chosen.items()
    }


def _said(lake: Lake, settings: Settings, speaking: Mapping[Cell, tuple[str, bool]], wish: Wish) -> pl.DataFrame:
    """One row a symbol and bar: ``backtest.NEEDED``, learnt_until and origin; ``regime`` is the bar's."""
    present = pl.DataFrame(
        [(*cell, *who) for cell, who in speaking.items()],
        schema={"symbol": pl.String, "cell": pl.String, "training_id": pl.String, "linear": pl.Boolean},
        orient="row",
    )
    symbols = present["symbol"].unique().to_list()
    voice = ("score", "p_up", "expected_return")
    said = lake.read(
        "predictions",
        symbols=symbols,
        since=_instant(wish.since),
        until=_instant(wish.until, end=True),
        columns=[
            "symbol",
            "regime",
            "timestamp",
            "training_id",
            "origin",
            *voice,
            *(f"linear_{name}" for name in voice),
            "learnt_until",
        ],
    ).rename({"regime": "cell"})
    regimes = lake.read(table_of(settings), symbols=symbols, columns=["symbol", "timestamp", "regime"])
    of_bars = regimes.select("symbol", "timestamp", pl.col("regime").cast(pl.String))
    cell = pl.col("cell")
    heard = (
        said.join(present, on=["symbol", "cell", "training_id"])
        .join(of_bars, on=["symbol", "timestamp"], how="left")
        .with_columns(
            *(spoken(name).alias(name) for name in voice),
            place=pl.col("origin").replace_strict(
                {origin: place for place, origin in enumerate(ORIGINS)}, default=None, return_dtype=pl.Int8
            ),
        )
        .drop_nulls(["place", "p_up", "score"])
        .filter((cell == ALL) | (cell == pl.col("regime")))
    )
    return (
        heard.sort("symbol", "timestamp", cell == ALL, "place")
        .unique(["symbol", "timestamp"], keep="first", maintain_order=True)
        .select(*NEEDED, "origin", "learnt_until")
    )


def _bars(lake: Lake, settings: Settings, names: Mapping[str, str], symbols: Sequence[str], wish: Wish) -> pl.DataFrame:
    """The universe's bars up to the last day, adjusted, with ``known_at`` and the ``value`` traded, in currency."""
    held = lake.read("bars", symbols=symbols, until=_instant(wish.until, end=True), columns=list(BARS))
    actions = lake.read("actions", symbols=symbols).drop("first_seen_at")
    traded = held.with_columns(value=pl.col("open") * pl.col("volume"))
    bars, _ = soundly_adjusted(traded, actions, settings, names)
    return with_known_at(bars, settings, names)


def _unseen(said: pl.DataFrame, bars: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The predictions that meet a bar and whose fit knew no label that came after it, and how many did."""
    met = said.join(bars.select("symbol", "timestamp", "known_at"), on=["symbol", "timestamp"], how="inner")
    late = overlapping(met)
    return met.join(late, on=["symbol", "timestamp"], how="anti"), late.height


def _in_one_piece(heard: pl.DataFrame, bars: pl.DataFrame, horizon: int) -> tuple[pl.DataFrame, int, int]:
    """What was said out of fold or what was said since, whichever is longer, where a pause lies between the two.

    And how many rows were left out, and how many bars the pause has. Nobody spoke then (of the vault's dates, mostly):
    as idle time they would count as held, and thin out every figure of a year.
    """
    last = heard.filter(origin=OUT_OF_FOLD)["timestamp"].max()
    if last is None:
        return heard, 0, 0
    before, since = heard.filter(pl.col("timestamp") <= last), heard.filter(pl.col("timestamp") > last)
    inside = pl.col("timestamp").is_between(last, since["timestamp"].min(), closed="none")
    between = bars.filter(inside)["timestamp"].n_unique()
    if between <= MOST_SILENT + horizon:
        return heard, 0, 0
    kept = max(before, since, key=lambda part: part["timestamp"].n_unique())
    return kept, heard.height - kept.height, between


def _tried(
    ledger: Ledger,
    settings: Settings,
    wish: Wish,
    speaking: Mapping[Cell, Any],
    score: float | None,
    now: datetime,
) -> Trials:
    """The trials behind this backtest, which is noted as one: configurations of models that were seen, and of trading.

    Every model configuration that the gate or a search saw of these regimes counts once, and every other way of
    trading that was looked at once more, whatever setting it is turned by (``quant.backtest.depended_on``). Their
    variance is that of the backtests, of the models where there is but one.
    """
    regimes = sorted({regime for _, regime in speaking})
    models = {
        row["configuration"]: row["score"] for regime in regimes for row in ledger.trials(family(settings, regime))
    }
    name = f"{BACKTEST}|{family(settings, '*')}"
    rules = settings.backtest
    ways = [asdict(rules), depended_on(rules, settings.trading, settings.signal), wish.document]
    traded = json.dumps(ways, sort_keys=True)
    model = configuration(table_of(settings), settings.learning)
    own = hashlib.sha256(f"{model}|{traded}".encode()).hexdigest()
    ledger.note_trials([{"family": name, "configuration": own, "score": score, "source": BACKTEST, "seen_at": now}])
    scores = [row["score"] for row in ledger.trials(name)]
    known = Trials.of(scores) if len(scores) > 1 else Trials.of(list(models.values()) or scores)
    return Trials(max(len(models), 1) + len(scores) - 1, known.variance)


def _logged(registry: Registry, title: str, told: Row, picture: bytes, tags: Mapping[str, str]) -> str:
    parameters = told["parameters"]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    said = {**tags, "rule": parameters["rule"], "sizing": parameters["sizing"], "models": told["of"]["models"]}
    return registry.log_backtest(title, digest, metrics=_metrics(told), tags=said, report=told, picture=picture)


def _metrics(told: Row) -> dict[str, float]:
    """What runs are compared by."""
    found: dict[str, Any] = {**told["figures"], "break_even_bp": told["break_even_bp"]}
    found |= {name: told["luck"].get(name) for name in ("probabilistic", "deflated", "minimum_years", "trials")}
    for name in ("gross", "net", "profit_factor"):
        estimate = told["trades"].get(name) or {}
        found |= {f"trade_{name}": estimate.get("value"), f"trade_{name}_error": estimate.get("error")}
    found |= {f"sharpe_at_{row['cost_bp']:g}_bp": row["sharpe"] for row in told["costs"]}
    for name, other in told["benchmarks"].items():
        found |= {f"{name}_return": other["annual_return"], f"{name}_excess": other["excess"]}
    return {name: float(value) for name, value in found.items() if value is not None}


def _instant(day: date | None, end: bool = False) -> datetime | None:
    """The first instant of a day, or its last."""
    if day is None:
        return None
    start = datetime.combine(day, clock_time(), UTC)
    return start + timedelta(days=1, microseconds=-1) if end else start
