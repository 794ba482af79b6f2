"""Last station: what the views say of the latest final bar of each symbol, as one signal, and for how long that holds.

No promoted model, no fresh feature, a model file that is not the registered one, an unexplained jump: the signal is
HOLD and says so. It is never a guess dressed up.

How much each view counts, and what a blended score has been worth, is read once a run from the track record of the
universe (``stations.record``). What a run says is a matter of what it reads: the same bars, models and decisions
give the same signals, but for ids and clocks.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant import risk
from alpha_assets.quant.blend import cells_of, shares
from alpha_assets.quant.heads import ANSWERS, pattern_success
from alpha_assets.quant.labels import VOLATILITY_BARS
from alpha_assets.quant.outlook import Record, word
from alpha_assets.quant.schema import TIME
from alpha_assets.quant.tally import WHOLE, is_fresh, tally
from alpha_assets.quant.views import Opinion, fired, opinions, views_of
from alpha_assets.settings import Settings
from alpha_assets.stations import record as records
from alpha_assets.stations.ask import Answer, Hearing, Question, failed, finite
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.recognise import TABLE as PATTERN_TABLE
from alpha_assets.stations.record import KEY, LEADER
from alpha_assets.stations.series import calendars_of, pending_bars
from alpha_assets.stations.sets import recipe_of
from alpha_assets.stations.train import KEYED
from alpha_assets.stores.cache import METRICS, Cache
from alpha_assets.stores.cache import SIGNALS as SIGNALS_CACHED
from alpha_assets.stores.lake import PREDICTIONS, SIGNALS, Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.trouble import StoreTrouble


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
    hearing = Hearing(lake, ledger, registry, settings, symbols, now)
    said_before = {} if anew else _said_before(ledger, symbols, now, troubles)
    questions = [hearing.question(symbol) for symbol in symbols]
    holds = {
        one.symbol: row
        for one in questions
        if (row := said_before.get(one.symbol)) and one.key is not None and row["cache_key"] == one.key
    }
    unsaid = [one for one in questions if one.symbol not in holds]
    said = _said(hearing, unsaid, progress, troubles) if unsaid else []
    troubles += _publish(lake, ledger, settings, said, hits=len(holds), now=now)
    progress("signals written", 3, 3)
    by_symbol = holds | {row["symbol"]: row for row in said}
    for row in (by_symbol[symbol] for symbol in symbols):
        names = ("confidence", "model_version", "reason")
        report.say(row["symbol"], row["signal"], bar_time=str(row["bar_time"]), **{name: row[name] for name in names})
    report.totals = {
        "symbols": len(symbols),
        "cached": len(holds),
        **({"trouble": "; ".join(_each_once(troubles))} if troubles else {}),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def _said(hearing: Hearing, questions: Sequence[Question], progress: Progress, troubles: list[str]) -> list[Row]:
    """The rows of these symbols; the bars that the track record is made of are read while the models are asked."""
    lake, answers = hearing.lake, dict[str, Answer]()
    predictions: list[Row] = []
    with records.track_record(lake, hearing.ledger, hearing.settings, hearing.served, hearing.now) as told:
        for done, one in enumerate(questions):
            progress("models asked", done, len(questions), one.symbol)
            answers[one.symbol] = hearing.answer(one)
            predictions += hearing.predictions(one, answers[one.symbol])
        progress("models asked", len(questions), len(questions))
        if predictions:
            lake.append("predictions", pl.DataFrame(predictions, schema=dict(PREDICTIONS)))
        progress("reading the track record", 0, 3)
        record, lost, unkept = _record(told)
    troubles += [] if unkept is None else [unkept]
    if lost is not None:
        answers = {symbol: Answer(lost, one.decision, lasting=False) for symbol, one in answers.items()}
    progress("weighing the views", 1, 3)
    said = _Desk(hearing, record).signals(answers, {one.symbol: one.key for one in questions})
    progress("writing the signals", 2, 3)
    return said


class _Desk:
    """Makes signals of the newest bars of one run: all views at once, then a row a symbol."""

    def __init__(self, hearing: Hearing, record: Record | None) -> None:
        self._lake, self._ledger = hearing.lake, hearing.ledger
        self._settings, self._now = hearing.settings, hearing.now
        self._states, self._latest, self._record = hearing.states, hearing.latest, record
        self._views = views_of(self._settings.views)
        last = {symbol: row["last_bar"] for symbol, row in self._states.items()}
        at = pl.DataFrame({"symbol": list(last), "timestamp": list(last.values())}, schema=KEYED)
        self._closes = dict(hearing.recent.join(at, on=KEY).select("symbol", "close").iter_rows())

    def signals(self, answers: Mapping[str, Answer], keys: Mapping[str, str | None]) -> list[Row]:
        """A row for the ledger and the lake of each symbol; what goes wrong with one is its HOLD and no other's.

        ``keys`` say what each is made of, for the next time.
        """
        try:
            rows = self._signals(answers)
            return [{**row, "cache_key": _key_of(row["symbol"], answers, keys)} for row in rows]
        except Exception as error:  # all views of all bars at once: who it is shows one by one
            if len(answers) > 1:
                return [row for symbol, one in answers.items() for row in self.signals({symbol: one}, keys)]
            held = {symbol: Answer(failed(error), one.decision, shown=False) for symbol, one in answers.items()}
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
                score=finite(float(score[at])),
                sure=finite(float(sure[at])),
                expected=finite(float(expected[at])) if led[at] else None,
                prices=tuple(finite(float(value)) if led[at] else None for value in prices[at]),
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
                detail = {name: finite(value) for name, value in one.detail.items()}
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


def _key_of(symbol: str, answers: Mapping[str, Answer], keys: Mapping[str, str | None]) -> str | None:
    return keys[symbol] if answers[symbol].lasting else None


def _record(
    told: Callable[[], tuple[Record | None, str | None]],
) -> tuple[Record | None, str | None, str | None]:
    """What is believed of the views, why nothing can be said where that cannot be told, and why it was not kept."""
    try:
        record, unkept = told()
    except Exception as error:  # whatever it is: predictions are kept, and every symbol has a signal that says so
        return None, f"the track record of the views cannot be read: {type(error).__name__}: {error}", None
    return record, None, unkept


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


def _each_once(troubles: Sequence[str]) -> list[str]:
    """Without what another of them says as well."""
    distinct = list(dict.fromkeys(troubles))
    return [one for one in distinct if not any(one is not other and one in other for other in distinct)]


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
