"""Last station: what the views say of the latest final bar of each symbol, as one signal, and for how long that holds.

No promoted model, no fresh feature, a model file that is not the registered one, an unexplained jump: the signal is
HOLD and says so. It is never a guess dressed up.

The model is that of the bar's own regime where one is promoted, else that of «all». A canary, and a candidate that
nobody has rejected, are asked about the same bar, and what they say is stored beside and never shown.

How much each view counts, and what a blended score has been worth, is read once a run from the track record of the
universe (``stations.record``). What a run says is a matter of what it reads: the same bars, models and decisions
give the same signals, but for ids and clocks.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant import calendars, risk
from alpha_assets.quant.bars import held_symbols
from alpha_assets.quant.blend import cells_of, shares
from alpha_assets.quant.feature_set import FeatureSet
from alpha_assets.quant.heads import ANSWERS, Candidate, features_of, pattern_success
from alpha_assets.quant.labels import VOLATILITY_BARS
from alpha_assets.quant.outlook import Record, word
from alpha_assets.quant.schema import BARS, TIME, empty
from alpha_assets.quant.tally import WHOLE, is_fresh, tally
from alpha_assets.quant.views import Opinion, fired, opinions, views_of
from alpha_assets.settings import Settings
from alpha_assets.stations import record as records
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.recognise import TABLE as PATTERN_TABLE
from alpha_assets.stations.record import KEY, LEADER
from alpha_assets.stations.series import calendars_of, pending_bars
from alpha_assets.stations.sets import Recipe, recipe_of, restored, table_of
from alpha_assets.stations.train import ALL, KEYED, why_untrained
from alpha_assets.stations.watch import LIVE, SHADOW
from alpha_assets.stores.cache import METRICS, Cache
from alpha_assets.stores.cache import SIGNALS as SIGNALS_CACHED
from alpha_assets.stores.lake import PREDICTIONS, SIGNALS, Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import ModelDamaged, Registry
from alpha_assets.stores.trouble import StoreTrouble

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
    *,
    anew: bool = False,
) -> Report:
    """Say what the views come to for the latest final bar of each symbol; write it to the ledger and to the lake.

    What was said of the same bar by the same models, features and settings, and has not expired, is not made again,
    unless ``anew``. What serves must be known, so without the decisions, which the ledger holds, a run fails. Whatever
    else the ledger keeps is a cache: where it gives none of it everything is made anew, where it takes no signal they
    are in the lake, which serves them, and ``trouble`` among the totals says why.
    """
    started = time.perf_counter()
    report, troubles = Report(), list[str]()
    states, served = ledger.states(), ledger.production()
    production, shadows = _by_symbol(served), _by_symbol(_on_trial(ledger))
    candidates = ledger.candidates()
    members = {row["symbol"]: row for row in ledger.universe(retired=True)}
    newest = _newest(members, states)
    recent = _recent(lake, states, symbols)
    asked = [row for symbol in symbols for row in (*production.get(symbol, ()), *shadows.get(symbol, ()))]
    recipes = _recipes(ledger, settings, asked)
    latest = _latest(lake, states, recipes, recent)
    jumps = _jumps(recent)
    said_before = {} if anew else _said_before(ledger, symbols, now, troubles)
    answers: dict[str, Answer] = {}
    keys: dict[str, str] = {}
    kept: list[Row] = []
    predictions = []
    for done, symbol in enumerate(symbols):
        progress("models asked", done, len(symbols), symbol)
        candidate, state = candidates.get((symbol, ALL)), states.get(symbol)
        decision = _serving(production.get(symbol, ()), latest)
        table = decision["features_set"] if decision else None
        held: str | None = "it is not known whether it may be said"
        shadowing: list[Row] = []
        try:
            held = jumps.get(symbol) or _behind(members.get(symbol), state, newest, settings)
            shadowing = [] if held else _applying(shadows.get(symbol, ()), latest)
            bars = [latest[name, symbol] for name in recipes if (name, symbol) in latest]
            keys[symbol] = _key(symbol, [decision, *shadowing], candidate, state, held, bars, settings)
            if said_before.get(symbol, {}).get("cache_key") == keys[symbol]:
                kept.append(said_before[symbol])
                continue
            recipe, bar = recipes.get(table), latest.get((table, symbol))
            if decision is None and symbol in production:
                answer = Answer(_not_of_this_regime(production[symbol]))
            else:
                answer = _answer(decision, candidate, recipe, bar, state, held, registry, settings)
        except Exception as error:  # one symbol of many: it is held with the reason, and the others go on
            answer = Answer(_failed(error), decision, lasting=False)
        answers[symbol] = replace(answer, shown=held is None and answer.shown)
        if decision is not None and answer.told:
            predictions.append(_prediction(symbol, decision, answer.told, states[symbol], now, LIVE))
        for shadow in shadowing:
            recipe, bar = recipes[shadow["features_set"]], latest[shadow["features_set"], symbol]
            told = _shadowed(shadow, recipe, bar, states[symbol], registry, settings)
            if told is not None:
                predictions.append(_prediction(symbol, shadow, told, states[symbol], now, SHADOW))
    progress("models asked", len(symbols), len(symbols))
    if predictions:
        lake.append("predictions", pl.DataFrame(predictions, schema=dict(PREDICTIONS)))
    said: list[Row] = []
    if answers:
        progress("reading the track record", 0, 3)
        record, lost, unkept = _record(lake, ledger, settings, served, now)
        troubles += [] if unkept is None else [unkept]
        desk = _Desk(lake, ledger, settings, states, recent, latest, record, now)
        if lost is not None:
            answers = {symbol: Answer(lost, one.decision, lasting=False) for symbol, one in answers.items()}
        progress("weighing the views", 1, 3)
        said = desk.signals(answers, keys)
    progress("writing the signals", 2, 3)
    troubles += _publish(lake, ledger, settings, said, hits=len(kept), now=now)
    progress("signals written", 3, 3)
    by_symbol = {row["symbol"]: row for row in (*said, *kept)}
    for row in (by_symbol[symbol] for symbol in symbols):
        names = ("confidence", "model_version", "reason")
        report.say(row["symbol"], row["signal"], bar_time=str(row["bar_time"]), **{name: row[name] for name in names})
    report.totals = {
        "symbols": len(symbols),
        "cached": len(kept),
        **({"trouble": "; ".join(dict.fromkeys(troubles))} if troubles else {}),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


@dataclass(frozen=True)
class Answer:
    """What the promoted model of a symbol says of its newest bar, or in ``silent`` why there is no such answer.

    ``told`` are ``ANSWERS`` and scores in the voice that was judged; ``heads`` what each head says by itself;
    ``leading`` the columns that count most. ``shown`` is False where nothing whatever may be said of the bar, and
    ``lasting`` where the reason for silence may heal by itself, so that it is asked again the next time.
    """

    silent: str | None
    decision: Row | None = None
    told: Mapping[str, float] = field(default_factory=dict)
    heads: Mapping[str, Any] = field(default_factory=dict)
    leading: Sequence[Mapping[str, Any]] = ()
    candidate: Candidate | None = None
    bar: pl.DataFrame | None = None
    shown: bool = True
    lasting: bool = True


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
            said = _answer(row, None, recipes[table], bar, states[row["symbol"]], None, registry, settings)
        except Exception as error:  # whatever it does instead of answering is what is wrong with it
            found[cell] = f"{type(error).__name__}: {error}"
            continue
        if said.silent is not None:
            found[cell] = said.silent
    return found


def _on_trial(ledger: Ledger) -> dict[tuple[str, str], Row]:
    """Who is asked in the shadow of production: a cell's canary, else its candidate until that is rejected or serves.

    A candidate that was not decided on, or waits, has no voice that was judged: its trees speak.
    """
    canaries, decided, served = ledger.canaries(), ledger.decided(), ledger.production()
    waiting = {
        cell: decided.get(cell) or {**row, "speaker": None}
        for cell, row in ledger.candidates().items()
        if row["model_version"] is not None
        and decided.get(cell, {"stage": "staging"})["stage"] == "staging"
        and served.get(cell, {}).get("training_id") != row["training_id"]
    }
    return {**waiting, **canaries}


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
    """By feature table what these decisions' models read; none where this program no longer makes the same numbers.

    The present set is among them: views read it of every symbol.
    """
    current = recipe_of(settings)
    tables = {str(row["features_set"]) for row in decisions}
    known = ledger.recipes()
    made = {table: restored(known.get(table, {}), table) for table in tables - {current.table}}
    made[current.table] = current
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
    shadow: Row, recipe: Recipe, bar: pl.DataFrame, state: Row, registry: Registry, settings: Settings
) -> Mapping[str, float] | None:
    """What a version on trial says; None where it cannot be asked yet or its files are out of reach, which may heal.

    Whatever else it does than to say a probability is kept as no answer: its shadow has failed.
    """
    try:
        answer = _answer(shadow, None, recipe, bar, state, None, registry, settings)
    except Exception:  # a version on trial may do anything; production goes on beside it
        return {}
    return answer.told if answer.silent is None else None


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


def _answer(
    decision: Row | None,
    candidate: Row | None,
    recipe: Recipe | None,
    latest: pl.DataFrame | None,
    state: Row | None,
    held: str | None,
    registry: Registry,
    settings: Settings,
) -> Answer:
    """What the model of ``decision`` says of the bar ``latest``, or why it says nothing."""
    if state is None or state.get("last_bar") is None:
        return Answer(why_untrained(candidate, state, settings), shown=False)
    if decision is None:
        judged = candidate is not None and candidate["model_version"] is not None
        why = GATE_CLOSED if judged else why_untrained(candidate, state, settings)
        return Answer(f"no promoted model: {why}")
    if held is not None:
        return Answer(held, decision)
    if recipe is None:
        return Answer(
            f"the promoted model reads {decision['features_set']}, which is no longer kept: train again", decision
        )
    if latest is None:
        return Answer("the latest bar has no features yet", decision)
    if not latest["warm"].item():
        blank = recipe.feature_set.blank
        why = f"the latest bar is in the warm-up of the features: a listing's first {blank} bars"
        return Answer(why, decision, shown=False)
    try:
        return _predict(decision["symbol"], decision, latest, registry, settings)
    except (ModelDamaged, OSError) as error:
        return Answer(f"the promoted model cannot be read: {error}", decision, lasting=False)


def _predict(symbol: str, decision: Row, latest: pl.DataFrame, registry: Registry, settings: Settings) -> Answer:
    """What the promoted model says of the one row ``latest``, in the voice that was judged.

    The linear model says P(up) and the expected return, and nothing else. Raises ValueError for an answer that is no
    probability.
    """
    candidate = registry.candidate(
        decision["model_name"], decision["model_version"], decision["model_location"], decision["model_digest"]
    )
    looks, horizon = candidate.parameters.horizon, settings.learning.horizon
    if looks != horizon:
        return Answer(
            f"the promoted model looks {looks} bars ahead and the settings {horizon}: train again, or set "
            f"ALPHA_LEARNING__HORIZON={looks}",
            decision,
        )
    features = features_of(latest, candidate)
    heads = candidate.said(features)
    said = candidate.predict(features, [symbol], heads)
    told = {name: float(said[name][0]) for name in (*ANSWERS, *(f"{part}score" for part in ("", "linear_")))}
    linear = decision["speaker"] == "linear"
    if linear:
        own = {name: told[f"linear_{name}"] for name in ("p_up", "expected_return", "score")}
        theirs = {f"linear_{name}": value for name, value in own.items()}
        told = dict.fromkeys(told, math.nan) | own | theirs | {"dissimilarity": told["dissimilarity"]}
    if not 0.0 <= told["p_up"] <= 1.0:
        raise ValueError(f"P(up) is {told['p_up']}: no signal can be made of what is not a probability")
    leading = _leading(candidate, features, settings.signal.top_features, linear=linear)
    each = {name: _number(answer[0]) for name, answer in heads.items()}
    return Answer(None, decision, told, each, leading, candidate, latest)


def _number(answer: Any) -> Any:
    return float(answer) if np.ndim(answer) == 0 else [float(part) for part in answer]


def _leading(candidate: Candidate, features: Any, count: int, *, linear: bool) -> list[dict[str, Any]]:
    """The columns that move the log-odds of up most, with their value and by how much (exact TreeSHAP)."""
    moved = candidate.contributions(features, linear=linear)[0]
    order = np.argsort(-np.abs(moved), kind="stable")[:count]
    return [
        {
            "feature": candidate.columns[at],
            "value": _finite(float(features[0, at])),
            "contribution": float(moved[at]),
        }
        for at in order
        if moved[at] != 0
    ]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


class _Desk:
    """Makes signals of the newest bars of one run: all views at once, then a row a symbol."""

    def __init__(
        self,
        lake: Lake,
        ledger: Ledger,
        settings: Settings,
        states: Mapping[str, Row],
        recent: pl.DataFrame,
        latest: Latest,
        record: Record | None,
        now: datetime,
    ) -> None:
        self._lake = lake
        self._ledger = ledger
        self._settings = settings
        self._states = states
        self._latest = latest
        self._record = record
        self._now = now
        self._views = views_of(settings.views)
        at = pl.DataFrame(
            {"symbol": list(states), "timestamp": [row["last_bar"] for row in states.values()]}, schema=KEYED
        )
        self._closes = dict(recent.join(at, on=KEY).select("symbol", "close").iter_rows())

    def signals(self, answers: Mapping[str, Answer], keys: Mapping[str, str]) -> list[Row]:
        """A row for the ledger and the lake of each symbol; what goes wrong with one is its HOLD and no other's.

        ``keys`` say what each is made of, for the next time.
        """
        try:
            rows = self._signals(answers)
            return [{**row, "cache_key": _key_of(row["symbol"], answers, keys)} for row in rows]
        except Exception as error:  # all views of all bars at once: who it is shows one by one
            if len(answers) > 1:
                return [row for symbol, one in answers.items() for row in self.signals({symbol: one}, keys)]
            held = {symbol: Answer(_failed(error), one.decision, shown=False) for symbol, one in answers.items()}
            return [{**row, "cache_key": None} for row in self._signals(held)]

    def _signals(self, answers: Mapping[str, Answer]) -> list[Row]:
        symbols = list(answers)
        shown = [symbol for symbol in symbols if answers[symbol].shown and self._record is not None]
        bars = self._bars(shown, answers) if shown else pl.DataFrame(schema={**KEYED, "regime": pl.String()})
        heard = opinions(self._views, bars)
        blended = self._blended(heard, bars) if shown else {}
        by_symbol = {
            bar["symbol"]: (bar, self._explained(said, answers[bar["symbol"]]))
            for bar, said in zip(bars.iter_rows(named=True), heard, strict=True)
        }
        return [
            self._row(symbol, answers[symbol], *by_symbol.get(symbol, ({}, [])), blended.get(symbol, NOTHING))
            for symbol in symbols
        ]

    def _bars(self, symbols: Sequence[str], answers: Mapping[str, Answer]) -> pl.DataFrame:
        """The newest bar of each symbol with everything that views, prices and risk read."""
        last = {symbol: self._states[symbol]["last_bar"] for symbol in symbols}
        bars = pl.DataFrame({"symbol": symbols, "timestamp": list(last.values())}, schema=KEYED)
        laid = records.lay(bars, self._features(last))
        laid = records.lay(laid, pl.DataFrame([self._told(bar, answers[bar[0]]) for bar in bars.rows()], schema=TOLD))
        laid = laid.with_columns(regime=pl.coalesce("regime", "model_regime"))
        laid = records.lay(laid, self._fired(last, answers))
        return laid.join(self._figures(last), on="symbol", how="left", maintain_order="left")

    def _features(self, last: Mapping[str, datetime]) -> pl.DataFrame:
        """What views read of the present feature set: as it was read for the models, where they read the same set."""
        table = recipe_of(self._settings).table
        held = [self._latest[table, symbol] for symbol in last if (table, symbol) in self._latest]
        if len(held) < len(last):
            return records.features_of(self._lake, self._settings, self._views, last)
        return pl.concat(held).select(records.feature_columns(self._settings, self._views))

    def _told(self, bar: tuple[str, datetime], answer: Answer) -> dict[str, Any]:
        """What the model view reads of one bar."""
        decision = answer.decision
        trained = None if decision is None else decision["trained_at"]
        overdue = None
        if trained is not None:
            overdue = (self._now - trained) / timedelta(days=1) - self._settings.promotion.expiry_days
        names = [name for name in TOLD if name in ANSWERS]
        told = {name: answer.told.get(name) for name in names}
        return {
            **dict(zip(KEY, bar, strict=True)),
            # An infinite dissimilarity says something; no other answer that is no number does.
            **{name: None if value is None or math.isnan(value) else value for name, value in told.items()},
            "model_overdue": overdue,
            "model_regime": None if answer.bar is None else answer.bar["regime"].item(),
        }

    def _fired(self, last: Mapping[str, datetime], answers: Mapping[str, Answer]) -> pl.DataFrame:
        """The patterns of the newest bars with their probability: by the pattern heads, else by their rate so far."""
        events = self._lake.read(PATTERN_TABLE, since=last, columns=[*KEY, "pattern", "direction", "strength"])
        at = pl.DataFrame({"symbol": list(last), "timestamp": list(last.values())}, schema=KEYED)
        events = events.join(at, on=KEY, how="semi").filter(pl.col("direction") != 0)
        if events.is_empty():
            return fired(events.with_columns(success=pl.lit(None, pl.Float64), told_by=pl.lit("")), told=True)
        chosen = events.select("symbol", "pattern").unique()
        rates = records.running_events(self._lake, self._settings, chosen["symbol"].unique().to_list(), chosen)
        found = events.join(rates, on=[*KEY, "pattern", "direction"], how="left", maintain_order="left").with_columns(
            told_by=pl.lit("its rate so far")
        )
        return fired(pl.concat([self._by_heads(part, answers) for part in found.partition_by("symbol")]), told=True)

    @staticmethod
    def _by_heads(events: pl.DataFrame, answers: Mapping[str, Answer]) -> pl.DataFrame:
        answer = answers[events["symbol"][0]]
        if answer.candidate is None or answer.candidate.patterns is None or answer.bar is None:
            return events
        told = pl.Series(pattern_success(answer.candidate, answer.bar, events), nan_to_null=True)
        return events.with_columns(
            success=pl.coalesce(told, "success"),
            told_by=pl.when(told.is_not_null()).then(pl.lit("the pattern model")).otherwise("told_by"),
        )

    def _figures(self, last: Mapping[str, datetime]) -> pl.DataFrame:
        """``risk.figures`` of each symbol up to its last bar."""
        memory = self._settings.signal.risk_bars + VOLATILITY_BARS + 1
        bars, _ = pending_bars(self._lake, self._settings, calendars_of(self._ledger), last, memory)
        bound = pl.col("symbol").replace_strict(dict(last), return_dtype=TIME)
        return risk.figures(bars.filter(pl.col("timestamp") <= bound), self._settings.signal)

    def _blended(self, heard: Sequence[Sequence[Opinion]], bars: pl.DataFrame) -> dict[str, "Blended"]:
        """What the opinions on each bar come to, by what is believed of the views in this period."""
        assert self._record is not None
        settings, weights, outlook = self._settings, self._record.weights, self._record.outlook
        said = np.array([[math.nan if one.score is None else one.score for one in each] for each in heard])
        cell, period = cells_of(bars["regime"]), np.zeros(bars.height, dtype=np.int64)
        score = weights.blend(said, cell, period)
        horizon = math.sqrt(settings.learning.horizon)
        scale = bars["scale_bar"].cast(pl.Float64).fill_null(math.nan).to_numpy() * horizon
        sure = outlook.confidence(score, scale, cell, period, records.round_trip(settings))
        expected = outlook.expected(score, scale, period)
        price = np.array([self._closes.get(symbol, math.nan) for symbol in bars["symbol"]])
        prices = np.column_stack(outlook.prices(price, expected, scale, period))
        led = records.leads(self._views, said, settings)
        found = {}
        for at, symbol in enumerate(bars["symbol"]):
            counted = shares(weights, self._record.views, [not one.abstained for one in heard[at]], int(cell[at]), 0)
            signal = word(score[at], sure[at], outlook.strong_from[0], settings.signal) if led[at] else "HOLD"
            found[symbol] = Blended(
                signal=signal,
                score=_finite(float(score[at])),
                sure=_finite(float(sure[at])),
                expected=_finite(float(expected[at])) if led[at] else None,
                prices=tuple(_finite(float(value)) if led[at] else None for value in prices[at]),
                shares=counted,
                led=bool(led[at]),
            )
        return found

    def _explained(self, said: Sequence[Opinion], answer: Answer) -> list[Opinion]:
        """The opinions, that of the model with its heads, or with the reason why nobody could ask it."""
        settings, explained = self._settings, []
        for one in said:
            if one.name == LEADER and answer.silent is not None:
                explained.append(replace(one, reasons=(answer.silent,), detail=_named(answer.decision)))
            elif one.name == LEADER:
                named = _named(answer.decision) | {"training_id": (answer.decision or {}).get("training_id")}
                detail = {name: _finite(value) for name, value in one.detail.items()}
                heard = {"heads": answer.heads, "kinds": _kinds(answer.told, settings)}
                explained.append(replace(one, detail={**detail, **named, **heard}))
            else:
                explained.append(one)
        return explained

    def _row(
        self, symbol: str, answer: Answer, bar: Mapping[str, Any], said: Sequence[Opinion], blended: "Blended"
    ) -> Row:
        settings, now = self._settings, self._now
        state = self._states.get(symbol, {})
        named, bar_time = _named(answer.decision), state.get("last_bar")
        reason = _reason(answer, said, blended, settings)
        unlike = answer.told.get("dissimilarity")
        level = risk.level(
            bar.get("rank"),
            bar.get("drawdown"),
            None if unlike is None or math.isnan(unlike) else unlike,
            settings.signal,
            settings.views.dissimilar_from,
        )
        identity = [symbol, str(bar_time), named["model_name"], named["model_version"], blended.signal, reason]
        middle, low, high = blended.prices
        return {
            "symbol": symbol,
            "signal": blended.signal,
            "confidence": None if blended.signal == "HOLD" else blended.sure,
            "p_up": answer.told.get("p_up"),
            "reason": reason,
            **named,
            "bar_time": bar_time,
            "created_at": now,
            "expires_at": now + timedelta(hours=settings.signal_ttl_hours),
            "signal_id": hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32],
            "regime": bar.get("regime"),
            "score": blended.score,
            "expected_return": blended.expected,
            "price": self._closes.get(symbol),
            "predicted_price": middle,
            "price_low": low,
            "price_high": high,
            "risk": level,
            "views": [one.document() for one in said],
            "top_features": list(answer.leading),
            "data_points": state.get("bars"),
            "features_set": (answer.decision or {}).get("features_set"),
        }


@dataclass(frozen=True)
class Blended:
    """What the views come to: the signal, the score, P(it earns its costs), the expected return, price and bounds.

    ``shares`` say how much each view counted; ``led`` whether anything could be stated.
    """

    signal: str
    score: float | None
    sure: float | None
    expected: float | None
    prices: tuple[float | None, ...]
    shares: Mapping[str, float]
    led: bool


NOTHING = Blended("HOLD", None, None, None, (None, None, None), {}, led=False)

#: What the model view reads of the newest bars, beside the key.
TOLD: Mapping[str, pl.DataType] = {
    **KEYED,
    **dict.fromkeys(("p_up", "expected_return", "p_sell", "p_hold", "p_buy", "dissimilarity"), pl.Float64()),
    "model_overdue": pl.Float64(),
    "model_regime": pl.String(),
}


def _kinds(told: Mapping[str, float], settings: Settings) -> dict[str, int]:
    """The side that each kind of heads takes by itself: 1, -1 or 0; a kind that says nothing is left out.

    The expected return where it pays the round trip, the direction beyond ``buy_from`` and ``sell_to``, of the three
    classes the likeliest.
    """

    def direction(p_up: float) -> int:
        return int(p_up >= settings.signal.buy_from) - int(p_up <= settings.signal.sell_to)

    costs, expected = records.round_trip(settings), told["expected_return"]
    classes = [told["p_sell"], told["p_hold"], told["p_buy"]]
    sides = {
        "return": (expected, int(expected > costs) - int(expected < -costs)),
        "direction": (told["p_up"], direction(told["p_up"])),
        "signal": (sum(classes), int(np.argmax(classes)) - 1),
        "linear": (told["linear_p_up"], direction(told["linear_p_up"])),
    }
    return {kind: side for kind, (answer, side) in sides.items() if math.isfinite(answer)}


def _named(decision: Row | None) -> dict[str, Any]:
    return {name: None if decision is None else decision[name] for name in ("model_name", "model_version")}


def _reason(answer: Answer, said: Sequence[Opinion], blended: Blended, settings: Settings) -> str:
    """Why the signal is what it is, in a sentence."""
    if answer.silent is not None and not blended.led:
        return answer.silent
    model = next((one for one in said if one.name == LEADER), None)
    decision, told = answer.decision, []
    if decision is not None and answer.silent is None:
        whose = "its linear model's " if decision["speaker"] == "linear" else ""
        told.append(
            f"{decision['model_name']} version {decision['model_version']}: {whose}P(up) {answer.told['p_up']:.3f}"
        )
    if model is not None and model.abstained:
        told.append(f"the model view abstains: {model.reasons[0]}")
    if blended.score is not None and blended.led:
        counted = ", ".join(f"{name} {share:.0%}" for name, share in blended.shares.items())
        told.append(f"views together {blended.score:+.2f} ({counted})")
    if blended.sure is not None and blended.led:
        least = settings.signal.least_confidence
        beyond = "stated from" if blended.signal != "HOLD" else "too little, stated from"
        told.append(f"earns its costs in {blended.sure:.1%} ({beyond} {least:.1%})")
    return "; ".join(told) or "no view speaks of this bar"


def _prediction(
    symbol: str, decision: Row, told: Mapping[str, float], state: Row, now: datetime, origin: str
) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "regime": decision["regime"],
        "timestamp": state["last_bar"],
        "training_id": decision["training_id"],
        "origin": origin,
        "made_at": now,
        **{name: None if math.isnan(value) else value for name, value in told.items()},
    }


def _failed(error: Exception) -> str:
    return f"no signal could be made: {type(error).__name__}: {error}"


def _key_of(symbol: str, answers: Mapping[str, Answer], keys: Mapping[str, str]) -> str | None:
    return keys.get(symbol) if answers[symbol].lasting else None


def _record(
    lake: Lake, ledger: Ledger, settings: Settings, served: Mapping[tuple[str, str], Row], now: datetime
) -> tuple[Record | None, str | None, str | None]:
    """What is believed of the views, why nothing can be said where that cannot be told, and why it was not kept."""
    try:
        record, unkept = records.track_record(lake, ledger, settings, served, now)
    except Exception as error:  # whatever it is: predictions are kept, and every symbol has a signal that says so
        return None, f"the track record of the views cannot be read: {type(error).__name__}: {error}", None
    return record, None, unkept


def _key(
    symbol: str,
    asked: Sequence[Row | None],
    candidate: Row | None,
    state: Row | None,
    held: str | None,
    bars: Sequence[pl.DataFrame],
    settings: Settings,
) -> str:
    """What a signal is made of, but for what is believed of the views, which holds for as long as a signal does.

    The features of the bar themselves: a bar that is restated keeps its time.
    """
    digest = hashlib.sha256()
    models = [
        [row["regime"], row["model_name"], row["model_version"], row["speaker"], row["features_set"]]
        for row in asked
        if row is not None
    ]
    chosen = (settings.signal, settings.views, settings.trading, settings.patterns)
    made_of = {
        "symbol": symbol,
        "bar": str(state and state.get("last_bar")),
        "bars": state and state.get("bars"),
        "models": models,
        "candidate": candidate and [candidate["state"], candidate["reason"]],
        "held": held,
        "settings": [asdict(one) for one in chosen],
        "ahead": [settings.learning.horizon, settings.promotion.expiry_days, table_of(settings)],
    }
    digest.update(json.dumps(made_of, sort_keys=True).encode())
    for bar in bars:
        digest.update(str(bar.rows()).encode())
    return digest.hexdigest()


def _said_before(ledger: Ledger, symbols: Sequence[str], now: datetime, troubles: list[str]) -> dict[str, Row]:
    """The stored signals that hold, by symbol; none where they cannot be read, and then all are said anew.

    What the ledger did not take does not hold: it is said anew, so that readers are sent to the lake no longer.
    """
    try:
        owed = ledger.owed()
        return {
            row["symbol"]: row for row in ledger.signals(symbols) if is_fresh(row, now) and row["symbol"] not in owed
        }
    except StoreTrouble as error:
        troubles.append(f"what was said before cannot be read, and all is said anew: {error}")
        return {}


def _publish(
    lake: Lake, ledger: Ledger, settings: Settings, said: Sequence[Row], *, hits: int, now: datetime
) -> list[str]:
    """First the lake, which keeps every signal ever said, then the ledger, which serves the newest, and their tally.

    What kept the ledger from it, if anything did: nobody is left without signals for that.
    """
    dated = [row for row in said if row["bar_time"] is not None]
    if dated:
        lake.append("signals", pl.DataFrame([_flat(row) for row in dated], schema=dict(SIGNALS)))
    cache = Cache(ledger)
    try:
        ledger.put_signals(said)
    except StoreTrouble as error:
        trouble = f"the lake has these signals, and the ledger has not: {error}"
        return [trouble, *_noted(ledger.owe, [row["symbol"] for row in dated], str(error))]
    troubles = _noted(ledger.settle, [row["symbol"] for row in said])
    try:
        if said:
            lives = timedelta(hours=settings.metrics_ttl_hours)
            cache.put(METRICS, WHOLE, tally(ledger.signals()), lives, now)
        cache.count(SIGNALS_CACHED, hits=hits, misses=len(said))
    except StoreTrouble as error:
        troubles.append(f"the signals are stored, their tally is not: {error}")
    return troubles


def _noted(how: Callable[..., None], *told: Any) -> list[str]:
    """Notes for readers what the ledger has got or has not got, and why that could not be noted."""
    try:
        how(*told)
    except OSError as error:
        return [f"which signals the ledger has got cannot be noted in the home: {error}"]
    return []


def _flat(row: Row) -> Row:
    """The row as the lake keeps it: lists as JSON."""
    return {key: json.dumps(row[key]) if isinstance(row[key], list) else row[key] for key in SIGNALS}
