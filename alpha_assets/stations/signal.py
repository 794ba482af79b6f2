"""Last station: what the promoted model of each symbol says of its latest final bar, and for how long that holds.

No promoted model, no fresh feature, a model file that is not the registered one, an unexplained jump: the signal is
HOLD and says so. It is never a guess dressed up.

The model is that of the bar's own regime where one is promoted, else that of «all». A canary is asked about the same
bar, and what it says is stored beside and never shown.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.bars import held_symbols
from alpha_assets.quant.blend import direction
from alpha_assets.quant.feature_set import FeatureSet
from alpha_assets.quant.heads import ANSWERS, features_of
from alpha_assets.quant.schema import BARS, empty
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.sets import Recipe, recipe_of, restored
from alpha_assets.stations.train import ALL, KEYED, why_untrained
from alpha_assets.stations.watch import LIVE, SHADOW
from alpha_assets.stores.lake import PREDICTIONS, SIGNALS, Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import ModelDamaged, Registry

#: Bars over which an unexplained split-sized jump holds publication. The few features with a longer window (a mean of
#: 200, a drawdown over 252) are ratios to a level, which a jump moves once and not bar by bar.
HOLD_BARS = 60


def signal(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    symbols: Sequence[str],
    now: datetime,
    progress: Progress = silent,
) -> Report:
    """Say BUY, SELL or HOLD for the latest final bar of each symbol; write it to the ledger and to the lake."""
    started = time.perf_counter()
    report = Report()
    states = ledger.states()
    production, canaries = _by_symbol(ledger.production()), _by_symbol(ledger.canaries())
    candidates = ledger.candidates()
    members = {row["symbol"]: row for row in ledger.universe(retired=True)}
    newest = _newest(members, states)
    recent = _recent(lake, states, symbols)
    asked = [row for symbol in symbols for row in (*production.get(symbol, ()), *canaries.get(symbol, ()))]
    recipes = _recipes(ledger, settings, asked)
    latest = _latest(lake, states, recipes, recent)
    jumps = _jumps(recent)
    said, predictions = [], []
    for done, symbol in enumerate(symbols, start=1):
        candidate, state = candidates.get((symbol, ALL)), states.get(symbol)
        decision = _serving(production.get(symbol, ()), latest)
        table = decision["features_set"] if decision else None
        held: str | None = "it is not known whether it may be said"
        try:
            held = jumps.get(symbol) or _behind(members.get(symbol), state, newest, settings)
            recipe, bar = recipes.get(table), latest.get((table, symbol))
            if decision is None and symbol in production:
                opinion = _hold(_not_of_this_regime(production[symbol]))
            else:
                opinion = _opinion(decision, candidate, recipe, bar, state, held, registry, settings)
        except Exception as error:  # one symbol of many: it is held with the reason, and the others go on
            opinion = _hold(f"no signal could be made: {type(error).__name__}: {error}", _named(decision))
        said.append(_row(symbol, opinion, states.get(symbol, {}).get("last_bar"), now, settings))
        if decision is not None and opinion.get("p_up") is not None:
            predictions.append(_prediction(symbol, decision, opinion, states[symbol], now, LIVE))
        if held is None:
            for canary in _applying(canaries.get(symbol, ()), latest):
                recipe, bar = recipes[canary["features_set"]], latest[canary["features_set"], symbol]
                view = _shadowed(canary, recipe, bar, states[symbol], registry, settings)
                if view is not None:
                    predictions.append(_prediction(symbol, canary, view, states[symbol], now, SHADOW))
        progress("signals", done, len(symbols))
    if predictions:
        lake.append("predictions", pl.DataFrame(predictions, schema=dict(PREDICTIONS)))
    _publish(lake, ledger, said)
    for row in said:
        keys = ("confidence", "model_version", "reason")
        report.say(row["symbol"], row["signal"], bar_time=str(row["bar_time"]), **{key: row[key] for key in keys})
    report.totals = {
        "symbols": len(symbols),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def faults(
    lake: Lake, ledger: Ledger, registry: Registry, settings: Settings, decisions: Sequence[Row]
) -> dict[tuple[str, str], str]:
    """By (symbol, regime) why the model of a decision has no probability for the newest bar that has features.

    A bar that is in the warm-up, or has no features yet, is no fault of the model.
    """
    states = ledger.states()
    recipes = _recipes(ledger, settings, decisions)
    latest = _latest(lake, states, recipes, _recent(lake, states, sorted({row["symbol"] for row in decisions})))
    found = {}
    for row in decisions:
        table, cell = row["features_set"], (row["symbol"], row["regime"])
        if table not in recipes:
            found[cell] = f"it reads {table}, which is no longer kept"
            continue
        bar = latest.get((table, row["symbol"]))
        if bar is None or not bar["warm"].item():
            continue
        try:
            said = _opinion(row, None, recipes[table], bar, states[row["symbol"]], None, registry, settings)
        except Exception as error:  # whatever it does instead of answering is what is wrong with it
            found[cell] = f"{type(error).__name__}: {error}"
            continue
        if said["p_up"] is None:
            found[cell] = said["reason"]
    return found


def _recent(lake: Lake, states: Mapping[str, Row], symbols: Sequence[str]) -> pl.DataFrame:
    """The newest bars of each symbol, more than HOLD_BARS where it trades every session."""
    last = {symbol: states[symbol]["last_bar"] for symbol in symbols if states.get(symbol, {}).get("last_bar")}
    since = {symbol: at - timedelta(days=2 * HOLD_BARS) for symbol, at in last.items()}
    return lake.read("bars", symbols=list(last), since=since, columns=list(BARS)) if last else empty(BARS)


def _by_symbol(decisions: Mapping[tuple[str, str], Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for (symbol, _), row in decisions.items():
        found.setdefault(symbol, []).append(row)
    return found


def _recipes(ledger: Ledger, settings: Settings, decisions: Sequence[Row]) -> dict[str | None, Recipe]:
    """By feature table what these decisions' models read; none where this program no longer makes the same numbers."""
    current = recipe_of(settings)
    tables = {str(row["features_set"]) for row in decisions}
    known = ledger.recipes()
    made = {table: restored(known.get(table, {}), table) for table in tables - {current.table}}
    made |= {current.table: current} if current.table in tables else {}
    return {table: recipe for table, recipe in made.items() if recipe is not None}


#: The feature row of a symbol's last bar, by feature table and symbol.
Latest = Mapping[tuple[str | None, str], pl.DataFrame]


def _latest(
    lake: Lake, states: Mapping[str, Row], recipes: Mapping[str | None, Recipe], recent: pl.DataFrame
) -> Latest:
    """The feature row of each symbol's last bar in the tables that models read, where there is one.

    ``regime`` is the bar's, and ``warm`` says whether it lies past the warm-up.
    """
    symbols = recent["symbol"].unique().to_list()
    return {
        (table, symbol): row
        for table, recipe in recipes.items()
        for symbol, row in _latest_of(lake, states, symbols, recipe, recent).items()
    }


def _applying(decisions: Sequence[Row], latest: Latest) -> list[Row]:
    """Of one symbol's decisions those whose model has a say on its last bar: that of the bar's regime, then «all»."""
    found = []
    for row in decisions:
        bar = latest.get((row["features_set"], row["symbol"]))
        if bar is not None and row["regime"] in (ALL, bar["regime"].item()):
            found.append(row)
    return sorted(found, key=lambda row: bool(row["regime"] == ALL))


def _serving(decisions: Sequence[Row], latest: Latest) -> Row | None:
    """Of one symbol's decisions the one whose model speaks of its last bar; «all» also where the bar has no row yet."""
    fallback = (row for row in decisions if row["regime"] == ALL)
    return next(iter(_applying(decisions, latest)), next(fallback, None))


def _shadowed(
    canary: Row, recipe: Recipe, bar: pl.DataFrame, state: Row, registry: Registry, settings: Settings
) -> dict[str, Any] | None:
    """What a canary says; None where it cannot be asked yet or its files are out of reach, which may heal.

    Whatever else it does than to say a probability is kept as no answer: its shadow has failed.
    """
    try:
        view = _opinion(canary, None, recipe, bar, state, None, registry, settings)
    except Exception:  # a version on trial may do anything; production goes on beside it
        return {"p_up": None}
    return view if view["p_up"] is not None else None


def _latest_of(
    lake: Lake, states: Mapping[str, Row], symbols: Sequence[str], recipe: Recipe, recent: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """``_latest`` from one table.

    The ledger's hint says which bar is the last: a refresh that is under way beside us may have written on.
    """
    last = {symbol: states[symbol]["last_bar"] for symbol in symbols if states.get(symbol, {}).get("last_bar")}
    if not last:
        return {}
    at = pl.DataFrame({"symbol": list(last), "timestamp": list(last.values())}, schema=KEYED)
    rows = lake.read(recipe.table, symbols=list(last), since=last).join(at, on=["symbol", "timestamp"])
    if rows.is_empty():
        return {}
    key = ["symbol", "timestamp"]
    rows = rows.join(_warm(lake, list(last), recipe.feature_set, recent).join(at, on=key), on=key, how="left")
    return {str(symbol): part for (symbol,), part in rows.group_by("symbol")}


def _warm(lake: Lake, symbols: Sequence[str], feature_set: FeatureSet, recent: pl.DataFrame) -> pl.DataFrame:
    """Whether each bar lies past the warm-up, counted over a recent stretch and over all bars where that is short."""
    columns = ["symbol", "timestamp", "listing"]
    bars = recent.select(columns)
    enough = bars.group_by("symbol", "listing").len().filter(pl.col("len") > feature_set.blank)["symbol"].to_list()
    short = sorted(set(symbols) - set(enough))
    if short:
        whole = lake.read("bars", symbols=short, columns=columns)
        bars = pl.concat([bars.filter(~pl.col("symbol").is_in(short)), whole])
    return bars.select("symbol", "timestamp", warm=feature_set.warm())


def _newest(members: Mapping[str, Row], states: Mapping[str, Row]) -> dict[str, datetime]:
    """The newest bar that each source has given of any symbol."""
    newest: dict[str, datetime] = {}
    for symbol, member in members.items():
        last = states.get(symbol, {}).get("last_bar")
        if last is not None:
            newest[member["source"]] = max(last, newest.get(member["source"], last))
    return newest


def _behind(member: Row | None, state: Row | None, newest: Mapping[str, datetime], settings: Settings) -> str | None:
    """Why nothing is said of a symbol whose newest bar lags behind what its source has given of any symbol.

    Sessions are those of its own calendar. What the clock says would not do: a simulated market or a folder of files
    ends in the past for all of its symbols. So of a source's only symbol nobody can tell here whether it is delisted
    or the source has ended; the check of freshness, which asks the source, looks after that.
    """
    if member is None or state is None or state.get("last_bar") is None:
        return None
    last, reached = state["last_bar"], newest[member["source"]]
    behind = calendars.elapsed_sessions(member["calendar"], last.date(), reached.date())
    if behind <= settings.signal.stale_sessions:
        return None
    return f"no bar since {last:%Y-%m-%d}, {behind} sessions behind others of its source: halted or delisted"


def _jumps(bars: pl.DataFrame) -> dict[str, str]:
    """Why nothing is said of symbols with an unexplained split-sized jump among their newest bars."""
    return {
        symbol: f"a split-sized jump on {day} has no event: publication is held until it is explained"
        for symbol, day in held_symbols(bars, HOLD_BARS).select("symbol", "date").iter_rows()
    }


GATE_CLOSED = "none has passed the gate for this symbol"


def _not_of_this_regime(others: Sequence[Row]) -> str:
    """Why a symbol with models in production has no signal."""
    names = ", ".join(sorted(str(row["regime"]) for row in others))
    return f"no promoted model of the latest bar's regime, nor of «{ALL}»: there is one of {names} only"


def _opinion(
    decision: Row | None,
    candidate: Row | None,
    recipe: Recipe | None,
    latest: pl.DataFrame | None,
    state: Row | None,
    held: str | None,
    registry: Registry,
    settings: Settings,
) -> dict[str, Any]:
    """The signal with its confidence and reason; ``p_up``, and all ``said``, only where a model spoke."""
    if state is None or state.get("last_bar") is None:
        return _hold(why_untrained(candidate, state, settings))
    if decision is None:
        judged = candidate is not None and candidate["model_version"] is not None
        why = GATE_CLOSED if judged else why_untrained(candidate, state, settings)
        return _hold(f"no promoted model: {why}")
    named = _named(decision)
    if held is not None:
        return _hold(held, named)
    if recipe is None:
        return _hold(
            f"the promoted model reads {decision['features_set']}, which is no longer kept: train again", named
        )
    if latest is None:
        return _hold("the latest bar has no features yet", named)
    if not latest["warm"].item():
        blank = recipe.feature_set.blank
        return _hold(f"the latest bar is in the warm-up of the features: a listing's first {blank} bars", named)
    try:
        said = _predict(decision["symbol"], decision, latest, registry)
    except (ModelDamaged, OSError) as error:
        return _hold(f"the promoted model cannot be read: {error}", named)
    p_up = said["p_up"]
    word, confidence = direction(p_up, settings.signal)
    limits = f"BUY from {settings.signal.buy_from:.3f}, SELL to {settings.signal.sell_to:.3f}"
    whose = "its linear model's " if decision["speaker"] == "linear" else ""
    reason = f"{decision['model_name']} version {decision['model_version']}: {whose}P(up) {p_up:.3f} ({limits})"
    return {"signal": word, "confidence": confidence, "p_up": p_up, "reason": reason, "said": said, **named}


def _named(decision: Row | None) -> dict[str, Any]:
    names = ("model_name", "model_version")
    return {} if decision is None else {name: decision[name] for name in names}


def _hold(reason: str, named: Mapping[str, Any] | None = None) -> dict[str, Any]:
    none = {"model_name": None, "model_version": None}
    return {"signal": "HOLD", "confidence": None, "p_up": None, "reason": reason, **none, **(named or {})}


def _predict(symbol: str, decision: Row, latest: pl.DataFrame, registry: Registry) -> dict[str, float]:
    """What the promoted model says of the one row ``latest``, in the voice that was judged.

    The linear model says P(up) and the expected return, and nothing else.
    """
    candidate = registry.candidate(
        decision["model_name"], decision["model_version"], decision["model_location"], decision["model_digest"]
    )
    said = candidate.predict(features_of(latest, candidate), [symbol])
    told = {name: float(said[name][0]) for name in ANSWERS}
    if decision["speaker"] != "linear":
        return told
    return dict.fromkeys(ANSWERS, math.nan) | {
        "p_up": told["linear_p_up"],
        "linear_p_up": told["linear_p_up"],
        "expected_return": told["linear_expected_return"],
        "linear_expected_return": told["linear_expected_return"],
        "dissimilarity": told["dissimilarity"],
    }


def _row(symbol: str, opinion: Mapping[str, Any], bar_time: datetime | None, now: datetime, settings: Settings) -> Row:
    identity = [
        symbol,
        str(bar_time),
        opinion["model_name"],
        opinion["model_version"],
        opinion["signal"],
        opinion["reason"],
    ]
    return {
        "symbol": symbol,
        **{name: value for name, value in opinion.items() if name != "said"},
        "bar_time": bar_time,
        "created_at": now,
        "expires_at": now + timedelta(hours=settings.signal_ttl_hours),
        "signal_id": hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32],
    }


def _prediction(
    symbol: str, decision: Row, opinion: Mapping[str, Any], state: Row, now: datetime, origin: str
) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "regime": decision["regime"],
        "timestamp": state["last_bar"],
        "training_id": decision["training_id"],
        "origin": origin,
        "made_at": now,
        **{name: None if math.isnan(value) else value for name, value in opinion.get("said", {}).items()},
    }


def _publish(lake: Lake, ledger: Ledger, said: Sequence[Row]) -> None:
    """First the lake, which keeps every signal ever said, then the ledger, which serves the newest."""
    dated = [row for row in said if row["bar_time"] is not None]
    if dated:
        lake.append(
            "signals", pl.DataFrame([{key: row[key] for key in SIGNALS} for row in dated], schema=dict(SIGNALS))
        )
    ledger.put_signals(said)
