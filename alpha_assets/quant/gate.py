"""The gate: from out-of-fold predictions to a decision, for the pool first, then for each symbol.

The pool passes or not on lines (``quant.gate_lines``), each a figure with its error, held against a threshold by a
one-sided bound over blocks of dates (``quant.evidence``); GATE.md has the definitions. Then a symbol's effect is shrunk
to the pool's (``quant.shrinkage``).
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from alpha_assets.quant import gate_lines as lines_of
from alpha_assets.quant.evidence import Estimate, Sample, refuse
from alpha_assets.quant.gate_lines import Drift, Line
from alpha_assets.quant.parameters import GateParameters
from alpha_assets.quant.sharpe import Trials
from alpha_assets.quant.shrinkage import symbol_effects

Decision = Literal["promote", "canary", "reject", "block"]

VERBS: Mapping[Decision, str] = {
    "promote": "promoted",
    "canary": "canary at most",
    "reject": "rejected",
    "block": "blocked",
}

#: The one configuration that each release registered before it was used on any market: thresholds that are chosen with
#: the verdicts in sight promote noise. A change of a default is a new release and a line here.
REGISTERED = {"0.1.0": "44e435bb5c2b"}

#: Whose predictions were judged and should serve: the candidate's own, or those of the learned linear rival.
Serving = Literal["candidate", "linear"]


@dataclass(frozen=True)
class PoolVerdict:
    """What the evidence of a whole family is worth.

    ``level`` is this attempt's share of the family's yearly level; ``figures`` are told beside the lines and never
    decide: XS-IC, macro-F1, the Sharpe ratio that later trials are compared with, and others. ``configuration`` names
    the thresholds, as ``configuration_of`` does.
    """

    decision: Decision
    reason: str
    lines: tuple[Line, ...]
    figures: Mapping[str, float | None]
    attempt: int
    level: float
    rows: int
    dates: int
    symbols: int
    effective_sample: float
    serves: Serving
    configuration: str

    @property
    def unmatched(self) -> str | None:
        """Why there is a champion and nothing to hold against it; None where there is none, or where there is."""
        return next((line.sentence for line in self.lines if _is_unmatched(line)), None)

    def line(self, name: str) -> Line:
        """The line of this name. Raises KeyError where it was not judged."""
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"the gate judged no line {name!r}; it judged {', '.join(line.name for line in self.lines)}")


@dataclass(frozen=True)
class SymbolVerdict:
    """What the evidence says of one symbol.

    ``ic`` is the symbol's own TS-IC and ``error`` its standard error; ``effect`` the same shrunk to the pool;
    ``probability`` P(effect > 0). None where undefined.
    """

    decision: Decision
    reason: str
    rows: int
    ic: float | None
    error: float | None
    effect: float | None
    probability: float | None
    threshold: float


@dataclass(frozen=True)
class Judgement:
    """The verdict over the pool and over each of its symbols."""

    pool: PoolVerdict
    symbols: Mapping[str, SymbolVerdict]

    def document(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text, ready for JSON."""
        return {
            "pool": asdict(self.pool),
            "symbols": {symbol: asdict(verdict) for symbol, verdict in self.symbols.items()},
        }


def judge(
    evidence: pl.DataFrame,
    parameters: GateParameters,
    *,
    horizon: int,
    attempt: int = 1,
    champions: Sequence[pl.DataFrame] = (),
    trials: Trials | None = None,
    drift: Mapping[str, Drift] | None = None,
    pooled: Line | None = None,
) -> Judgement:
    """The verdict on a family's out-of-fold predictions.

    ``evidence`` holds one row a prediction: symbol, timestamp, score, scaled_return (the labelled return over its
    scale), p_up, up; a row with a null or NaN in one of the six is left out. It may hold prior, past_return and
    momentum_return for the naive rivals; label_return and expected_return (the label and what the model expected of
    it, not scaled; null is no trade), which the money line needs; linear_score, linear_p_up and perhaps
    linear_expected_return of the best learned linear rival, which is judged in the candidate's place where the
    candidate is not shown to be as good; one that says what the candidate says is the candidate, and no rival.

    ``horizon`` is the label's, in bars; ``attempt`` counts this family's looks within the rolling year, from 1;
    ``champions`` hold symbol, timestamp and score of the one to be succeeded and, after it, of those before it that
    still count; ``trials`` are the configurations whose out-of-sample score was seen, none but this one where it is
    None; beside each count the linear rival and the pooled model, where a deciding line chose between them and it.
    ``drift`` is what was found of the drift of each symbol's features, by symbol; ``pooled`` is what ``against_pool``
    said, where it chose whose predictions these are. The same arguments give the same verdict, whatever the order of
    the rows.

    Raises ValueError for an attempt or horizon below 1, a missing column or two rows of one key.
    """
    if horizon < 1 or attempt < 1:
        raise ValueError(f"horizon {horizon} and attempt {attempt}: both count from 1")
    refuse(evidence)
    level = attempt_level(parameters.level, attempt)
    sample, serves, linear = _serving(Sample(evidence, parameters, horizon))
    choices = [line for line in (linear, pooled) if line is not None]
    # Of two the better was taken on the same dates: each may spend half, and the score of each was seen.
    taken = sum(line.figure is not None and line.name in parameters.deciding_lines for line in choices)
    level_of_each = level / 2**taken
    trials = (trials or Trials(1)).beside(taken)
    lines = _lines(sample, level_of_each, champions, trials, drift)
    lines += choices
    lines.append(lines_of.trials_line(trials))
    spent = sum(attempt_level(parameters.level, earlier) for earlier in range(1, attempt + 1))
    lines.append(lines_of.alpha_line(attempt, level, parameters.level, spent))
    decision, reason = _pool_decision(lines, serves)
    pool = PoolVerdict(
        decision=decision,
        reason=reason,
        lines=tuple(lines),
        figures={
            **(lines_of.reported(sample) if sample.blocks >= 2 else {}),
            "trials_variance": trials.variance,
        },
        attempt=attempt,
        level=level,
        rows=sample.rows,
        dates=sample.dates,
        symbols=len(sample.names),
        effective_sample=sample.effective_sample,
        serves=serves,
        configuration=configuration_of(parameters),
    )
    return Judgement(pool=pool, symbols=_symbol_verdicts(sample, pool, drift or {}))


def against_pool(evidence: pl.DataFrame, pooled: pl.DataFrame, parameters: GateParameters, *, horizon: int) -> Line:
    """Whether the fits of the symbols' own beat the pooled model, on the rows that both have predicted.

    ``evidence`` is theirs, as ``judge`` takes it; ``pooled`` holds symbol, timestamp and score of the pooled model.
    Where the line is not passed, the pooled model's predictions are to be judged in their place.
    """
    refuse(evidence)
    return lines_of.pooled_line(Sample(evidence, parameters, horizon), pooled)


def sharpe_of(evidence: pl.DataFrame, parameters: GateParameters, *, horizon: int) -> float | None:
    """The score of a trial: the Sharpe ratio per date that ``judge`` would find in this evidence; None where undefined.

    It is that of the pooled portfolio of whoever is judged, and what ``Trials`` is made of.
    """
    refuse(evidence)
    sample, _, _ = _serving(Sample(evidence, parameters, horizon))
    found = lines_of.portfolio(sample)
    return found.sharpe if found is not None else None


def configuration_of(parameters: GateParameters) -> str:
    """A digest of every threshold and of which lines decide."""
    told = json.dumps(asdict(parameters), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def attempt_level(level: float, attempt: int) -> float:
    """The share of a yearly level that the k-th attempt may spend: level x 6 / (pi^2 k^2), which sums to the level."""
    return level * 6 / (math.pi**2 * attempt**2)


def _serving(sample: Sample) -> tuple[Sample, Serving, Line | None]:
    """The sample that is judged: the candidate's, or the linear rival's where the candidate is not as good."""
    if not sample.holds("linear_score", "linear_p_up") or sample.blocks < 2 or _is_linear(sample):
        return sample, "candidate", None
    line = lines_of.linear_line(sample)
    if line.passed or line.figure is None or "linear" not in sample.parameters.deciding_lines:
        return sample, "candidate", line
    return Sample(_as_candidate(sample.evidence), sample.parameters, sample.horizon), "linear", line


def _is_linear(sample: Sample) -> bool:
    """Whether the candidate is the linear model, as where that is the learner: nothing is chosen between the two."""
    return sample.evidence["score"].equals(sample.evidence["linear_score"])


def _as_candidate(evidence: pl.DataFrame) -> pl.DataFrame:
    """The evidence with the linear rival's predictions in the candidate's place."""
    rival = {name: f"linear_{name}" for name in ("score", "p_up", "expected_return")}
    return evidence.with_columns(
        (pl.col(theirs) if theirs in evidence.columns else pl.lit(None, pl.Float64)).alias(ours)
        for ours, theirs in rival.items()
        if ours in evidence.columns or theirs in evidence.columns
    )


def _lines(
    sample: Sample, level: float, champions: Sequence[pl.DataFrame], trials: Trials, drift: Mapping[str, Drift] | None
) -> list[Line]:
    """The lines in the order of ``GATE_LINES``, those on direction last; two where there is next to nothing."""
    if sample.blocks < 2:
        return [lines_of.sample_line(sample), lines_of.skill_line(sample, level)]
    lines = [
        lines_of.sample_line(sample),
        lines_of.skill_line(sample, level),
        lines_of.suspicion_line(sample),
        lines_of.calibration_line(sample),
        lines_of.money_line(sample),
        lines_of.deflated_sharpe_line(sample, trials),
    ]
    if champions:
        lines.append(lines_of.champion_line(sample, champions))
    if drift is not None:
        lines.append(lines_of.drift_line(drift))
    return lines + lines_of.floor_lines(sample)


def _pool_decision(lines: list[Line], serves: Serving) -> tuple[Decision, str]:
    failed = [line for line in lines if line.decides and not line.passed]
    decision = _decision_of({line.name for line in failed})
    telling = failed or [line for line in lines if line.name == "skill" or _is_unmatched(line)]
    whose = " (the linear rival in the candidate's place)" if serves == "linear" else ""
    return decision, f"{VERBS[decision]}: " + "; ".join(line.sentence for line in telling) + whose


def _is_unmatched(line: Line) -> bool:
    return line.name == "champion" and line.figure is None


def _decision_of(failed: set[str]) -> Decision:
    if not failed:
        return "promote"
    if "suspicion" in failed:
        return "block"
    return "canary" if failed == {"sample"} else "reject"


def _symbol_verdicts(sample: Sample, pool: PoolVerdict, drift: Mapping[str, Drift]) -> dict[str, SymbolVerdict]:
    effects = symbol_effects(sample)
    rows = sample.held.sum(axis=0).astype(int)
    threshold = sample.parameters.symbol_probability
    decides = "drift" in sample.parameters.deciding_lines
    verdicts = {}
    for number, name in enumerate(sample.names):
        ic, error = _defined(effects.ic[number]), _defined(effects.error[number])
        effect, probability = _defined(effects.effect[number]), _defined(effects.probability[number])
        decision, reason = _symbol_decision(pool, probability, ic, threshold)
        leak = _suspected(ic, error, sample)
        if leak is not None and pool.decision in ("promote", "canary"):
            decision, reason = "block", leak
        found = drift.get(name)
        if decides and found is not None and found.alarmed and found.confirmed and decision in ("promote", "canary"):
            decision, reason = "reject", f"rejected: {found.sentence}"
        verdicts[name] = SymbolVerdict(
            decision=decision,
            reason=reason,
            rows=int(rows[number]),
            ic=ic,
            error=error,
            effect=effect,
            probability=probability,
            threshold=threshold,
        )
    return verdicts


def _symbol_decision(
    pool: PoolVerdict, probability: float | None, ic: float | None, threshold: float
) -> tuple[Decision, str]:
    if pool.decision in ("reject", "block"):
        return pool.decision, f"{VERBS[pool.decision]} with its pool: {pool.reason.split(': ', 1)[1]}"
    if probability is None or ic is None:
        return "reject", "rejected: no figure, its score or its return is constant or its dates are too few"
    if probability < threshold:
        return "reject", (
            f"rejected: P(effect > 0) {probability:.3f} < {threshold:.2f}, own TS-IC {ic:.3f} "
            f"shrunk to a pool that passed"
        )
    passed = "passed" if pool.decision == "promote" else f"is {pool.reason}"
    return pool.decision, (
        f"{VERBS[pool.decision]}: P(effect > 0) {probability:.3f} ≥ {threshold:.2f}, own TS-IC {ic:.3f} "
        f"shrunk to a pool that {passed}"
    )


def _suspected(ic: float | None, error: float | None, sample: Sample) -> str | None:
    """Why a symbol's own figure is too good to be true; a leak into one of twenty does not show in the pool's.

    Of so many symbols the best is asked about, so they share the level: at the whole of it each, an honest edge of 0.16
    in twelve symbols had two of them blocked. Of a symbol alone the pool's line has asked already.
    """
    parameters = sample.parameters
    if ic is None or error is None or len(sample.names) == 1 or "suspicion" not in parameters.deciding_lines:
        return None
    level = parameters.suspicion_level / len(sample.names)
    bound = Estimate(ic, error, 0.0, sample.blocks - 1).bound(level)
    if bound <= parameters.suspicion_ic:
        return None
    return (
        f"blocked: lower bound of its own TS-IC {bound:.3f} > {parameters.suspicion_ic:.2f} at level {level:.2g}: too "
        "good to be true, a person has to look for a leak"
    )


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
