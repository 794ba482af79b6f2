"""What the models in production say of the newest bar of each symbol, and those on trial beside them.

The model is that of the bar's own regime where one is promoted, else that of «all». A canary, and a candidate that
nobody has rejected, are asked about the same bar, and what they say is stored beside and never shown.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.bars import held_symbols
from alpha_assets.quant.feature_set import FeatureSet
from alpha_assets.quant.heads import ANSWERS, Candidate, features_of
from alpha_assets.quant.schema import BARS, empty
from alpha_assets.settings import Settings
from alpha_assets.stations.sets import Recipe, recipe_of, restored, table_of
from alpha_assets.stations.train import ALL, KEYED, why_untrained
from alpha_assets.stations.watch import LIVE, SHADOW
from alpha_assets.stores.lake import Lake, LakeDamaged
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import ModelDamaged, Registry

#: Bars over which an unexplained split-sized jump holds publication. The few features with a longer window (a mean of
#: 200, a drawdown over 252) are ratios to a level, which a jump moves once and not bar by bar.
HOLD_BARS = 60


@dataclass(frozen=True)
class Question:
    """Who is asked about the newest bar of a symbol: what serves, and those on trial beside it.

    ``held`` says why nothing may be said of the bar, ``failed`` why nobody can be asked, ``key`` what the signal is of.
    """

    symbol: str
    decision: Row | None
    held: str | None
    shadowing: Sequence[Row] = ()
    key: str | None = None
    failed: str | None = None


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


class Hearing:
    """What one run knows when it asks the models: decisions, states, newest bars and their features."""

    def __init__(
        self,
        lake: Lake,
        ledger: Ledger,
        registry: Registry,
        settings: Settings,
        symbols: Sequence[str],
        now: datetime,
    ) -> None:
        self.lake, self.ledger, self.settings, self.now = lake, ledger, settings, now
        self._registry = registry
        self.states, self.served = ledger.states(), ledger.production()
        self._production, self._shadows = _by_symbol(self.served), _by_symbol(_on_trial(ledger))
        self._candidates = ledger.candidates()
        self._members = {row["symbol"]: row for row in ledger.universe(retired=True)}
        self._newest = _newest(self._members, self.states)
        self.recent = _recent(lake, self.states, symbols)
        _refuse_lost(lake, settings, self.states, symbols)
        sides = (self._production, self._shadows)
        asked = [row for symbol in symbols for side in sides for row in side.get(symbol, ())]
        self._recipes = _recipes(ledger, settings, asked)
        self.latest = _latest(lake, self.states, self._recipes, self.recent)
        self._jumps = _jumps(self.recent)

    def question(self, symbol: str) -> Question:
        """Who is asked about the newest bar of a symbol; what fails here is its own trouble and no other's."""
        decision: Row | None = None
        held: str | None = "it is not known whether it may be said"
        try:
            decision = _serving(self._production.get(symbol, ()), self.latest)
            state = self.states.get(symbol)
            held = self._jumps.get(symbol) or _behind(self._members.get(symbol), state, self._newest, self.settings)
            shadowing = [] if held else _applying(self._shadows.get(symbol, ()), self.latest)
            bars = [self.latest[name, symbol] for name in self._recipes if (name, symbol) in self.latest]
            candidate = self._candidates.get((symbol, ALL))
            key = _key(symbol, [decision, *shadowing], candidate, state, held, bars, self.settings)
            return Question(symbol, decision, held, shadowing, key)
        except Exception as error:  # whatever it is: the others go on
            return Question(symbol, decision, held, failed=failed(error))

    def answer(self, question: Question) -> Answer:
        """What the model that serves says; where it fails its symbol is held with the reason, and the others go on."""
        symbol, decision, held = question.symbol, question.decision, question.held
        if question.failed is not None:
            return Answer(question.failed, decision, shown=held is None, lasting=False)
        if decision is None and symbol in self._production:
            return Answer(_not_of_this_regime(self._production[symbol]), shown=held is None)
        table = decision["features_set"] if decision else None
        recipe, bar = self._recipes.get(table), self.latest.get((table, symbol))
        candidate, state = self._candidates.get((symbol, ALL)), self.states.get(symbol)
        try:
            answer = _answer(decision, candidate, recipe, bar, state, held, self._registry, self.settings)
        except Exception as error:
            answer = Answer(failed(error), decision, lasting=False)
        return replace(answer, shown=held is None and answer.shown)

    def predictions(self, question: Question, answer: Answer) -> list[Row]:
        """What the lake keeps of it: the answer, and what those on trial say of the same bar."""
        symbol, kept = question.symbol, []
        if question.decision is not None and answer.told:
            kept.append(self._prediction(question.decision, answer.told, LIVE))
        for shadow in question.shadowing:
            recipe, bar = self._recipes[shadow["features_set"]], self.latest[shadow["features_set"], symbol]
            told = _shadowed(shadow, recipe, bar, self.states[symbol], self._registry, self.settings)
            if told is not None:
                kept.append(self._prediction(shadow, told, SHADOW))
        return kept

    def _prediction(self, decision: Row, told: Mapping[str, float], origin: str) -> Row:
        return {
            "symbol": decision["symbol"],
            "regime": decision["regime"],
            "timestamp": self.states[decision["symbol"]]["last_bar"],
            "training_id": decision["training_id"],
            "origin": origin,
            "made_at": self.now,
            **{name: None if math.isnan(value) else value for name, value in told.items()},
        }


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


def _refuse_lost(lake: Lake, settings: Settings, states: Mapping[str, Row], symbols: Sequence[str]) -> None:
    """Raise LakeDamaged where the ledger knows of bars and the lake has no table of them: nothing is said over that."""
    if any(states.get(symbol, {}).get("last_bar") for symbol in symbols) and lake.version("bars") is None:
        raise LakeDamaged(
            f"the lake at {settings.lake} holds no bars, and the ledger knows of some: restore the lake, or "
            "«alpha-assets refresh --full» fetches them anew; what was said stays"
        )


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
    made = {table: restored(known.get(table, {}), table) for table in sorted(tables - {current.table})}
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
            "value": finite(float(features[0, at])),
            "contribution": float(moved[at]),
        }
        for at in order
        if moved[at] != 0
    ]


def finite(value: float | None) -> float | None:
    """The number for JSON, which has no NaN and nothing infinite."""
    return None if value is None or not math.isfinite(value) else value


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


def failed(error: Exception) -> str:
    """What a signal says of what nobody expected."""
    return f"no signal could be made: {type(error).__name__}: {error}"
