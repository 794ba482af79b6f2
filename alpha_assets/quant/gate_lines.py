"""The lines of the gate: each a figure of the evidence with its error, held against a threshold by a one-sided bound.

Which of them decide is a setting (``GateParameters.deciding_lines``); every one that can be judged is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from alpha_assets.quant import metrics
from alpha_assets.quant.evidence import Array, Estimate, Influences, Sample
from alpha_assets.quant.sharpe import Trials, normal_quantile, probabilistic_sharpe, sharpe_error

#: The figures of direction that a user may set a floor for.
FLOORED = ("f1", "precision", "recall")

#: Symbols that a sentence names at most.
NAMED = 5


@dataclass(frozen=True)
class Line:
    """One line of the gate: a figure, what its bound is held against, and the sentence that says so.

    ``figure``, ``error`` (one standard error) and ``bound`` are None where they are undefined, ``threshold`` where the
    line is only told. ``decides`` is whether the line may turn the verdict; the others are reported.
    """

    name: str
    figure: float | None
    error: float | None
    bound: float | None
    threshold: float | None
    passed: bool
    decides: bool
    sentence: str


@dataclass(frozen=True)
class Drift:
    """What was found of the drift of one symbol's features, outside of the gate.

    ``alarmed`` is the calibrated alarm; ``confirmed`` whether the realised loss grew too, without which drift only
    flags (GATE.md). ``sentence`` says why.
    """

    alarmed: bool
    confirmed: bool
    sentence: str


def sample_line(sample: Sample) -> Line:
    """Independent predictions, of which a promotion needs enough; with fewer a family is a canary at most."""
    least = sample.parameters.min_effective_sample
    found = sample.effective_sample
    passed = found >= least
    return Line(
        name="sample",
        figure=found,
        error=None,
        bound=found,
        threshold=least,
        passed=passed,
        decides=_decides("sample", sample),
        sentence=(
            f"effective sample {found:.0f} {'≥' if passed else '<'} {least:.0f} "
            f"({sample.dates} {sample.unit} / horizon {sample.horizon} x breadth {sample.breadth(sample.earned):.1f})"
        ),
    )


def skill_line(sample: Sample, level: float) -> Line:
    """Pooled, demeaned TS-IC above 0."""
    if sample.skill is None:
        return undefined("skill", _no_skill(sample), decides=True)
    ic = sample.estimate(sample.skill)
    bound = ic.bound(level)
    return _held(
        "skill",
        ic,
        bound,
        0.0,
        sample,
        f"lower bound of TS-IC {bound:.3f} {_sign(bound > 0)} 0 over {sample.extent} at level {level:.2g} "
        f"(TS-IC {ic.value:.3f} ± {ic.error:.3f}"
        + (f", {ic.bias:+.3f} of it by demeaning alone)" if abs(ic.bias) >= 0.001 else ")"),
    )


def suspicion_line(sample: Sample) -> Line:
    """The nearer of two: TS-IC and accuracy, each by its lower bound; passes where neither is too good to be true."""
    parameters = sample.parameters
    hits = sample.grid(metrics.hits(sample.values("p_up"), sample.values("up") > 0))
    figures = [("accuracy", sample.ratio(hits, sample.held), parameters.suspicion_accuracy)]
    if sample.skill is not None:
        figures.append(("TS-IC", sample.estimate(sample.skill), parameters.suspicion_ic))
    level = parameters.suspicion_level
    distances = [
        (figure.bound(level) - threshold, label, figure, threshold) for label, figure, threshold in figures if figure
    ]
    distance, label, figure, threshold = max(distances, key=lambda entry: entry[0])
    bound, passed = distance + threshold, distance <= 0
    return Line(
        name="suspicion",
        figure=figure.value,
        error=figure.error,
        bound=bound,
        threshold=threshold,
        passed=passed,
        decides=_decides("suspicion", sample),
        sentence=(
            f"lower bound of {label} {bound:.3f} {'≤' if passed else '>'} {threshold:.2f} at level {level:.2g}"
            + ("" if passed else ": too good to be true, a person has to look for a leak")
        ),
    )


def calibration_line(sample: Sample) -> Line:
    """Log-loss of the best of the priors less the model's, which may be no worse than the margin."""
    parameters = sample.parameters
    up = sample.values("up") > 0
    losses = {
        name: metrics.log_losses(p_up, up)
        for name, p_up in metrics.rival_probabilities(sample.evidence).items()
        if name in ("half", "pooled_prior", "symbol_prior")
    }
    rival = min(losses, key=lambda name: float(losses[name].mean()))
    saved = losses[rival] - metrics.log_losses(sample.values("p_up"), up)
    estimate = sample.ratio(sample.grid(saved), sample.held)
    assert estimate is not None, "a sample of two blocks has rows"
    bound, threshold = estimate.bound(parameters.margin_level), -parameters.calibration_margin
    return _held(
        "calibration",
        estimate,
        bound,
        threshold,
        sample,
        f"lower bound of the log-loss saved against {rival.replace('_', ' ')} {bound:.4f} "
        f"{_sign(bound > threshold)} {threshold:.4f} nats at level {parameters.margin_level:.2g}",
    )


@dataclass(frozen=True)
class Trades:
    """What the rule «trade where the expected return exceeds the round trip» would have done; dates x symbols.

    ``position`` is 1, -1 or 0; ``gross`` its return less that of holding the symbol's mean position all the time and
    ``net`` the same less the costs; ``gain`` and ``loss`` are what it earned and lost by itself, net of costs.
    """

    position: Array
    gross: Array
    net: Array
    gain: Array
    loss: Array


def trades(sample: Sample) -> Trades:
    """The trades of a sample that holds expected_return and label_return, both open to open and not scaled.

    Every label is a trade of its own, entered and left at a cost a side; one held on would pay less. The mean
    position is taken as in ``Panel.purged``: by itself it would know how the market went.
    """
    round_trip = 2 * sample.parameters.cost_per_side
    expected, followed = sample.column("expected_return"), sample.column("label_return")
    position = np.where(np.abs(expected) > round_trip, np.sign(expected), 0.0)
    cost = round_trip * np.abs(position)
    centred = position - sample.held * position.sum(axis=0) / np.maximum(sample.held.sum(axis=0), 1)
    gross = sample.purged(centred) * followed
    kept = position * followed - cost
    return Trades(position, gross, gross - cost, np.maximum(kept, 0.0), np.maximum(-kept, 0.0))


def money_line(sample: Sample) -> Line:
    """Mean return of a trade, net of costs and in excess of holding the same mean exposure, above 0."""
    parameters = sample.parameters
    missing = [name for name in ("expected_return", "label_return") if not sample.holds(name)]
    if missing:
        why = f"the evidence lacks {' and '.join(missing)}"
        return undefined("money", why, decides=_decides("money", sample))
    silent = [name for name in ("expected_return", "label_return") if not sample.tells(name)]
    if silent:
        return undefined("money", f"{' and '.join(silent)} not told", decides=_decides("money", sample))
    made = trades(sample)
    taken = np.abs(made.position)
    estimate = sample.ratio(made.net, taken)
    if estimate is None:
        why = f"no expected return exceeds the round trip of {_bp(2 * parameters.cost_per_side)}"
        return undefined("money", why, decides=_decides("money", sample))
    bound = estimate.bound(parameters.money_level)
    factor = sample.ratio(made.gain, made.loss)
    told = "no trade lost" if factor is None else f"profit factor {factor.value:.2f} ± {factor.error:.2f}"
    even = float(made.gross.sum() / taken.sum() / 2)
    return _held(
        "money",
        estimate,
        bound,
        0.0,
        sample,
        f"lower bound of the net excess return of a trade {_bp(bound)} {_sign(bound > 0)} 0 at level "
        f"{parameters.money_level:.2g} ({_bp(estimate.value)} ± {_bp(estimate.error)}, {told}, {taken.sum():,.0f} "
        f"trades in {sample.rows:,} rows, even at {_bp(even)} a side, {_bp(parameters.cost_per_side)} charged)",
    )


@dataclass(frozen=True)
class Portfolio:
    """The Sharpe ratio per date of the pooled portfolio before costs, its error and its independent dates."""

    sharpe: float
    error: float
    dates: float


def portfolio(sample: Sample) -> Portfolio | None:
    """The family's pooled daily portfolio: each symbol held in proportion to its score, at equal risk.

    A date's return is the sum over its symbols of purged score x volatility-scaled return. Independent dates are as
    many as explain the block bootstrap's error of its mean: overlap and clustering make them fewer, nothing makes them
    more than there are. None where it is undefined or never moves.
    """
    if sample.skill is None:
        return None
    daily = (sample.purged(sample.score) * sample.earned).sum(axis=1)
    mean, deviation = float(daily.mean()), float(daily.std())
    if not deviation > 0:
        return None
    moved = (daily - mean) / deviation
    bootstrap = sample.error((daily - mean) / sample.dates)
    dates = min((deviation / bootstrap) ** 2, float(sample.dates)) if bootstrap > 0 else float(sample.dates)
    sharpe = mean / deviation
    error = sharpe_error(sharpe, float((moved**3).mean()), float((moved**4).mean()), dates)
    return Portfolio(sharpe, error, dates)


def deflated_sharpe_line(sample: Sample, trials: Trials) -> Line:
    """Sharpe ratio of the pooled portfolio above what the best of the trials would reach by luck."""
    level = sample.parameters.deflated_level
    found = portfolio(sample)
    if found is None:
        return undefined("deflated_sharpe", _no_skill(sample), decides=_decides("deflated_sharpe", sample))
    threshold = trials.threshold(found.dates)
    # The Sharpe ratio's own formula is normal: its dates are counted as independent already.
    bound = found.sharpe - found.error * normal_quantile(1 - level)
    probability = probabilistic_sharpe(found.sharpe, threshold, found.error)
    return Line(
        name="deflated_sharpe",
        figure=found.sharpe,
        error=found.error,
        bound=bound,
        threshold=threshold,
        passed=bound > threshold,
        decides=_decides("deflated_sharpe", sample),
        sentence=(
            f"Sharpe ratio {found.sharpe:.3f} ± {found.error:.3f} per {sample.unit[:-1]}, before costs, above "
            f"{threshold:.3f}, the best of {trials.count} trial{'s' * (trials.count != 1)} by luck, with probability "
            f"{probability:.3f} {'>' if bound > threshold else '≤'} {1 - level:.2f} "
            f"({found.dates:.0f} independent {sample.unit})"
        ),
    )


def trials_line(trials: Trials) -> Line:
    """How many configurations of the family were tried, the judged one included; it is told."""
    sentence = "no other configuration of this family was tried"
    if trials.count > 1:
        sentence = (
            f"{trials.count} configurations of this family were tried, this one included; "
            f"the variance of their Sharpe ratios is {trials.variance:.2g}"
        )
    return Line("trials", float(trials.count), None, None, None, passed=True, decides=False, sentence=sentence)


def champion_line(sample: Sample, champions: Sequence[pl.DataFrame]) -> Line:
    """TS-IC less that of the champion, on the rows they share; of several champions, of the one it is furthest behind.

    That is the best of them, each on its own common rows. Where fewer than two blocks are shared with every champion
    the line has no figure and does not decide: nobody could ever succeed one whose rows nobody shares.
    """
    whose = "the champion" if len(champions) == 1 else f"the best of {len(champions)} champions"
    rivals = [champion.select("symbol", "timestamp", _rival="score") for champion in champions]
    margin, decides = sample.parameters.champion_margin, _decides("champion", sample)
    lines = [_not_inferior("champion", whose, sample, rival, margin, decides=decides) for rival in rivals]
    compared = [(line.figure, line) for line in lines if line.figure is not None]
    if not compared:
        return replace(lines[0], decides=False)
    return min(compared, key=lambda entry: entry[0])[1]


def linear_line(sample: Sample) -> Line:
    """TS-IC less that of the learned linear rival; it decides which of the two is judged, and turns no verdict."""
    rival = sample.evidence.select("symbol", "timestamp", _rival="linear_score")
    return _not_inferior("linear", "the linear rival", sample, rival, sample.parameters.linear_margin, decides=False)


def pooled_line(sample: Sample, pooled: pl.DataFrame) -> Line:
    """TS-IC of the fits of the symbols' own less that of the pooled model, which they have to beat.

    One question for the family: a pick for each symbol would be a search. It decides who is judged.
    """
    rival = pooled.select("symbol", "timestamp", _rival="score")
    return _not_inferior("pooled", "the pooled model", sample, rival, 0.0, decides=False)


def _not_inferior(name: str, whose: str, sample: Sample, rival: pl.DataFrame, margin: float, *, decides: bool) -> Line:
    """TS-IC less a rival's, paired on common rows, may be no worse than the margin; at 0 it has to be better."""
    threshold = 0.0 - margin
    parameters = sample.parameters
    both = sample.evidence.join(rival, on=["symbol", "timestamp"]).filter(pl.col("_rival").is_finite())
    common = Sample(both, parameters, sample.horizon)
    if common.blocks < 2:
        why = f"it shares {common.dates} {common.unit} with {whose}, fewer than two blocks of {common.block}"
        return undefined(name, why, decides=decides, threshold=threshold)
    ours, theirs = (common.ic(common.standard(common.column(name)), common.earned) for name in ("score", "_rival"))
    estimate = common.estimate(ours.minus(theirs))
    bound = estimate.bound(parameters.margin_level)
    return Line(
        name=name,
        figure=estimate.value,
        error=estimate.error,
        bound=bound,
        threshold=threshold,
        passed=bound > threshold,
        decides=decides,
        sentence=(
            f"lower bound of TS-IC less that of {whose} {bound:.3f} {_sign(bound > threshold)} {threshold:.3f} "
            f"over {common.extent} at level {parameters.margin_level:.2g}"
        ),
    )


def drift_line(drift: Mapping[str, Drift]) -> Line:
    """How many symbols drift; it flags, and a symbol whose realised loss confirms it is turned down by itself."""
    flagged = sorted(symbol for symbol, found in drift.items() if found.alarmed)
    sure = [symbol for symbol in flagged if drift[symbol].confirmed]
    names = f"{', '.join(flagged[:NAMED])}{' …' if len(flagged) > NAMED else ''}"
    count = f"{len(flagged)} symbol{'s' * (len(flagged) != 1)}"
    return Line(
        name="drift",
        figure=float(len(flagged)),
        error=None,
        bound=float(len(sure)),
        threshold=0.0,
        passed=not sure,
        decides=False,
        sentence=(
            f"drift of {count} is on record: {names}; the realised loss confirms {len(sure) or 'none'}"
            if flagged
            else "no drift is on record"
        ),
    )


def alpha_line(attempt: int, level: float, yearly: float, spent: float) -> Line:
    """What the attempts of the rolling year have spent of its level, this one included; it is told."""
    return Line(
        name="alpha",
        figure=spent,
        error=None,
        bound=spent,
        threshold=yearly,
        passed=spent <= yearly,
        decides=False,
        sentence=f"attempt {attempt} of the rolling year spends {level:.2g}; {spent:.3f} of {yearly:.3f} is spent",
    )


def floor_lines(sample: Sample) -> list[Line]:
    """F1, precision and recall of up; each is told, and decides where the user set a floor for it."""
    floors = {name: getattr(sample.parameters, f"{name}_floor") or None for name in FLOORED}
    figures = direction_estimates(sample)
    return [_floor_line(sample, name, figures[name], floors[name]) for name in FLOORED]


def _floor_line(sample: Sample, name: str, estimate: Estimate | None, floor: float | None) -> Line:
    if estimate is None:
        return undefined(name, "it never said up, or nothing rose", decides=floor is not None, threshold=floor)
    passed = floor is None or estimate.value >= floor
    against = "" if floor is None else f" {'≥' if passed else '<'} {floor:.3f}, the user's floor"
    return Line(
        name=name,
        figure=estimate.value,
        error=estimate.error,
        bound=estimate.value,
        threshold=floor,
        passed=passed,
        decides=floor is not None,
        sentence=f"{name} of up {estimate.value:.3f} ± {estimate.error:.3f}{against} over {sample.extent}",
    )


def direction_estimates(sample: Sample) -> dict[str, Estimate | None]:
    """f1, precision and recall of up, and the mean F1 of up and down (``metrics.direction``), each with its error."""
    up = sample.grid(sample.values("up") > 0)
    said = sample.grid(metrics.said_up(sample.values("p_up")))
    down, said_down = sample.held - up, sample.held - said
    f1 = sample.ratio_influences(2 * said * up, said + up)
    f1_down = sample.ratio_influences(2 * said_down * down, said_down + down)
    macro = None
    if f1 is not None and f1_down is not None:
        value = (f1.value + f1_down.value) / 2
        macro = sample.estimate(Influences(value, value, (f1.dates + f1_down.dates) / 2))
    return {
        "f1": sample.estimate(f1) if f1 is not None else None,
        "precision": sample.ratio(said * up, said),
        "recall": sample.ratio(said * up, up),
        "macro_f1": macro,
    }


def reported(sample: Sample) -> Mapping[str, float | None]:
    """What is told and never decides: XS-IC, macro-F1, accuracy and more, each error under the figure's name."""
    estimates: dict[str, Estimate | None] = {
        "xs_ic": _xs_ic(sample),
        "macro_f1": direction_estimates(sample)["macro_f1"],
    }
    figures: dict[str, float | None] = {}
    for name, estimate in estimates.items():
        figures[name] = estimate.value if estimate is not None else None
        figures[f"{name}_error"] = estimate.error if estimate is not None else None
    p_up, up = sample.values("p_up"), sample.values("up") > 0
    figures |= {
        "accuracy": metrics.accuracy(p_up, up),
        "brier": metrics.brier(p_up, up),
        "log_loss": metrics.log_loss(p_up, up),
        "auc": metrics.auc(p_up, up),
    }
    found = portfolio(sample)
    return figures | {"sharpe": found.sharpe if found is not None else None}


def _xs_ic(sample: Sample) -> Estimate | None:
    """Mean daily rank correlation; dates with too few symbols weigh nothing."""
    stamps = sample.evidence.select(pl.col("timestamp").unique().sort())
    daily = stamps.join(metrics.daily_rank_ic(sample.evidence), on="timestamp", how="left", maintain_order="left")
    there = daily["rank_ic"].is_not_null().cast(pl.Float64).to_numpy()
    return sample.ratio(daily["rank_ic"].fill_null(0.0).to_numpy(), there)


def undefined(name: str, why: str, *, decides: bool, threshold: float | None = 0.0) -> Line:
    """A line without a figure, which is not passed."""
    return Line(name, None, None, None, threshold, passed=False, decides=decides, sentence=f"no figure: {why}")


def too_short(sample: Sample) -> str:
    """Why nothing can be estimated from fewer than two blocks."""
    return f"{sample.dates} {sample.unit} are fewer than two blocks of {sample.block}"


def _no_skill(sample: Sample) -> str:
    if sample.blocks < 2:
        return too_short(sample)
    return "the score or the return of every symbol is constant"


def _held(name: str, estimate: Estimate, bound: float, threshold: float, sample: Sample, sentence: str) -> Line:
    return Line(
        name=name,
        figure=estimate.value,
        error=estimate.error,
        bound=bound,
        threshold=threshold,
        passed=bound > threshold,
        decides=_decides(name, sample),
        sentence=sentence,
    )


def _decides(name: str, sample: Sample) -> bool:
    return name in sample.parameters.deciding_lines


def _sign(above: bool) -> str:
    return ">" if above else "≤"


def _bp(share: float) -> str:
    return f"{1e4 * share:.1f} bp"
