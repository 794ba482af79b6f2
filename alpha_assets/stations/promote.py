"""Fourth station: the gate decides, one INSERT makes it true, MLflow is brought into line.

A version's path is ``staging -> canary -> production -> archived``, or ``failed``. Of each (symbol, regime) one thing
is decided in a pass, the most urgent: a production version whose live loss is confirmed is taken back; a canary whose
shadow is complete serves, or has failed; else the gate judges the candidate. A candidate that passes waits while a
canary that may still serve is in shadow, because a look at the evidence spends level.

The evidence is pooled over every symbol of the regime whose candidate was trained by the settings in force, whichever
of them this run holds, because one symbol alone cannot reach significance; learners, horizons or feature sets mixed
would be judged as what none of them is. Fits of the symbols' own have to beat the pooled model of their regime, where
there is one; else its version is judged, and named by the decisions, in their place. Decisions are recorded for the
cells of the run.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant import gate
from alpha_assets.quant.gate import Judgement
from alpha_assets.quant.gate_lines import Line
from alpha_assets.quant.lifecycle import (
    CANARY,
    FAILED,
    GATE,
    PRODUCTION,
    STAGING,
    WATCH,
    Decision,
    VersionKey,
    standing,
    taken_back,
    version_of,
)
from alpha_assets.quant.watch import LiveVerdict, ShadowVerdict
from alpha_assets.settings import Settings
from alpha_assets.stations import drift, projection
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.champions import champions, scores_of, succeeded, who_serves
from alpha_assets.stations.decisions import rollback_row, row_of
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.sets import table_of
from alpha_assets.stations.train import ALL, OUT_OF_FOLD, labelled_rows, pooled_candidate, why_untrained
from alpha_assets.stations.trials import configuration, family, tried
from alpha_assets.stations.watch import live_verdicts, looks_elsewhere, shadow_verdicts
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry

#: A symbol and a regime.
Cell = tuple[str, str]

#: Attempts at the gate are counted over a rolling year, and so long a former champion has to be matched.
YEAR = timedelta(days=365)

#: What the gate's word comes to: the verb, and where it leaves the version. «canary» may serve only once judged anew.
OUTCOMES = {
    "promote": ("promote", PRODUCTION),
    "canary": ("hold", CANARY),
    "reject": ("reject", FAILED),
    "block": ("hold", STAGING),
}

#: How a decision is told, by its stage, or by its verb where that says more.
TOLD = {PRODUCTION: "promoted", CANARY: "canary", FAILED: "rejected", STAGING: "held"}


@dataclass(frozen=True)
class Known:
    """What the ledger says of every cell, read once a pass.

    At one instant: read one after the other they may lie before and after another pass's decisions, whose candidates
    then look open though ``last`` holds their decision, and would be decided on twice. ``taken_back`` is of the cells
    whose last decision is a rollback.
    """

    candidates: Mapping[Cell, Row]
    decided: Mapping[Cell, Row]
    last: Mapping[Cell, Row]
    production: Mapping[Cell, Row]
    canaries: Mapping[Cell, Row]
    states: Mapping[str, Row]
    taken_back: Mapping[Cell, Mapping[VersionKey, Decision]]

    @classmethod
    def of(cls, ledger: Ledger) -> "Known":
        """Read from the ledger."""
        with ledger.snapshot() as then:
            candidates, decided, last = then.candidates(), then.decided(), then.last_decisions()
            back = sorted({symbol for (symbol, _), row in last.items() if row["verdict"] == "rollback"})
            return cls(
                candidates,
                decided,
                last,
                then.production(),
                then.canaries(),
                then.states(),
                {cell: taken_back(history) for cell, history in then.history(back).items()},
            )


def promote(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    cells: Sequence[Cell],
    now: datetime,
    dagster_run: str | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Decide on the versions of ``cells``; record the decisions and project them.

    Partitions of the report are ``regime|symbol``. States: promoted, canary, rejected, rolled_back, held (a person has
    to look: the pool is blocked, which is a decision, or there is no evidence of the symbol, which is none), in_shadow
    (a canary's bars are not complete), unchanged (this candidate was decided on before), no_candidate. Raises
    DecidedElsewhere where another run decided first.
    """
    started = time.perf_counter()
    report = Report()
    known = Known.of(ledger)
    rows = _watched(lake, ledger, settings, known, cells, now, dagster_run, report)
    to_judge = [
        cell for cell in cells if _key(cell) not in report.partitions and _is_open(cell, known, settings, report)
    ]
    progress("candidates to judge", len(cells) - len(to_judge), len(cells))
    for regime in dict.fromkeys(regime for _, regime in to_judge):
        some = [cell for cell in to_judge if cell[1] == regime]
        rows += _judged(lake, ledger, registry, settings, known, some, now, dagster_run, report)
        progress("candidates to judge", len(report.partitions), len(cells))
    seconds = round(time.perf_counter() - started, 3)
    ledger.decide([{**row, "seconds": seconds} for row in rows])
    reconcile(ledger, registry, tags)
    report.totals |= {
        "symbols": len(cells),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def due(lake: Lake, ledger: Ledger, settings: Settings) -> dict[Cell, str]:
    """The cells on which what was watched asks for a decision, each with the reason."""
    known = Known.of(ledger)
    losing = {cell: verdict.reason for cell, verdict in _losing(lake, ledger, settings, known.production).items()}
    shadows = shadow_verdicts(lake, ledger, settings, known.canaries) if known.canaries else {}
    capped = _capped(ledger, known.canaries)
    ripe = {
        cell: verdict.reason
        for cell, verdict in shadows.items()
        if verdict.state == "failed" or (verdict.state == "passed" and cell not in capped)
    }
    return ripe | losing


def _key(cell: Cell) -> str:
    return f"{cell[1]}|{cell[0]}"


def _losing(lake: Lake, ledger: Ledger, settings: Settings, production: Mapping[Cell, Row]) -> dict[Cell, LiveVerdict]:
    verdicts = live_verdicts(lake, ledger, settings, production) if production else {}
    return {cell: verdict for cell, verdict in verdicts.items() if verdict.confirmed}


def _watched(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    known: Known,
    cells: Sequence[Cell],
    now: datetime,
    dagster_run: str | None,
    report: Report,
) -> list[Row]:
    """The decisions that what was watched asks for: rollbacks, and canaries that serve or have failed."""
    serving = {cell: known.production[cell] for cell in cells if cell in known.production}
    losing = _losing(lake, ledger, settings, serving)
    histories = ledger.history(sorted({symbol for symbol, _ in losing})) if losing else {}
    rows = [
        _taken_back(histories[cell], known.last[cell], verdict, now, dagster_run) for cell, verdict in losing.items()
    ]
    watched = {cell: known.canaries[cell] for cell in cells if cell in known.canaries and cell not in losing}
    shadows = shadow_verdicts(lake, ledger, settings, watched) if watched else {}
    capped = _capped(ledger, watched)
    for cell, verdict in shadows.items():
        if verdict.state == "failed" or (verdict.state == "passed" and cell not in capped):
            rows.append(_out_of_shadow(known, cell, verdict, now, dagster_run))
        elif cell not in capped:
            report.say(_key(cell), "in_shadow", version=watched[cell]["model_version"], reason=verdict.reason)
    for row in rows:
        state = "rolled_back" if row["verdict"] == "rollback" else TOLD[row["stage"]]
        version = {"version": row["model_version"], "model": row["model_name"]}
        report.say(_key((row["symbol"], row["regime"])), state, reason=row["reason"], **version)
    return rows


def _taken_back(history: Sequence[Row], last: Row, verdict: LiveVerdict, now: datetime, dagster_run: str | None) -> Row:
    """The rollback of what served when this pass read; ``last`` is the newest decision that it knew of."""
    # Who was decided on since is not who lost: with the seq after ``last`` the INSERT is refused.
    history = [row for row in history if row["seq"] <= last["seq"]]
    to = standing(history).previous
    back = f"back to {to['model_name']} version {to['model_version']}" if to else "no version before it, so none serves"
    return rollback_row(
        history,
        to=to,
        reason=f"{verdict.reason}: {back}",
        who=WATCH,
        now=now,
        evidence={"live": asdict(verdict)},
        dagster_run=dagster_run,
    )


def _capped(ledger: Ledger, canaries: Mapping[Cell, Row]) -> set[Cell]:
    """The canaries that no shadow brings into production: their evidence was too little for more."""
    evidence = ledger.evidence([row["id"] for row in canaries.values()])
    return {
        cell for cell, row in canaries.items() if (evidence[row["id"]].get("symbol") or {}).get("decision") == "canary"
    }


def _out_of_shadow(known: Known, cell: Cell, verdict: ShadowVerdict, now: datetime, dagster_run: str | None) -> Row:
    canary = known.canaries[cell]
    passed = verdict.state == "passed"
    return row_of(
        canary,
        cell,
        verdict="promote" if passed else "reject",
        stage=PRODUCTION if passed else FAILED,
        reason=f"{verdict.reason}; {canary['reason']}" if passed else verdict.reason,
        last=known.last[cell],
        production=known.production.get(cell),
        who=WATCH,
        evidence={"shadow": asdict(verdict), "canary_since": canary["decided_at"].isoformat()},
        now=now,
        dagster_run=dagster_run,
    )


def _is_open(cell: Cell, known: Known, settings: Settings, report: Report) -> bool:
    """Whether the gate has to judge the candidate of this cell; where not, the report says why."""
    candidate, decided = known.candidates.get(cell), known.decided.get(cell)
    if candidate is None or candidate["model_version"] is None:
        report.say(_key(cell), "no_candidate", reason=_why_none(cell, known, settings))
    elif decided is not None:
        key = (candidate["model_name"], candidate["model_version"])
        told = max(decided, known.taken_back.get(cell, {}).get(key, decided), key=lambda row: int(row["seq"]))
        watched = [rows[cell] for rows in (known.canaries, known.production) if cell in rows]
        unjudged = [why for row in watched if (why := looks_elsewhere(row, settings)) is not None]
        report.say(_key(cell), "unchanged", verdict=told["verdict"], reason="; ".join([told["reason"], *unjudged]))
    elif (reason := _of_other_settings(candidate, settings)) is not None:
        report.say(_key(cell), "held", reason=reason)
    else:
        return True
    return False


def _of_other_settings(candidate: Row, settings: Settings) -> str | None:
    """Why a candidate is none of the family that these settings make; None where it is.

    One from before its configuration was remembered is told by its feature set alone.
    """
    table = table_of(settings)
    if candidate["features_set"] != table:
        return f"its candidate reads {candidate['features_set']}, which is no longer kept: train it again"
    if candidate["configuration"] not in (None, configuration(table, settings.learning)):
        return "its candidate was trained by other settings of ALPHA_LEARNING than those in force: train it again"
    return None


def _why_none(cell: Cell, known: Known, settings: Settings) -> str:
    candidate = known.candidates.get(cell)
    if cell[1] != ALL and candidate is None:
        return f"no model of this regime is trained yet; «{ALL}» serves it"
    return why_untrained(candidate, known.states.get(cell[0]), settings)


def _judged(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    known: Known,
    cells: Sequence[Cell],
    now: datetime,
    dagster_run: str | None,
    report: Report,
) -> list[Row]:
    """The gate's decisions on the candidates of one regime."""
    regime = cells[0][1]
    candidates = {
        symbol: row
        for (symbol, other), row in known.candidates.items()
        if other == regime and row["model_version"] is not None and _of_other_settings(row, settings) is None
    }
    pool = pooled_candidate(registry, settings, regime)
    judgement, models, missing = _judge(lake, ledger, settings, candidates, pool, known.production, now, regime)
    window = _window(lake, models, regime)
    stand_in = [symbol for symbol, model in models.items() if model is not candidates[symbol]]
    histories = ledger.history(stand_in) if stand_in else {}
    rows = []
    for cell in cells:
        symbol = cell[0]
        if symbol not in judgement.symbols:
            report.say(_key(cell), "held", reason=missing.get(symbol, NO_EVIDENCE))
            continue
        if symbol in stand_in and (said := _of_model(models[symbol], histories.get(cell, ()))) is not None:
            reason = f"the pooled version stands in for its own fit, and was decided on: {said['reason']}"
            report.say(_key(cell), "unchanged", verdict=said["verdict"], reason=reason)
            continue
        row = _decision(
            cell, models[symbol], judgement, known, settings, window, now, dagster_run, stands_in=symbol in stand_in
        )
        verdict = judgement.symbols[symbol]
        version = {"version": row["model_version"], "model": row["model_name"]}
        figures = {"ic": verdict.ic, "probability": verdict.probability}
        report.say(_key(cell), TOLD[row["stage"]], reason=row["reason"], **version, **figures)
        rows.append(row)
    report.totals.setdefault("pools", {})[regime] = judgement.pool.reason + _standing_in(pool, stand_in)
    return rows


def _standing_in(pool: Row | None, symbols: Sequence[str]) -> str:
    if pool is None or not symbols:
        return ""
    fits = f"fit{'s' * (len(symbols) != 1)} of {len(symbols)} symbol{'s' * (len(symbols) != 1)}"
    return f"; {pool['model_name']} version {pool['model_version']} stands in for the own {fits}"


def _of_model(model: Row, history: Sequence[Row]) -> Decision | None:
    """The newest decision on the training of a model in the history of a cell: what took its version back is one."""
    said = [row for row in history if row["training_id"] == model["training_id"]]
    back = [row for key, row in taken_back(history).items() if key == version_of(model)]
    return max([*said, *back], key=lambda row: int(row["seq"]), default=None)


def _window(lake: Lake, candidates: Mapping[str, Row], regime: str) -> dict[str, Any] | None:
    """The span of the out-of-fold predictions that a family is judged on."""
    present = pl.DataFrame(
        [(symbol, row["training_id"]) for symbol, row in candidates.items()],
        schema={"symbol": pl.String, "training_id": pl.String},
        orient="row",
    )
    key = ["symbol", "regime", "timestamp", "training_id", "origin"]
    said = lake.read("predictions", symbols=list(candidates), columns=key)
    ours = said.filter(pl.col("regime") == regime, pl.col("origin") == OUT_OF_FOLD).join(
        present, on=["symbol", "training_id"], how="semi"
    )
    if ours.is_empty():
        return None
    first, last = ours.select(first=pl.col("timestamp").min(), last=pl.col("timestamp").max()).row(0)
    return {"first": f"{first:%Y-%m-%d}", "last": f"{last:%Y-%m-%d}", "rows": ours.height}


#: Why nothing can be said of a candidate whose predictions meet no bar.
NO_EVIDENCE = "none of its candidate's predictions meets a labelled bar: refresh the symbol and train it again"


def _judge(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    candidates: Mapping[str, Row],
    pool: Row | None,
    production: Mapping[Cell, Row],
    now: datetime,
    regime: str,
) -> tuple[Judgement, Mapping[str, Row], dict[str, str]]:
    """The judgement, the version of each symbol that it is about, and why there is no evidence of some symbols."""
    symbols = list(candidates)
    stored = lake.read("predictions", symbols=symbols).filter(pl.col("origin") == OUT_OF_FOLD)
    said = stored.filter(pl.col("regime") == regime)
    labelled, missing = labelled_rows(lake, settings, calendars_of(ledger), symbols)
    followed = labelled.select(
        *("symbol", "timestamp", "label_return", "scaled_return", "up", "past_return", "momentum_return")
    )
    rules, horizon = settings.gate, settings.learning.horizon
    models, against = _serving(candidates, pool, said, followed, settings)
    trainings = {symbol: row["training_id"] for symbol, row in models.items()}
    evidence = _evidence(trainings, said, followed)
    histories = ledger.history(symbols)
    before = {symbol: succeeded(histories, (symbol, regime)) for symbol in symbols}
    served = champions(before, trainings, now - YEAR)
    score = gate.sharpe_of(evidence, rules, horizon=horizon)
    seen = sorted(row["training_id"] for row in [*candidates.values(), *([pool] if pool and against else [])])
    digest = hashlib.sha256("|".join(seen).encode()).hexdigest()
    attempt = ledger.spend_attempt(family(settings, regime), digest, now, now - YEAR)
    judgement = gate.judge(
        evidence,
        rules,
        horizon=horizon,
        attempt=attempt,
        champions=[scores_of(stored, generation) for generation in served],
        trials=tried(ledger, settings, regime, score, now),
        drift=drift.on_record(ledger, regime, models, production),
        pooled=against,
    )
    return judgement, models, missing


def _serving(
    candidates: Mapping[str, Row], pool: Row | None, said: pl.DataFrame, followed: pl.DataFrame, settings: Settings
) -> tuple[Mapping[str, Row], Line | None]:
    """The version of each symbol that is judged, and how the fits of their own did against the pooled one.

    A symbol of which the pooled version has said nothing keeps its own, and so do all where nothing is compared.
    """
    if pool is None:
        return candidates, None
    theirs = said.filter(pl.col("training_id") == pool["training_id"])
    met = set(theirs["symbol"])
    own = {
        symbol: row["training_id"]
        for symbol, row in candidates.items()
        if row["model_name"] != pool["model_name"] and symbol in met
    }
    if not own:
        return candidates, None
    rules = settings.gate
    line = gate.against_pool(_evidence(own, said, followed), theirs, rules, horizon=settings.learning.horizon)
    if line.passed or line.name not in rules.deciding_lines:
        return candidates, line
    stands_in = {**pool, "trained_at": theirs["made_at"].min()}
    return {**candidates, **{symbol: {**candidates[symbol], **stands_in} for symbol in own}}, line


def _evidence(trainings: Mapping[str, str], said: pl.DataFrame, followed: pl.DataFrame) -> pl.DataFrame:
    """What of ``said`` is of these trainings, beside what followed."""
    ours = pl.DataFrame(
        [(symbol, training) for symbol, training in trainings.items()],
        schema={"symbol": pl.String, "training_id": pl.String},
        orient="row",
    )
    predictions = said.join(ours, on=["symbol", "training_id"], how="semi")
    return predictions.join(followed, on=["symbol", "timestamp"], how="inner")


def _decision(
    cell: Cell,
    model: Row,
    judgement: Judgement,
    known: Known,
    settings: Settings,
    window: Mapping[str, Any] | None,
    now: datetime,
    dagster_run: str | None,
    *,
    stands_in: bool,
) -> Row:
    """The decision on ``model``, which ``stands_in`` where it is not the symbol's own fit, though it has one."""
    verdict = judgement.symbols[cell[0]]
    production = known.production.get(cell)
    verb, stage = OUTCOMES[verdict.decision]
    reason = verdict.reason
    if stands_in:
        name = f"{model['model_name']} version {model['model_version']}"
        reason = f"{reason}; {name} stands in for its own fit: {judgement.pool.line('pooled').sentence}"
    before = who_serves(known.production, cell)
    rules = settings.promotion
    unmatched = judgement.pool.unmatched if before and "champion" in settings.gate.deciding_lines else None
    if unmatched:
        reason = f"{reason}; {unmatched}"
    watched = rules.shadow_bars and (before is not None or rules.shadow_first)
    if stage == PRODUCTION and (watched or unmatched):
        verb, stage = "hold", CANARY
        bars = max(rules.shadow_bars, 1)
        reason = f"{reason}; canary for {bars} bar{'s' * (bars != 1)} before it serves"
    names = ("model_name", "model_version")
    return row_of(
        model,
        cell,
        verdict=verb,
        stage=stage,
        reason=reason,
        last=known.last.get(cell),
        production=production,
        who=GATE,
        evidence={
            "pool": asdict(judgement.pool),
            "symbol": asdict(verdict),
            "baseline": {name: before[name] for name in names} if before else None,
            "window": window,
        },
        now=now,
        dagster_run=dagster_run,
        # Whoever was judged speaks: the trees did not do as well.
        speaker="linear" if judgement.pool.serves == "linear" else None,
    )


def reconcile(ledger: Ledger, registry: Registry, tags: Mapping[str, str] | None = None) -> int:
    """Bring MLflow into line with the ledger (``projection.bring_into_line``); how many names had an alias set."""
    return projection.bring_into_line(ledger, registry, _figures, tags)


def _figures(pool: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, float]:
    named = ("attempt", "level", "effective_sample")
    figures = {name: float(pool[name]) for name in named if pool.get(name) is not None}
    figures |= {
        "promoted": float(sum(row["verdict"] == "promote" for row in rows)),
        "judged": float(len(rows)),
    }
    figures |= {name: float(figure) for name, figure in pool.get("figures", {}).items() if figure is not None}
    for line in pool.get("lines", ()):
        parts = ("figure", "error", "bound", "threshold")
        figures |= {f"{line['name']}_{part}": float(line[part]) for part in parts if line[part] is not None}
    return figures
