"""Every threshold of the domain as plain data, with its unit, default and the reason for the default.

Settings reads these classes so that a user can change them; the functions of ``quant`` take them as
arguments. Nothing heavy is imported here: reading signals must not pay for polars.
"""

from dataclasses import dataclass
from datetime import date, timedelta

#: Shown wherever a prediction is shown.
DISCLAIMER = "Research and education, not financial advice; past results guarantee nothing."

#: By how much the clocks of two writers may differ: what was written later than that from now was never written now.
CLOCK_SKEW = timedelta(minutes=5)

#: The most hours back that anybody may ask for: a hundred years.
MOST_HOURS = 876_000

#: How a regime is found.
REGIME_METHODS = ("rules", "hmm")

#: The lines of the gate, in the order they are judged and shown.
GATE_LINES = (
    *("sample", "skill", "suspicion", "calibration", "money"),
    *("deflated_sharpe", "champion", "linear", "pooled", "drift"),
)

#: Who speaks for a candidate: its trees, or its linear models, which are a candidate of their own.
SPEAKERS = ("trees", "linear")

#: What the three classes are: the side of the scaled return, or the barrier that a long position met first.
SIGNAL_LABELS = ("bands", "triple_barrier")

#: What the distances of stop and target are measured in.
BARRIER_UNITS = ("scale", "share")

#: When a backtest trades, and how it sizes a position.
BACKTEST_RULES = ("signal", "expected", "sign")
BACKTEST_SIZINGS = ("equal", "volatility", "kelly")

#: The heads of a candidate, where nobody chose others.
DEFAULT_HEADS = (
    *("rf_return", "gb_return", "rf_direction", "gb_direction"),
    *("rf_signal", "gb_signal", "xgb_signal", "xgb_pattern"),
    *("ridge", "logistic"),
)

#: The views that ship (``quant.views.VIEWS``).
VIEW_NAMES = ("model", "technical", "pattern")

#: What ``quant.learners.LEARNERS`` holds, which is too heavy to import for reading a setting: those, and scikit-learn's
#: forests, which whoever mistrusts bins may take instead of the native ones.
HEAD_NAMES = (*DEFAULT_HEADS, "skrf_return", "skrf_direction", "skrf_signal")

#: What exchange_calendars knows, aliases included, written down because importing it takes more than a second.
# fmt: off
CALENDAR_NAMES = frozenset((
    "24/5", "24/7", "AIXK", "ARCX", "ASEX", "ASX", "BATS", "BMF", "BSE", "BVB", "BVMF", "CBOT", "CFE", "CME", "CMES",
    "COMEX", "FWB", "HKEX", "ICE", "ICEUS", "IEPA", "JKT", "JPX", "LSE", "LUXSE", "NASDAQ", "NYFE", "NYMEX", "NYSE",
    "OOTC", "OSE", "SIX", "SSE", "TASE", "TSX", "XAMS", "XASE", "XASX", "XBDA", "XBEL", "XBKK", "XBOG", "XBOM",
    "XBRA", "XBRU", "XBSE", "XBUD", "XBUE", "XCBF", "XCSE", "XCYS", "XDUB", "XDUS", "XEEE", "XETR", "XEUR", "XFRA",
    "XHAM", "XHEL", "XHKG", "XICE", "XIDX", "XIST", "XJSE", "XKAR", "XKLS", "XKRX", "XLIM", "XLIS", "XLIT", "XLJU",
    "XLON", "XLUX", "XMAD", "XMEX", "XMIL", "XMOS", "XNAS", "XNYS", "XNZE", "XOSL", "XPAR", "XPHS", "XPRA", "XRIS",
    "XSAU", "XSES", "XSGO", "XSHG", "XSTO", "XSTU", "XSWX", "XTAE", "XTAI", "XTAL", "XTKS", "XTSE", "XTSX", "XWAR",
    "XWBO", "XZAG", "us_futures",
))
# fmt: on


FEATURE_SETS = ("core", "alpha158")
DENOISERS = ("none", "ema", "kalman")


@dataclass(frozen=True)
class CleaningParameters:
    """Thresholds of the cleaning rules (``quant.bars``); distances are differences of logarithms of price.

    What they were set on: the 619,040 S&P rows of 2013 to 2018 with their listed dirty rows, and AIG, WM and AAPL in
    their crashes, all of which stay.
    """

    #: How far open or close may lie outside [low, high], and low above high, until one of the four is held to be wrong
    #: and the bar is dropped; nearer, the range is widened. 1 %: opening auctions that the range misses, as in London.
    range_tolerance: float = 0.01

    #: How far a jump may be from 100 times or one hundredth and still be a slip of the unit: an ordinary overnight
    #: move, no more. 0.25 is 78 to 128 times.
    unit_tolerance: float = 0.25
    #: Bars needed in the window before (20 days) until one can be out of line with them; with fewer, nobody knows which
    #: unit is the right one.
    unit_history: int = 10

    #: The least distance, from the ranges of the bars before and of the bar after, of a bar that is held to be on a
    #: wrong level. Islands of 5 % that come and go overnight are rare among real bars.
    level_floor: float = 0.05
    #: The same in mean log ranges (high to low) of the bars before: what a volatile time makes ordinary.
    level_ranges: float = 2.0
    #: How far the bar after may be from the bars before, as a share of that distance: back where they were, or it was
    #: a move.
    level_return: float = 0.5

    #: Usual splits, new shares per old; one of 2 or more also counts the other way round (a reverse split).
    split_ratios: tuple[float, ...] = (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100)
    #: How far the gap from close to open may be from a split ratio: an ordinary overnight move.
    split_tolerance: float = 0.05
    #: A gap down of more than this share of the price looks like a spin-off or special dividend whatever its ratio.
    unexplained_drop: float = 0.4
    #: A gap up or down of this factor or more is flagged whatever range and volume say: hardly any news does that.
    unexplained_factor: float = 4.0
    #: The bar's own log range as a share of the gap, above which it is a crash or a rally that trades, not bookkeeping.
    #: Unadjusted: 0.04 to 0.12; AAPL 2000-09-29 0.36, VRTX 2014-06-24 0.24, AIG 2008-09-15 1.4.
    split_range_share: float = 0.2
    #: Traded value in multiples of its usual one, above which it is news. Unadjusted: up to 7.5; VRTX 2013-04-19 16,
    #: AAPL 2000-09-29 11.
    split_traded_value: float = 8.0

    #: Sessions from one bar to the next, above which the same ticker is held to be another listing.
    listing_gap_sessions: int = 60

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = min(value, default=1) if isinstance(value, tuple) else value
            if not least > 0:
                raise ValueError(f"{name} of the cleaning rules is more than 0, not {value}")
        if not self.unexplained_drop < 1:
            raise ValueError(f"unexplained_drop is a share of the price, less than 1, not {self.unexplained_drop}")


@dataclass(frozen=True)
class SimulationParameters:
    """The simulated market (``quant.simulate``): whatever has a memory counts it in bars of the interval."""

    #: Every stream of random numbers derives from it; the same seed is the same market. This one gives the demo's 12
    #: symbols 8 edges, 2 late listings and 1 delisting.
    seed: int = 34
    #: Symbols of the simulated universe; few enough to read, enough to pool.
    symbols: int = 12
    #: First day of the market.
    first: date = date(2018, 1, 2)
    #: Years from the first day to where the stored clock begins; listings and delistings are drawn within them.
    years: float = 6.0

    #: Planted TS-IC of the symbols that have an edge: correlation of the oracle score, known at a bar's close, with the
    #: open-to-open return that follows, in units of its volatility. 0: a martingale difference. At 0.15 the gate's
    #: skill line has power of 90 % and more over 2,500 bars.
    edge: float = 0.15
    #: Share of symbols that have the edge; the others are there to be rejected.
    edge_share: float = 2 / 3
    #: Bars in which the memory of the oracle score halves. At 5 bars a 14-bar RSI alone carries 0.8 of the planted
    #: edge; at 20, half: the edge then moves prices against the very sum that it is read from.
    edge_half_life: float = 5.0
    #: True: what rose goes on rising. False: it comes back, so that the naive rival «momentum sign» has no share in it.
    momentum: bool = False

    #: Standard deviation of a session's open-to-open return where the regime's multiplier is 1.
    volatility: float = 0.015
    #: Standard deviation of its logarithm across symbols.
    volatility_spread: float = 0.25
    #: Standard deviation of log-volatility over time, within a regime.
    clustering: float = 0.35
    #: Bars in which the memory of log-volatility halves.
    clustering_half_life: float = 20.0
    #: Degrees of freedom of the student-t innovations, more than 2; 5 is what daily equity returns look like.
    tail: float = 5.0
    #: Correlation of the innovations of any two symbols, through one market factor; log-volatility shares it too.
    correlation: float = 0.3
    #: Share of a session's variance that lies in the night before the next one; none where the market never closes.
    overnight: float = 0.25

    #: Volatility of a symbol within each regime, as a multiple of its own.
    trending_volatility: float = 1.0
    sideways_volatility: float = 0.75
    volatile_volatility: float = 2.0
    consolidation_volatility: float = 0.5
    #: Mean bars of a spell of each regime, more than 1; spells are geometric and followed by any other regime alike.
    trending_spell: float = 60.0
    sideways_spell: float = 60.0
    volatile_spell: float = 30.0
    consolidation_spell: float = 45.0
    #: What each regime adds to the oracle score before it is standardised (the score has variance 1 there). It moves
    #: prices only where an edge is planted: without one, regimes differ in volatility alone.
    trending_drift: float = 0.4
    sideways_drift: float = 0.0
    volatile_drift: float = -0.4
    consolidation_drift: float = 0.0

    #: Splits of a symbol a year of 252 sessions.
    split_rate: float = 0.15
    #: Share of symbols that pay a dividend every 63 sessions.
    dividend_share: float = 0.5
    #: What payers pay a year of 252 sessions, as a share of the price.
    dividend_yield: float = 0.02
    #: Share of symbols that are listed only after the market's first day (after 10 to 50 % of ``years``).
    late_share: float = 0.15
    #: Share of symbols that are delisted (after 60 to 95 % of ``years``).
    delisted_share: float = 0.1

    def __post_init__(self) -> None:
        shares = ("edge_share", "correlation", "overnight", "dividend_share", "late_share", "delisted_share")
        outside = [name for name in shares if not 0 <= getattr(self, name) <= 1]
        if outside:
            raise ValueError(f"{', '.join(outside)} of the simulation: a share lies between 0 and 1")
        if self.seed < 0 or self.symbols < 1 or not self.years > 0:
            raise ValueError("the simulation needs a seed of 0 or more, at least 1 symbol and more than 0 years")
        if not 0 <= self.edge <= 0.5:
            raise ValueError(f"the planted edge is a correlation from 0 to 0.5, not {self.edge}")
        if not 0 < self.volatility <= 0.05:
            raise ValueError(f"the volatility of the simulation is above 0 and at most 0.05, not {self.volatility}")
        if not self.tail > 2:
            raise ValueError(f"student-t innovations need more than 2 degrees of freedom, not {self.tail}")
        multiples = (self.trending_volatility, self.sideways_volatility)
        if min(*multiples, self.volatile_volatility, self.consolidation_volatility) <= 0:
            raise ValueError("the volatility of a simulated regime is more than 0")
        if min(self.trending_spell, self.sideways_spell, self.volatile_spell, self.consolidation_spell) <= 1:
            raise ValueError("the mean spell of a simulated regime is more than 1 bar")
        if min(self.edge_half_life, self.clustering_half_life) <= 0:
            raise ValueError("a half-life of the simulation is more than 0 bars")
        if min(self.volatility_spread, self.clustering, self.split_rate) < 0 or not 0 <= self.dividend_yield < 1:
            raise ValueError("spread, clustering and split rate of the simulation are not negative, the yield below 1")


@dataclass(frozen=True)
class FeatureParameters:
    """Which features are computed (``quant.indicators``, ``quant.alpha158``)."""

    #: ``core``, the default set, or ``alpha158``, qlib's definitions, some of which are not scale-free.
    set: str = "core"
    #: What trend and momentum read: ``none`` the close, ``ema`` or ``kalman`` its causal filter.
    denoiser: str = "none"
    #: Symbol whose returns beta and correlation are taken with; none: both are null. It must be followed itself.
    benchmark: str | None = None

    def __post_init__(self) -> None:
        """Refuses names that nobody knows."""
        for name, known in (("set", FEATURE_SETS), ("denoiser", DENOISERS)):
            _one_of(name, getattr(self, name), known)
        if self.set == "alpha158" and self.denoiser != "none":
            raise ValueError(
                f"denoiser is {self.denoiser!r}: the definitions of alpha158 read raw prices, leave it out"
            )


@dataclass(frozen=True)
class LearningParameters:
    """Labels, splits and the heads of a candidate (``quant.labels``, ``quant.splits``, ``quant.heads``).

    A bar carries little signal, so many rows stand behind each leaf and what a head says is drawn towards the prior:
    on 1,000 rows a deeper tree learns the noise (GATE.md: oracle IC 0.15 realises 0.02 on 240 rows).
    """

    learner: str = SPEAKERS[0]  # who speaks: trees, or linear, which is a family of its own to the gate
    heads: tuple[str, ...] = DEFAULT_HEADS  # names in quant.learners.LEARNERS; fewer train faster
    horizon: int = 1  # bars held, from open(t+1) to open(t+1+horizon); at most 30
    #: Return, in units of its trailing scale, beyond which a bar is a buy or a sell. Three classes of one size on S&P
    #: bars want 0.37 at a horizon of 1 bar, 0.44 at 30.
    hold_band: float = 0.4
    signal_label: str = SIGNAL_LABELS[0]  # bands: beyond hold_band; triple_barrier: sell is the stop, buy the profit
    #: Log distance of the triple barrier's profit from the entry, in units of that scale. On S&P bars 47 % of positions
    #: meet it or the stop within 1 bar, 63 % within 30.
    profit_barrier: float = 1.0
    stop_barrier: float = 1.0  # the same of its stop
    recency_half_life: int = 0  # bars after which a row weighs half in any fit; 0: all ages weigh the same
    folds: int = 5  # walk-forward test blocks
    inner_folds: int = 4  # blocks inside the first training set, which a search is scored on
    #: Of the dates, the newest, that no fold is tested on and the gate does not see: «alpha-assets vault» reads them
    #: once a release (GATE.md). The registered fit knows them. 0: none, for who is judged by the newest dates too.
    vault_share: float = 0.15
    embargo: int = 5  # dates between the last training label and the first test bar, beyond the purge
    min_rows: int = 500  # labelled rows below which a symbol has no own fit (GATE.md); the first fold trains on half
    min_labels: int = 100  # the same in labels that do not overlap, rows / horizon
    #: Pattern events below which a fit has no pattern head, and a pattern's rate so far is told where it serves. Of 40
    #: S&P symbols over five years the own heads (1,220 events each) lost 0.0006 ± 0.0002 nats against their priors, the
    #: pool's gained 0.0008 on 49,000 events.
    pattern_rows: int = 5000
    max_rows: int = 250_000  # rows a fit sees at most, evenly thinned: minutes overlap, and more hardly teach more
    clip: float = 5.0  # volatility-scaled return at which a fit stops believing it
    trees: int = 50  # trees of a random forest
    depth: int = 10  # levels of its trees
    forest_leaf_rows: int = 60  # rows behind a leaf of its trees
    rounds: int = 40  # boosting rounds of a classifier; at 60 the log-loss was worse than the prior's everywhere
    learning_rate: float = 0.05  # share of each tree's step that is taken
    return_rounds: int = 50  # boosting rounds of the regression
    return_learning_rate: float = 0.1  # the same share for it
    leaves: int = 4  # leaves a boosted tree
    min_leaf_rows: int = 80  # rows behind a leaf
    l2: float = 50.0  # shrinkage of a leaf's value towards zero, in rows
    column_share: float = 0.6  # share of the features each tree may use
    row_share: float = 0.8  # share of the rows each tree sees
    linear_l2: float = 5000.0  # ridge penalty in rows: of 76 features with an IC of 0.05 together, about the best
    slope_prior: float = 0.4  # how much of what a head says is believed before anything is known about it
    slope_rows: float = 10_000.0  # rows that this belief weighs as much as: a symbol alone knows no better
    #: Labels without overlap that even odds weigh as much as beside a fit's own share of up. On S&P bars at a horizon
    #: of 5 that share alone saves 0.0011 nats against even odds, drawn so 0.0025; on noise it loses 0.0038 and 0.0005.
    prior_labels: float = 150.0
    isotonic_from: int = 20_000  # non-overlapping out-of-sample labels from which calibration is isotonic, not Platt's
    search_trials: int = 0  # configurations that a search of the pool's parameters tries, its own first; 0: no search
    search_seconds: float = 0.0  # after so many no further one is begun, so that slow machines try fewer; 0: no limit
    references: int = 128  # training rows that the dissimilarity is measured from
    seed: int = 20240229  # of everything random in a fit

    def __post_init__(self) -> None:
        """Refuses what no fit can use."""
        counts = (
            "horizon",
            "folds",
            "min_rows",
            "min_labels",
            "pattern_rows",
            "max_rows",
            "trees",
            "depth",
            "forest_leaf_rows",
        )
        for name in (*counts, "rounds", "return_rounds", "min_leaf_rows", "isotonic_from"):
            _at_least(name, getattr(self, name), 1)
        zero = ("embargo", "seed", "l2", "linear_l2", "hold_band", "slope_prior", "slope_rows", "prior_labels")
        for name in (*zero, "recency_half_life", "vault_share", "search_trials", "search_seconds"):
            _at_least(name, getattr(self, name), 0)
        for name in ("leaves", "references", "inner_folds"):
            _at_least(name, getattr(self, name), 2)
        for name, most in (("horizon", 30), ("vault_share", 0.5)):
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at most {most}")
        for name in ("profit_barrier", "stop_barrier"):
            _between(name, getattr(self, name), 0.0, 20.0)
        for name in ("learning_rate", "return_learning_rate", "column_share", "row_share"):
            _between(name, getattr(self, name), 0.0, 1.0)
        _between("clip", self.clip, 0.0, 100.0)
        _one_of("signal_label", self.signal_label, SIGNAL_LABELS)
        if len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads names one twice: {', '.join(self.heads)}")


@dataclass(frozen=True)
class GateParameters:
    """What counts as evidence (``quant.gate``); the reasons are in GATE.md."""

    level: float = 0.05  # chance of ever promoting noise in a family and year, spent over its attempts
    min_effective_sample: float = 250.0  # dates / horizon, times the breadth measured from cross-correlation
    min_block: int = 20  # dates a bootstrap block at least: the memory of a 20-bar feature
    block_horizons: int = 4  # and at least this many horizons: at 2 the error of overlapping labels is 9 % short
    #: Share of the dates after a return for which a score may remember it; a score's mean is taken over the others. At
    #: a fifth, minus the return of 120 of 500 bars passed in 7 % of markets of noise at a level of 3 %, at a third in
    #: 3.7 %.
    purged_share: float = 1 / 3
    suspicion_ic: float = 0.15  # TS-IC above which a leak is likelier than skill
    suspicion_accuracy: float = 0.60  # the same for the share of right directions
    suspicion_level: float = 0.01  # of the bounds that are held against the two
    margin_level: float = 0.05  # of the bounds of two models' difference: no claim of skill, so no alpha is spent
    calibration_margin: float = 0.001  # nats of log-loss a model may lose against the best naive rival
    champion_margin: float = 0.02  # TS-IC a successor may lose against the champion
    linear_margin: float = 0.02  # TS-IC a tree may lose against the learned linear rival
    cost_per_side: float = 0.001  # share of the traded value: 5 bp commission and 5 bp slippage
    money_level: float = 0.05  # of the bound that is held against no profit
    deflated_level: float = 0.05  # 1 less the probability that the Sharpe ratio beats the best of the trials' luck
    f1_floor: float = 0.0  # F1 of up, below which a family is rejected; 0 is no floor, which are the user's to set
    precision_floor: float = 0.0  # the same for the share of ups that were right
    recall_floor: float = 0.0  # the same for the share of rises that were said
    symbol_probability: float = 0.9  # P(effect > 0) from which a symbol is promoted
    #: The lines that decide; the others are reported. Money is not among them: what is left of an edge depends on
    #: horizon, volatility and costs as much as on skill. At 2 % a bar, 10 bp a side and 2,500 bars it passed at an IC
    #: of 0.10 in 15 of 24 markets at a horizon of one bar and in 47 % at five, at an IC of 0.05 in none. Who trades at
    #: known costs adds it. The deflated Sharpe ratio is before costs and decides: it alone knows how many
    #: configurations were tried.
    deciding_lines: tuple[str, ...] = (
        *("sample", "skill", "suspicion", "calibration"),
        *("deflated_sharpe", "champion", "linear", "pooled", "drift"),
    )

    def __post_init__(self) -> None:
        """Refuses what no verdict can rest on."""
        for name in ("level", "suspicion_level", "margin_level", "money_level", "deflated_level", "symbol_probability"):
            _between(name, getattr(self, name), 0.0, 1.0)
        for name in ("calibration_margin", "champion_margin", "linear_margin", "cost_per_side"):
            _at_least(name, getattr(self, name), 0.0)
        for name in ("f1_floor", "precision_floor", "recall_floor"):
            _at_least(name, getattr(self, name), 0.0)
        _between("purged_share", self.purged_share, 0.0, 0.5)
        _at_least("min_block", self.min_block, 10)
        _at_least("block_horizons", self.block_horizons, 2)
        unknown = sorted(set(self.deciding_lines) - set(GATE_LINES))
        if unknown or "skill" not in self.deciding_lines:
            raise ValueError(
                f"deciding_lines is {self.deciding_lines}: it must hold 'skill' and may hold {', '.join(GATE_LINES)}"
            )


@dataclass(frozen=True)
class PromotionParameters:
    """The path of a version after the gate (``quant.lifecycle``, ``quant.watch``)."""

    #: Bars that a canary predicts beside production before it serves: a week shows that it operates. 0: a successor
    #: that is as good as its champion is no canary; one that cannot be held against it is, for one bar.
    shadow_bars: int = 5
    shadow_first: bool = False  # the same of a version that nothing serves beside: the risk there is a HOLD less
    #: From when a bar had come and the canary was decided on to the view on it at most: a signal lives no longer.
    shadow_late_hours: float = 6.0
    #: Mean log-loss from which a shadow has failed beside a champion who says one half: wrong at 3 : 1 on average.
    #: Chance is 0.69; another champion's own loss takes its place, and a shadow may lose 0.71 more.
    gross_loss: float = 1.4
    rollback_level: float = 0.01  # chance of ever taking back a model that is no worse than its baseline
    expiry_days: float = 180.0  # age from which a model in production is too old to be trusted unseen: two quarters
    keep_versions: int = 5  # newest versions of a model that a clean-up leaves, beside those that are needed

    def __post_init__(self) -> None:
        """Refuses a path on which nothing could move."""
        _at_least("shadow_bars", self.shadow_bars, 0)
        _at_least("keep_versions", self.keep_versions, 1)
        _between("rollback_level", self.rollback_level, 0.0, 0.5)
        for name in ("shadow_late_hours", "gross_loss", "expiry_days"):
            _between(name, getattr(self, name), 0.0, float("inf"))


@dataclass(frozen=True)
class DriftParameters:
    """When features have drifted (``quant.drift``), and when realised loss bears it out; the reasons are in GATE.md."""

    stride: int = 30  # rows, a quarter of each of the two windows; shorter ones show one mood of a persistent feature
    level: float = 0.05  # chance of an alarm at one look at one undrifted symbol
    feature_level: float = 0.1  # share of undrifted windows that flag a feature; of so few replays p99 is noise
    reference_windows: int = 6  # windows that a symbol's reference holds at least: one pair, and twice as many to be it
    confirm_level: float = 0.05  # chance that a loss no larger than before confirms an alarm
    confirm_labels: int = 30  # live dates in horizons, below which no loss says anything

    def __post_init__(self) -> None:
        """Refuses what no alarm can rest on."""
        _at_least("stride", self.stride, 5)
        for name in ("level", "feature_level", "confirm_level"):
            _between(name, getattr(self, name), 0.0, 0.5)
        _at_least("reference_windows", self.reference_windows, 4)
        _at_least("confirm_labels", self.confirm_labels, 10)

    @property
    def window(self) -> int:
        """Rows of each of the two windows: four strides."""
        return 4 * self.stride

    @property
    def pair(self) -> int:
        """Rows of the two windows together."""
        return 2 * self.window

    @property
    def least_reference(self) -> int:
        """Rows of a symbol's reference, below which nothing is told of it."""
        return self.reference_windows * self.window


@dataclass(frozen=True)
class ViewParameters:
    """What each view looks at (``quant.views``): thresholds of the technical rules, and when the model abstains."""

    names: tuple[str, ...] = VIEW_NAMES  # the views that are heard, names in quant.views.VIEWS
    #: Whether technical and pattern view may state a direction where no promoted model speaks. Off: they are shown and
    #: the signal is HOLD, for nobody has judged them.
    alone: bool = False
    #: Distance of a bar from what the model was trained on, over the mean distance between training rows, from which
    #: the model's answer is a guess. Of out-of-fold rows of simulated and S&P bars fewer than 1 % are as far.
    dissimilar_from: float = 1.5
    rsi_low: float = 0.3  # RSI 14 below which a fall is overdone; Wilder's 30 and 70
    rsi_high: float = 0.7  # and above which a rise is
    stochastic_low: float = 0.2  # the same of the stochastic's two lines; Lane's 20 and 80
    stochastic_high: float = 0.8
    mfi_low: float = 0.2  # the same of the money flow index; Quong's and Soudack's 20 and 80
    mfi_high: float = 0.8
    band_edge: float = 1.0  # Bollinger position beyond which a price is outside its bands of two deviations
    cci_edge: float = 1.0  # CCI / 100 beyond which the price is far from its mean; Lambert's 100
    trend_from: float = 0.25  # ADX from which the directional indicators name a trend; Wilder's 25
    aroon_from: float = 0.5  # Aroon oscillator beyond which the newer extreme names one; Chande's 50
    flow_from: float = 0.2  # share of the volume of 20 bars, net, beyond which money flows one way

    def __post_init__(self) -> None:
        """Refuses rules that could not speak, or both ways at once."""
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names is {self.names}: it must name one view at least, and none twice")
        _between("dissimilar_from", self.dissimilar_from, 0.0, float("inf"))
        for name in ("rsi", "stochastic", "mfi"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if not 0.0 <= low < high <= 1.0:
                raise ValueError(f"{name}_low is {low} and {name}_high {high}: wanted 0 <= low < high <= 1")
        for name in ("band_edge", "cci_edge", "trend_from", "aroon_from", "flow_from"):
            _at_least(name, getattr(self, name), 0.0)


@dataclass(frozen=True)
class SignalParameters:
    """How views become a signal (``quant.blend``), its price (``quant.outlook``) and its risk (``quant.risk``)."""

    #: Calibrated probability, that the stated direction earns its costs, from which it is stated. Half is the point
    #: where costs are earned more often than not; a coin that pays a round trip has less.
    least_confidence: float = 0.5
    buy_from: float = 0.52  # P(up) from which the model's direction alone is a purchase; it seldom leaves 0.45 to 0.55
    sell_to: float = 0.48  # P(up) down to which it is a sale
    stale_sessions: int = 5  # sessions a symbol may lag behind its calendar's newest bar; a delisted one lags for ever
    record_days: int = 7  # days, from a Monday on, after which the track record is read anew
    record_years: float = 10.0  # years of track record that count: older markets were others
    #: TS-IC that a view is taken to have before anything is known of it: what daily features show on real bars.
    skill_prior: float = 0.02
    #: Deviation of the views' skills about it. The prior weighs as much as 1 / 0.03² = 1,100 independent outcomes: four
    #: years of one symbol, or a week of a universe.
    skill_spread: float = 0.03
    least_rows: int = 200  # known scores of a view below which its unit is not measured, but taken as 1/3
    confidence_rows: float = 2_000.0  # outcomes that the belief about the calibration weighs as much as
    strong_share: float = 0.1  # share of the stated confidences of the trailing window that are STRONG
    strong_days: int = 365  # days of that window
    strong_least: int = 100  # stated confidences in it below which nothing is STRONG
    coverage: float = 0.9  # probability that the price ends within the interval beside the prediction
    risk_bars: int = 252  # bars of the ranks and the drawdown of the risk: a year
    medium_rank: float = 0.6  # rank of the volatility of 20 bars among its last year's from which risk is MEDIUM
    high_rank: float = 0.9  # and HIGH
    medium_drawdown: float = 0.15  # fall from the year's high from which risk is MEDIUM
    high_drawdown: float = 0.3  # and HIGH: a third lost takes a half to come back
    top_features: int = 5  # features that are named beside a signal

    def __post_init__(self) -> None:
        """Refuses what no signal can rest on."""
        for name in ("least_confidence", "strong_share", "skill_spread", "coverage"):
            _between(name, getattr(self, name), 0.0, 1.0)
        if not 0.0 < self.sell_to <= 0.5 <= self.buy_from < 1.0:
            raise ValueError(
                f"sell_to is {self.sell_to} and buy_from {self.buy_from}: wanted 0 < sell_to <= 0.5 <= buy_from < 1"
            )
        if self.coverage == 1.0:
            raise ValueError("coverage is 1: no interval holds every price")
        for name in ("record_days", "least_rows", "strong_days", "strong_least", "risk_bars"):
            _at_least(name, getattr(self, name), 1)
        for name in ("stale_sessions", "skill_prior", "top_features"):
            _at_least(name, getattr(self, name), 0)
        for name in ("record_years", "confidence_rows"):
            _between(name, getattr(self, name), 0.0, float("inf"))
        _between("medium_rank", self.medium_rank, 0.0, self.high_rank)
        _between("medium_drawdown", self.medium_drawdown, 0.0, self.high_drawdown)


@dataclass(frozen=True)
class TradingParameters:
    """What a trade costs and how large it may be: the same for outcomes and backtest (GATE.md)."""

    commission_bp: float = 5.0  # hundredths of a per cent of the traded value, each side: a retail broker's
    slippage_bp: float = 5.0  # the same between the open and the fill: half the spread of a liquid share and some more
    borrow_bp_year: float = 50.0  # hundredths of a per cent a year of the value sold short: easy to borrow
    participation: float = 0.01  # share of a bar's volume that one fill takes at most; more would move the open
    #: Share of the last price that a delisted position loses: -30 % is what shares delisted for performance returned
    #: (Shumway, 1997).
    delisting_haircut: float = 0.3
    notional: float = 10_000.0  # value of a position of the ledger at its entry, in the listing currency
    #: Distances from the entry at which a position is left. 0: none, only the horizon or an opposite signal ends it, so
    #: that what is traded is what was labelled.
    stop: float = 0.0
    target: float = 0.0
    barrier_unit: str = "scale"  # of both: scale is log distance in the label's scale, share is of the entry's price
    windows: tuple[int, ...] = (30, 90, 365)  # days that performance looks back on, beside all: month, quarter, year
    rolling: int = 50  # positions of the rolling hit rate: fewer know it to more than 14 points

    def __post_init__(self) -> None:
        """Refuses prices of trading that nobody charges."""
        for name in ("commission_bp", "slippage_bp", "borrow_bp_year"):
            value = getattr(self, name)
            if not 0 <= value < 10_000:
                raise ValueError(f"{name} is {value}: it must be at least 0 and below 10000, which is the whole value")
        _between("participation", self.participation, 0.0, 1.0)
        if not 0 <= self.delisting_haircut <= 1:
            raise ValueError(f"delisting_haircut is {self.delisting_haircut}: it is a share, from 0 to 1")
        _between("notional", self.notional, 0.0, float("inf"))
        for name in ("stop", "target"):
            _at_least(name, getattr(self, name), 0.0)
        _one_of("barrier_unit", self.barrier_unit, BARRIER_UNITS)
        for days in (*self.windows, self.rolling):
            _at_least("windows and rolling", days, 1)
        if self.barrier_unit == "share" and max(self.stop, self.target) >= 1:
            raise ValueError(f"stop {self.stop} and target {self.target}: a share of the entry's price is below 1")

    @property
    def cost_per_side(self) -> float:
        """Commission and slippage of one side, as a share of the traded value."""
        return (self.commission_bp + self.slippage_bp) / 10_000


@dataclass(frozen=True)
class BacktestParameters:
    """What a backtest trades and how large (``quant.backtest``); what a trade costs is in ``TradingParameters``."""

    rule: str = BACKTEST_RULES[0]  # signal: P(up) beyond buy_from or sell_to; expected: beyond the costs; sign: always
    sizing: str = BACKTEST_SIZINGS[0]  # equal; volatility: inverse to a symbol's own; kelly: by expected return
    long_only: bool = False  # True: what would be sold short is not held
    capital: float = 1_000_000.0  # of the account at its beginning, in the listing currency; caps of volume need it
    gross: float = 1.0  # value of all positions, long and short, as a share of the account at most: no borrowed money
    per_position: float = 0.1  # share of the account that one symbol takes at most: one gap is then no ruin
    positions: int = 0  # positions opened at one bar at most, the most convinced first; 0: all
    target_volatility: float = 0.2  # a year's, of a position with a full share; sizing «volatility» aims at it
    #: Share of the growth-optimal bet that is taken: half earns three quarters of its growth at half its swings (Thorp,
    #: 2006), and who overrates the edge twofold still grows.
    kelly_fraction: float = 0.5
    #: Sessions without a bar after which a listing is held to be gone: what a halt lasts at most, by our reckoning.
    gone_after: int = 20

    def __post_init__(self) -> None:
        """Refuses what nobody could hold."""
        _one_of("rule", self.rule, BACKTEST_RULES)
        _one_of("sizing", self.sizing, BACKTEST_SIZINGS)
        for name in ("capital", "target_volatility"):
            _between(name, getattr(self, name), 0.0, float("inf"))
        _between("gross", self.gross, 0.0, 10.0)
        for name in ("per_position", "kelly_fraction"):
            _between(name, getattr(self, name), 0.0, 1.0)
        _at_least("positions", self.positions, 0)
        _at_least("gone_after", self.gone_after, 1)


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} is {value}: it must be at least {least}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(known)}")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low < value <= high:
        raise ValueError(f"{name} is {value}: it must be above {low} and at most {high}")


@dataclass(frozen=True)
class RegimeParameters:
    """The regime of a bar (``quant.regimes``); windows in bars, shares from 0 to 1.

    Thresholds were chosen on simulated markets (seeds 1 and 2, with and without a planted edge and clustered
    volatility), for balanced accuracy first and few switches second, and are judged on others.
    """

    #: ``rules``, or ``hmm``: the forward filter of a hidden Markov chain fitted on the first bars of a listing. Rules
    #: name what they see, and an update reads two years; the filter needs the listing from its first bar.
    method: str = "rules"

    #: Volatility, from open, high, low and close. 10 bars of ranges know what 20 of closes do, and sooner: balanced
    #: accuracy 0.48 against 0.44.
    volatility_bars: int = 10
    #: Bollinger's own 20.
    bandwidth_bars: int = 20
    #: Wilder's own 14.
    adx_bars: int = 14
    #: The month that the bands look at.
    efficiency_bars: int = 20
    #: Trailing window of the ranks. Two years: in one, the rank of a market that stays in one regime says little (0.465
    #: against 0.488); three gain no more than 0.005 and cost every update another year of bars.
    percentile_bars: int = 504
    #: Values needed for a rank; half a year, so that a new listing has regimes early.
    percentile_least: int = 126

    #: Rank of volatility from which a bar is rather volatile than not.
    volatile_from: float = 0.75
    #: Mean rank of volatility and bandwidth down to which a bar that is not volatile is rather quiet than not.
    consolidation_to: float = 0.3
    #: ADX that counts as a trend: Wilder's 25.
    trending_adx: float = 0.25
    #: Efficiency ratio that does. A random walk of 20 bars has 0.23 on average, and more than this in one case of five.
    trending_efficiency: float = 0.35
    #: Distance from a rank's threshold at which the odds are e : 1.
    percentile_softness: float = 0.1
    #: The same for the logarithm of trend strength.
    trend_softness: float = 0.25

    #: Hysteresis: how much likelier than the held regime another one has to be, ...
    margin: float = 0.3
    #: ... and for how many bars in a row, until the label changes.
    confirm: int = 3

    #: Bars at the start of a listing on which the hidden Markov chain is fitted; they have no regime. Two years.
    hmm_bars: int = 504
    #: Steps of EM. More fit the noise: balanced accuracy was 0.43 and 0.49 after 10, 0.40 and 0.45 after 100.
    hmm_iterations: int = 10

    def __post_init__(self) -> None:
        """Refuses what names no regime."""
        if self.method not in REGIME_METHODS:
            raise ValueError(f"method of the regimes is {self.method!r}: it is one of {', '.join(REGIME_METHODS)}")
        for name in ("volatility_bars", "efficiency_bars", "confirm", "hmm_iterations"):
            _at_least(name, getattr(self, name), 1)
        for name in ("bandwidth_bars", "adx_bars", "percentile_least"):
            _at_least(name, getattr(self, name), 2)
        _at_least("percentile_bars", self.percentile_bars, self.percentile_least)
        _at_least("hmm_bars", self.hmm_bars, 100)
        for name in ("volatile_from", "trending_adx", "trending_efficiency"):
            _between(name, getattr(self, name), 0.0, 1.0)
        _between("consolidation_to", self.consolidation_to, 0.0, self.volatile_from)
        for name in ("percentile_softness", "trend_softness"):
            _between(name, getattr(self, name), 0.0, 10.0)
        _at_least("margin", self.margin, 0.0)
        if self.margin >= 1:
            raise ValueError(
                f"margin is {self.margin}: a regime can lead by less than 1, so no label would ever change"
            )


@dataclass(frozen=True)
class PatternParameters:
    """Breakouts, double tops, touches and the rates of success (``quant.patterns``); lengths are in bars.

    A distance is in mean ranges (mean true ranges), so that it means the same for a quiet and for a wild symbol.
    """

    range_bars: int = 20  # bars of the mean range: a month of sessions
    breakout_bars: int = 20  # bars whose highest high or lowest low is broken: Donchian's four weeks
    breakout_range: float = 1.0  # true range of the breaking bar at least: a drift over the edge is no breakout
    swing_bars: int = 5  # bars on either side that a swing stands out from: a week; as many late it is known
    double_bars: int = 60  # between the two swings at most: a quarter, as in Bulkowski's statistics
    double_distance: float = 1.0  # between the two swings' prices at most: a bar's range
    double_depth: float = 3.0  # from the lower top to the low between at least: less is noise of a few bars
    double_patience: int = 20  # in which the low between must break, counted from where the second swing is known
    level_bars: int = 60  # age of a swing up to which it is support or resistance: a quarter
    touch_distance: float = 0.25  # from the level to the bar's extreme at most
    rate_prior: float = 20.0  # outcomes that the wider rate counts as when that of few outcomes is drawn towards it

    def __post_init__(self) -> None:
        """Refuses windows that hold nothing and distances that are none."""
        for name in ("range_bars", "breakout_bars", "double_patience"):
            _at_least(name, getattr(self, name), 2)
        _at_least("swing_bars", self.swing_bars, 1)
        for name in ("double_bars", "level_bars"):
            _at_least(name, getattr(self, name), self.swing_bars + 1)
        for name in ("breakout_range", "double_distance", "double_depth", "touch_distance", "rate_prior"):
            _at_least(name, getattr(self, name), 0.0)


@dataclass(frozen=True)
class ProfileParameters:
    """The documents of a symbol (``quant.profiles``, ``stations.profile``)."""

    tail_share: float = 0.05  # returns that Hill's estimate takes for the tail; 5 to 10 % is the usual range
    tail_least: int = 10  # losses below which a tail index is noise: its error is 1 / sqrt(k) of itself
    test_bars: int = 5_000  # newest bars in a unit-root test: twenty years of days; over a million minutes all reject
    fundamentals_days: float = 7.0  # days after which a company is asked about again; statements come quarterly
    fundamentals_batch: int = 50  # companies a run asks about, longest unasked first: at 4 requests/s some 13 seconds
    rate_least: float = 40.0  # outcomes below which a pattern's rate is not told: of 40 it is known to 15 points
    rate_days: int = 28  # from one count of the patterns to the next: 20 sessions add a sixtieth to five years

    def __post_init__(self) -> None:
        """Refuses what no figure can rest on."""
        _between("tail_share", self.tail_share, 0.0, 0.25)
        _at_least("tail_least", self.tail_least, 2)
        _at_least("test_bars", self.test_bars, 100)
        _at_least("fundamentals_days", self.fundamentals_days, 0.0)
        _at_least("fundamentals_batch", self.fundamentals_batch, 0)
        for name in ("rate_least", "rate_days"):
            _at_least(name, getattr(self, name), 1)
