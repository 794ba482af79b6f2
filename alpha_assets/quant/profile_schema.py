"""The fields of the profile documents, each with type, unit and meaning: defined once, imports nothing heavy.

Tests hold documents against it, the command and the pictures take names and units from it. A path names a field inside
its document; ``*`` stands for any one name. A field that is undefined (too few bars, nothing moved, the source does not
have it) is absent from the document: never null, never zero.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Raised by hand whenever fields change, or the same bars give other figures: older documents are made anew.
SCHEMA_VERSION = 3
STATISTICAL = "statistical"
COMPANY = "company"
PATTERNS = "patterns"
KINDS = (STATISTICAL, COMPANY, PATTERNS)

#: What the next update merges with: no figure for readers.
STATE = "state"

TYPES: Mapping[str, tuple[type, ...]] = {
    "number": (float, int),
    "integer": (int,),
    "text": (str,),
    "time": (str,),
    "value": (float, int, str),
}


@dataclass(frozen=True)
class Field:
    """``type`` is one of TYPES; ``unit`` is empty for counts, names and pure numbers."""

    type: str
    unit: str
    doc: str


def _period(name: str) -> dict[str, Field]:
    """One resolution of the multi-timeframe summary: periods that the calendar says are complete."""
    at = f"timeframes.{name}."
    return {
        f"{at}periods": Field("integer", f"{name}s", f"complete {name}s with a return"),
        f"{at}last_end": Field("time", "", f"session that ended the last complete {name}"),
        f"{at}last_return": Field("number", "share", f"return of the last complete {name}"),
        f"{at}annual_return": Field("number", "share/year", "compound return, annualised"),
        f"{at}annual_volatility": Field("number", "share/year", f"deviation of the log returns of {name}s, annualised"),
        f"{at}max_drawdown": Field("number", "share", f"deepest fall below the highest {name}'s close so far"),
        f"{at}positive_share": Field("number", "share", f"{name}s that gained"),
        f"{at}best": Field("number", "share", f"return of the best {name}"),
        f"{at}worst": Field("number", "share", f"return of the worst {name}"),
    }


def _test(name: str, of: str) -> dict[str, Field]:
    what = f"augmented Dickey-Fuller test with a constant, {of}"
    return {
        f"dependence.{name}.statistic": Field("number", "", f"t of the {what}; unit root rejected where far below 0"),
        f"dependence.{name}.p_value": Field("number", "share", "MacKinnon's (1994) approximate p: small is stationary"),
        f"dependence.{name}.lags": Field("integer", "bars", "lagged differences in the regression (Schwert 1989, l4)"),
        f"dependence.{name}.bars": Field("integer", "bars", "newest bars tested"),
    }


SHARE = "share"
_STATISTICAL: dict[str, Field] = {
    "as_of": Field("time", "", "newest bar that the figures use"),
    "coverage.bars": Field("integer", "bars", "bars of the newest listing"),
    "coverage.first_bar": Field("time", "", "its first bar"),
    "coverage.last_bar": Field("time", "", "its last bar"),
    "coverage.listing": Field("time", "", "session at which this company's use of the ticker begins"),
    "returns.total": Field("number", SHARE, "last close over first close, less 1, dividends reinvested"),
    "returns.annual": Field("number", "share/year", "compound return, annualised by the calendar's bars a year"),
    "returns.annual_volatility": Field("number", "share/year", "deviation of one-bar log returns, annualised"),
    "returns.sharpe": Field("number", "", "mean over deviation of one-bar returns, annualised, against cash at 0"),
    "returns.sortino": Field("number", "", "mean over root mean square of the losses, annualised, target 0"),
    "returns.calmar": Field("number", "", "annual return over the depth of the deepest drawdown"),
    "returns.positive_share": Field("number", SHARE, "bars that gained"),
    "returns.best.at": Field("time", "", "best bar"),
    "returns.best.return": Field("number", SHARE, "its return"),
    "returns.worst.at": Field("time", "", "worst bar"),
    "returns.worst.return": Field("number", SHARE, "its return"),
    "drawdown.max": Field("number", SHARE, "deepest fall of close below its highest so far; 0 or negative"),
    "drawdown.peak": Field("time", "", "bar from which that fall began"),
    "drawdown.trough": Field("time", "", "bar at which it was deepest"),
    "drawdown.recovery": Field("time", "", "first bar back at the peak; absent until then"),
    "drawdown.now": Field("number", SHARE, "last close below the highest so far; 0 or negative"),
    "risk.var_95": Field("number", SHARE, "historical one-bar value at risk: loss exceeded in 5 % of bars"),
    "risk.var_99": Field("number", SHARE, "the same, 1 %"),
    "risk.cvar_95": Field("number", SHARE, "expected shortfall: mean loss of the worst 5 % of bars"),
    "risk.cvar_99": Field("number", SHARE, "the same, 1 %"),
    "risk.tail_index": Field("number", "", "Hill estimate of the tail exponent of losses: 3 is usual, less is heavier"),
    "risk.tail_bars": Field("integer", "bars", "k of the Hill estimate: how many of the largest losses it uses"),
    "distribution.mean": Field("number", "log return", "mean one-bar log return"),
    "distribution.deviation": Field("number", "log return", "their standard deviation"),
    "distribution.skew": Field("number", "", "third standardised moment, population form"),
    "distribution.excess_kurtosis": Field("number", "", "fourth standardised moment less 3, population form"),
    "dependence.autocorrelation.*": Field("number", "", "autocorrelation of log returns at this lag in bars"),
    "dependence.absolute_autocorrelation.*": Field("number", "", "of absolute log returns: clustering of volatility"),
    **_test("adf_returns", "log returns"),
    **_test("adf_log_prices", "log prices"),
    "liquidity.mean_volume": Field("number", "units", "mean volume a bar, in today's units: splits divided out"),
    "liquidity.median_volume": Field("number", "units", "their median"),
    "liquidity.volume_to_mean_20": Field(
        "number", "", "newest volume over the mean of the newest 20 bars, its own too"
    ),
    "liquidity.mean_traded_value": Field("number", "currency", "mean of close times volume a bar, as traded"),
    "liquidity.median_traded_value": Field("number", "currency", "their median"),
    "liquidity.amihud": Field("number", "1/million", "mean absolute return per million of currency traded (2002)"),
    "liquidity.zero_volume_share": Field("number", SHARE, "bars in which nothing was traded"),
    "regimes.until": Field("time", "", "newest bar with a regime"),
    "regimes.now": Field("text", "", "its regime"),
    "regimes.bars.*": Field("integer", "bars", "bars in this regime"),
    "regimes.shares.*": Field("number", SHARE, "bars in this regime, of the bars that have one"),
    "regimes.transitions.*.*": Field("number", SHARE, "from the first regime, bars followed by the second"),
    **_period("week"),
    **_period("month"),
    "indicators.at": Field("time", "", "bar of the newest row of the features"),
    "indicators.table": Field("text", "", "lake table of that feature set"),
    "indicators.values.*": Field("number", "", "that feature there"),
}

_COMPANY: dict[str, Field] = {
    "as_of": Field("time", "", "newest bar that the figures use"),
    "coverage.bars": Field("integer", "bars", "bars of the newest listing"),
    "coverage.first_bar": Field("time", "", "its first bar"),
    "coverage.last_bar": Field("time", "", "its last bar"),
    "coverage.listings": Field("integer", "", "companies that used the ticker, in the bars that are held"),
    "coverage.sessions": Field("integer", "sessions", "sessions with a bar"),
    "coverage.missing_sessions": Field("integer", "sessions", "sessions of the calendar without one, in between"),
    "coverage.longest_gap": Field("integer", "sessions", "most of them in a row"),
    "coverage.flagged_bars": Field("integer", "bars", "bars with a flag of the cleaning"),
    "actions.splits": Field("integer", "", "splits up to the last bar"),
    "actions.dividends": Field("integer", "", "dividends up to the last bar"),
    "actions.last_split.at": Field("time", "", "ex-date of the last split"),
    "actions.last_split.value": Field("number", "", "new shares per old"),
    "actions.last_dividend.at": Field("time", "", "ex-date of the last dividend"),
    "actions.last_dividend.value": Field("number", "currency", "cash a share, as paid"),
    "performance.last_close": Field("number", "currency", "last close, as traded"),
    "performance.return_1m": Field("number", SHARE, "return with dividends over the last month"),
    "performance.return_3m": Field("number", SHARE, "3 months"),
    "performance.return_6m": Field("number", SHARE, "6 months"),
    "performance.return_12m": Field("number", SHARE, "12 months"),
    "performance.return_36m": Field("number", SHARE, "36 months"),
    "performance.return_60m": Field("number", SHARE, "60 months"),
    "performance.year_to_date": Field("number", SHARE, "since the last bar of the year before"),
    "performance.annual_return": Field("number", "share/year", "compound, over all bars"),
    "performance.below_year_high": Field("number", SHARE, "last close against the highest of 12 months; 0 or less"),
    "performance.above_year_low": Field("number", SHARE, "last close against the lowest of 12 months; 0 or more"),
    "risk.annual_volatility": Field("number", "share/year", "deviation of one-bar log returns, annualised"),
    "risk.sharpe": Field("number", "", "mean over deviation, annualised, against cash at 0"),
    "risk.max_drawdown": Field("number", SHARE, "deepest fall of close below its highest so far"),
    "risk.drawdown_now": Field("number", SHARE, "last close below the highest so far"),
    "risk.var_95": Field("number", SHARE, "historical one-bar value at risk, 95 %"),
    "fundamentals_asked_at": Field("time", "", "when the source last answered about the company, found or not"),
    "fundamentals.*.value": Field("value", "", "what the source said; FUNDAMENTALS has the names and units"),
    "fundamentals.*.read_at": Field("time", "", "when it was read"),
}

#: The figures of one cell of the patterns' rates.
RATE_FIGURES = ("count", "effective", "successes", "rate", "low", "high", "shrunk", "mean_return")

#: What the fields of ``rates`` are of: a pattern, a regime (or ``all``) and a horizon in bars held.
_CELL = "rates.*.*.*."
_PATTERNS: dict[str, Field] = {
    "known_until": Field("time", "", "start of the period: outcomes known by then count, those of the newest listing"),
    "patterns": Field("text", "", "recipe of the patterns, as the ledger's state of the symbol names it"),
    "regimes": Field("text", "", "lake table that the regimes are from"),
    "least": Field("number", "outcomes", "effective outcomes below which a cell is left out"),
    "prior": Field("number", "outcomes", "outcomes that a shrunk rate's wider rate counts as"),
    f"{_CELL}count": Field("integer", "outcomes", "outcomes of this pattern, in this regime, so many bars held"),
    f"{_CELL}effective": Field("number", "outcomes", "the same, those that overlap taken together"),
    f"{_CELL}successes": Field("integer", "outcomes", "outcomes in the pattern's direction; absent where it has none"),
    f"{_CELL}rate": Field("number", SHARE, "successes of all outcomes"),
    f"{_CELL}low": Field("number", SHARE, "lower end of the rate's interval of 95 % (Wilson 1927)"),
    f"{_CELL}high": Field("number", SHARE, "upper end"),
    f"{_CELL}shrunk": Field("number", SHARE, "rate drawn to that of all regimes, which is drawn to 1/2"),
    f"{_CELL}mean_return": Field("number", SHARE, "mean return in the pattern's direction; plain where it has none"),
}

DOCUMENTS: Mapping[str, Mapping[str, Field]] = {STATISTICAL: _STATISTICAL, COMPANY: _COMPANY, PATTERNS: _PATTERNS}

#: What a source may know of a company; each has those it has.
FUNDAMENTALS: Mapping[str, Field] = {
    "name": Field("text", "", "the company's or fund's name"),
    "quote_type": Field("text", "", "EQUITY, ETF, CRYPTOCURRENCY, …"),
    "exchange": Field("text", "", "where it is listed"),
    "currency": Field("text", "", "of the quotes"),
    "country": Field("text", "", "of its seat"),
    "sector": Field("text", "", "by the source's classification"),
    "industry": Field("text", "", "by the source's classification"),
    "employees": Field("integer", "", "full-time employees"),
    "listed": Field("time", "", "first day of trading"),
    "delisted": Field("time", "", "last day of trading, once it is over"),
    "market_cap": Field("number", "currency", "price times shares outstanding"),
    "enterprise_value": Field("number", "currency", "with debt, without cash"),
    "shares_outstanding": Field("number", "shares", "shares outstanding"),
    "trailing_pe": Field("number", "", "price over earnings of the last four quarters"),
    "forward_pe": Field("number", "", "price over expected earnings"),
    "price_to_book": Field("number", "", "price over book value"),
    "price_to_sales": Field("number", "", "price over sales of the last four quarters"),
    "earnings_per_share": Field("number", "currency", "of the last four quarters"),
    "dividend_yield": Field("number", SHARE, "dividends of a year over price"),
    "payout_ratio": Field("number", SHARE, "dividends over earnings"),
    "beta": Field("number", "", "against the source's benchmark, by the source"),
    "profit_margin": Field("number", SHARE, "net income over revenue"),
    "return_on_equity": Field("number", SHARE, "net income over equity"),
    "debt_to_equity": Field("number", SHARE, "debt over equity"),
    "revenue": Field("number", "currency", "of the last four quarters"),
}


def leaves(document: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of every field of a document, its state left out."""
    for name, value in document.items():
        path = f"{at}.{name}" if at else name
        if path == STATE:
            continue
        if isinstance(value, Mapping):
            yield from leaves(value, path)
        else:
            yield path, value


def figure(value: float | int | str) -> str:
    """A value for people: four digits are what these estimates bear, a daily bar is its date."""
    if isinstance(value, str):
        return value.removesuffix("T00:00:00+00:00")
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def field_of(kind: str, path: str) -> Field | None:
    """The declaration of the field at ``path``; None where the document has no such field."""
    if kind == COMPANY and path.startswith("fundamentals.") and path.endswith(".value"):
        return FUNDAMENTALS.get(path.split(".")[1])
    declared, parts = DOCUMENTS[kind], path.split(".")
    for pattern, field in declared.items():
        names = pattern.split(".")
        if len(names) == len(parts) and all(name in ("*", part) for name, part in zip(names, parts, strict=True)):
            return field
    return None


def faults(kind: str, document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a document, a sentence a field; nothing where it follows its declaration."""
    wrong = []
    for path, value in leaves(document):
        field = field_of(kind, path)
        if field is None:
            wrong.append(f"{path}: the {kind} profile declares no such field")
        elif isinstance(value, bool) or not isinstance(value, TYPES[field.type]) or value != value:
            wrong.append(f"{path}: {value!r} is not a {field.type}")
    return wrong
