"""How honest the gate is: how often noise is ever promoted in a year, and how often an edge is found.

``python -m benchmarks.honesty --format json`` prints one flat object. Each null family is judged in so many independent
pools of 20 symbols, each in 52 weekly attempts on evidence that grows and that is learnt anew every week; counted are
pools whose decision was ever «promote». ``null_…`` is the upper 95 % bound of that share (Clopper and Pearson, 1934),
``…_share`` the share, ``…_skill`` that of the skill line alone, ``…_error`` a Monte-Carlo error.

The gate's own code judges: where its skill line passes, the whole gate is asked; where that line fails, nothing could
be promoted, so nothing else is computed. Scores look like scores: ridge regressions, walk-forward on what is past, of
persistent features and of past returns, one for all symbols or one a symbol; and plain momentum and contrarian scores.
"""

import importlib
import importlib.util
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from alpha_assets.quant.evidence import Panel
from alpha_assets.quant.gate import Judgement, attempt_level, judge
from alpha_assets.quant.parameters import GATE_LINES, GateParameters
from alpha_assets.quant.sharpe import Trials
from benchmarks.frame import Figure, run
from benchmarks.market import SP500
from benchmarks.pools import (
    LEARNT,
    LOOKBACKS,
    NULLS,
    PAST,
    SYMBOLS,
    Labels,
    Predictions,
    Procedure,
    clustered,
    evidence,
    labelled,
    market,
    planted,
)

PARAMETERS = GateParameters()
#: Bars that the first attempt judges, and those that each later one has more: a week.
JUDGED, WEEK = 500, 5
LEARNERS = ("pooled", "own", "momentum", "contrarian")
HORIZONS = (1, 5)


def ever(family: str, pool: int, attempts: int, learners: Sequence[str] = LEARNERS) -> tuple[bool, bool]:
    """Whether one pool of a null family passed the skill line, and was promoted, in any of its weekly attempts."""
    random = np.random.default_rng([list(NULLS).index(family), pool, len(learners)])
    kinds = list(product(HORIZONS, learners, LOOKBACKS))
    horizon, learner, lookback = kinds[pool % len(kinds)]
    dates = PAST + LEARNT + JUDGED + WEEK * attempts + horizon
    made = market(random, dates, NULLS[family])
    labels = labelled(made.returns, horizon)
    procedure = Procedure(made, labels, learner, lookback)
    passed = promoted = False
    for attempt in range(1, attempts + 1):
        said = procedure.predictions(PAST + LEARNT + JUDGED + WEEK * (attempt - 1))
        if _skilled(labels, said, attempt):
            passed, promoted = True, promoted or verdict(labels, said, attempt).pool.decision == "promote"
    return passed, promoted


def _skilled(labels: Labels, said: Predictions, attempt: int) -> bool:
    """The skill line alone, which nothing is promoted without."""
    earned = labels.scaled[PAST + LEARNT :][: len(said.score)]
    panel = Panel(np.ones_like(earned), PARAMETERS, labels.horizon)
    skill = panel.estimate(panel.ic(panel.standard(said.score), panel.standard(earned)))
    return skill.bound(attempt_level(PARAMETERS.level, attempt)) > 0


def verdict(labels: Labels, said: Predictions, attempt: int = 1, compared: int = 0) -> Judgement:
    """The whole gate on these predictions, which were ``compared`` with so many rivals before they were judged."""
    parameters = replace(PARAMETERS, level=PARAMETERS.level / 2**compared)
    trials = Trials(1).beside(compared)
    return judge(evidence(labels, said), parameters, horizon=labels.horizon, attempt=attempt, trials=trials)


def found(ic: float, bars: int, pool: int, horizon: int = 1, edged: int = SYMBOLS, compared: int = 0) -> Judgement:
    """The verdict on the first attempt at a market with a planted edge, over so many judged bars."""
    random = np.random.default_rng([round(1000 * ic), bars, pool, horizon, edged])
    made = planted(random, PAST + LEARNT + bars + horizon, ic, horizon, edged)
    labels = labelled(made.returns, horizon)
    said = Procedure(made, labels, "pooled", LOOKBACKS[0]).predictions(PAST + LEARNT + bars)
    return verdict(labels, said, compared=compared)


def leaked(pool: int) -> Judgement:
    """The verdict on a score that saw half of the variance of what followed."""
    random = np.random.default_rng([7, pool])
    made = market(random, PAST + LEARNT + JUDGED + 1, clustered)
    labels = labelled(made.returns, 1)
    said = Procedure(made, labels, "pooled", LOOKBACKS[0]).predictions(PAST + LEARNT + JUDGED)
    seen = labels.scaled[PAST + LEARNT :][: len(said.score)]
    return verdict(labels, Predictions(seen + seen.std() * random.standard_normal(seen.shape), said.prior))


def upper_bound(count: int, of: int, level: float = 0.95) -> float:
    """Upper one-sided bound of a share (Clopper and Pearson, 1934)."""
    from scipy.special import betaincinv

    return 1.0 if count == of else float(betaincinv(count + 1, of - count, level))


def share(hits: Sequence[float], name: str) -> dict[str, Figure]:
    """The mean of shares of independent pools, and its Monte-Carlo error; of all or none, that of one more or less."""
    values = np.asarray(hits, dtype=float)
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if values.std() > 0 else 1 / (len(values) + 2)
    return {name: round(float(values.mean()), 4), f"{name}_error": round(error, 4)}


def nulls(options: Namespace, each: Callable[..., list]) -> dict[str, Figure]:
    """The null families, and one of contrarian scores alone, the worst that we know."""
    families: dict[str, tuple[str, Sequence[str]]] = {name: (name, LEARNERS) for name in NULLS}
    families["contrarian"] = ("garch", ("contrarian",))
    if not SP500.exists():
        del families["signflip"]
    figures: dict[str, Figure] = {} if SP500.exists() else {"null_signflip": None, "data": f"{SP500} is absent"}
    for name, (family, learners) in families.items():
        judged = each(
            f"null_{name}", partial(ever, family, attempts=options.attempts, learners=learners), options.pools
        )
        promoted = [one for _, one in judged]
        figures[f"null_{name}"] = round(upper_bound(sum(promoted), len(promoted)), 4)
        figures |= share(promoted, f"null_{name}_share")
        figures |= share([passed for passed, _ in judged], f"null_{name}_skill")
    return figures


def powers(options: Namespace, each: Callable[..., list]) -> dict[str, Figure]:
    """How often the deciding lines find a planted edge, the realised IC beside it.

    ``…_shared`` where who is judged was chosen twice, against a linear rival and a pooled model: each choice halves the
    level, and each rival is a trial.
    """
    figures: dict[str, Figure] = {}
    for ic, bars in product((0.05, 0.10, 0.15), (2500, 500)):
        name = f"power_{round(100 * ic):03}" + ("" if bars == 2500 else f"_{bars}")
        judged = each(name, partial(_told, ic, bars), options.power_pools)
        figures |= share([decision == "promote" for decision, _, _ in judged], name)
        shared = each(f"{name}_shared", partial(_told, ic, bars, compared=2), options.power_pools)
        figures |= share([decision == "promote" for decision, _, _ in shared], f"{name}_shared")
        figures |= share([realised for _, realised, _ in judged], f"{name}_ic")
        figures |= share([symbols for _, _, symbols in judged], f"{name}_symbols")
    return figures


def _told(ic: float, bars: int, pool: int, compared: int = 0) -> tuple[str, float, float]:
    judgement = found(ic, bars, pool, compared=compared)
    promoted = [one.decision == "promote" for one in judgement.symbols.values()]
    return judgement.pool.decision, judgement.pool.line("skill").figure or 0.0, float(np.mean(promoted))


def whole(options: Namespace, each: Callable[..., list]) -> dict[str, Figure]:
    """The stated market: h = 5, volatility 2 % a bar, a persistent feature of IC 0.10, costs on.

    How often each line is passed, and how often all that decide are: ``whole_gate``.
    """
    passed = each("whole", partial(_passed, 0.10, 2500, 5), options.power_pools)
    figures: dict[str, Figure] = {}
    for name in (*GATE_LINES, "gate"):
        if hits := [lines[name] for lines in passed if name in lines]:
            figures |= share(hits, f"whole_{name}")
    return figures


def _passed(ic: float, bars: int, horizon: int, pool: int) -> dict[str, bool]:
    pool_verdict = found(ic, bars, pool, horizon).pool
    return {**{line.name: line.passed for line in pool_verdict.lines}, "gate": pool_verdict.decision == "promote"}


def mixed(options: Namespace, each: Callable[..., list]) -> dict[str, Figure]:
    """Pools in which 5 of 20 symbols have an edge: the shares of the others and of those that are promoted."""
    judged = each("mixed", _mixed, options.power_pools)
    return share([wrong for wrong, _ in judged], "mixed_false") | share([right for _, right in judged], "mixed_found")


def _mixed(pool: int) -> tuple[float, float]:
    judgement = found(0.15, 2500, pool, edged=5)
    promoted = [judgement.symbols[name].decision == "promote" for name in sorted(judgement.symbols)]
    return float(np.mean(promoted[5:])), float(np.mean(promoted[:5]))


def leaks(options: Namespace, each: Callable[..., list]) -> dict[str, Figure]:
    """How often a leak is blocked."""
    return share([decision == "block" for decision in each("leak", _leak, options.power_pools)], "leak_caught")


def _leak(pool: int) -> str:
    return leaked(pool).pool.decision


def drift(options: Namespace) -> Mapping[str, Figure]:
    """The figures of ``benchmarks.drifting``, where that benchmark is there; the one place that names it."""
    if importlib.util.find_spec("benchmarks.drifting") is None:
        return {}
    chosen = Namespace(markets=options.drift_markets, symbols=SYMBOLS, features=SYMBOLS, seed=20240229)
    return importlib.import_module("benchmarks.drifting").measure(chosen)


def measure(options: Namespace) -> Mapping[str, Figure]:
    """Everything, in one flat object."""
    from joblib import Parallel, delayed

    def each(name: str, job: Callable[..., object], count: int) -> list:
        print(f"{name}: {count} pools", file=sys.stderr)
        return Parallel(n_jobs=options.workers)(delayed(job)(pool=pool) for pool in range(count))

    figures: dict[str, Figure] = {"pools": options.pools, "attempts": options.attempts}
    for part in (nulls, mixed, powers, whole, leaks):
        figures |= part(options, each)
    return {**figures, **drift(options)}


def options(parser: ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--pools", type=int, default=600, help="independent pools a null family (600)")
    parser.add_argument("--power-pools", type=int, default=200, help="markets with an edge a figure (200)")
    parser.add_argument("--attempts", type=int, default=52, help="weekly attempts a pool (52)")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--drift-markets", type=int, default=100, help="markets a cell of benchmarks.drifting (100)")
    parser.add_argument("--quick", action="store_true", help="24 pools, 8 markets, 12 attempts: does it run?")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run("Honesty and power of the gate.", lambda chosen: measure(_quick(chosen)), options, arguments)


def _quick(chosen: Namespace) -> Namespace:
    if chosen.quick:
        chosen.pools, chosen.power_pools, chosen.attempts, chosen.drift_markets = 24, 8, 12, 2
    return chosen


if __name__ == "__main__":
    main()
