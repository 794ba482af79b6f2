"""Fourth station: the gate decides, one INSERT makes it true, MLflow is brought into line.

The evidence is pooled over every symbol of the regime that has a candidate of the same feature set and learner,
whichever of them this run holds, because one symbol alone cannot reach significance. Decisions are recorded for the
symbols of the run.
"""

import hashlib
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant import gate
from alpha_assets.quant.gate import Judgement
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.sets import recipe_of, table_of
from alpha_assets.stations.train import ALL, OUT_OF_FOLD, labelled_rows, model_name, why_untrained
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry

#: Attempts at the gate are counted over a rolling year.
YEAR = timedelta(days=365)

VERDICTS = {"promote": "promote", "canary": "hold", "reject": "reject", "block": "hold"}


def promote(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    symbols: Sequence[str],
    now: datetime,
    dagster_run: str | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Judge the pool, then the candidates of ``symbols``; record and project the decisions.

    States: promoted, rejected, held (the pool is blocked until a person has looked, or its sample is too small for more
    than a canary, which are decisions; or there is no evidence of the symbol, which is none), unchanged (this candidate
    was decided on before), no_candidate. Raises DecidedElsewhere where another run decided first.
    """
    started = time.perf_counter()
    report = Report()
    candidates = {symbol: row for (symbol, regime), row in ledger.candidates().items() if regime == ALL}
    last = {symbol: row for (symbol, regime), row in ledger.last_decisions().items() if regime == ALL}
    states = ledger.states()
    open_ones = []
    for symbol in symbols:
        candidate = candidates.get(symbol)
        if candidate is None or candidate["model_version"] is None:
            report.say(symbol, "no_candidate", reason=why_untrained(candidate, states.get(symbol), settings))
        elif symbol in last and last[symbol]["training_id"] == candidate["training_id"]:
            report.say(symbol, "unchanged", verdict=last[symbol]["verdict"], reason=last[symbol]["reason"])
        elif candidate["features_set"] != table_of(settings):
            reason = f"its candidate reads {candidate['features_set']}, which is no longer kept: train it again"
            report.say(symbol, "held", reason=reason)
        else:
            open_ones.append(symbol)
    progress("candidates to judge", len(symbols) - len(open_ones), len(symbols))
    if open_ones:
        judgement, missing = _judge(lake, ledger, settings, candidates, now)
        rows = [
            _decision(
                candidates[symbol],
                judgement,
                last.get(symbol),
                ledger.production().get((symbol, ALL)),
                now,
                dagster_run,
            )
            for symbol in open_ones
            if symbol in judgement.symbols
        ]
        ledger.decide(rows)
        for row in rows:
            verdict = judgement.symbols[row["symbol"]]
            figures = {"ic": verdict.ic, "probability": verdict.probability}
            report.say(
                row["symbol"], PAST[row["verdict"]], reason=row["reason"], version=row["model_version"], **figures
            )
        for symbol in open_ones:
            if symbol not in judgement.symbols:
                report.say(symbol, "held", reason=missing.get(symbol, NO_EVIDENCE))
        report.totals["pool"] = judgement.pool.reason
    reconcile(ledger, registry, tags)
    report.totals |= {
        "symbols": len(symbols),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


#: Why nothing can be said of a candidate whose predictions meet no bar.
NO_EVIDENCE = "none of its candidate's predictions meets a labelled bar: refresh the symbol and train it again"

#: Sittings of the gate whose mirror in MLflow is looked for: those that a kill may have left without one.
SITTINGS = 5

PAST = {"promote": "promoted", "reject": "rejected", "hold": "held"}


def family(settings: Settings) -> str:
    """What is judged together: regime, feature set and learner.

    The set by its name, not by the hash of its table: another denoiser, benchmark or threshold is another attempt of
    the same family, or one could shop for settings at the price of a first look each.
    """
    features = recipe_of(settings).feature_set.name
    return f"{ALL}|{features}|{settings.learning.learner}|h{settings.learning.horizon}"


def _judge(
    lake: Lake, ledger: Ledger, settings: Settings, candidates: Mapping[str, Row], now: datetime
) -> tuple[Judgement, dict[str, str]]:
    """The judgement, and why there is no evidence of some symbols."""
    table = table_of(settings)
    pool = {
        symbol: row["training_id"]
        for symbol, row in candidates.items()
        if row["model_version"] is not None and row["features_set"] == table
    }
    evidence, missing = _evidence(lake, settings, calendars_of(ledger), pool)
    digest = hashlib.sha256("|".join(sorted(pool.values())).encode()).hexdigest()
    attempt = ledger.spend_attempt(family(settings), digest, now, now - YEAR)
    judgement = gate.judge(evidence, settings.gate, horizon=settings.learning.horizon, attempt=attempt)
    return judgement, missing


def _evidence(
    lake: Lake, settings: Settings, names: Mapping[str, str], pool: Mapping[str, str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """The out-of-fold predictions of the present candidates beside what followed; and who is left out, and why."""
    present = pl.DataFrame({"symbol": list(pool), "training_id": list(pool.values())})
    predictions = (
        lake.read("predictions", symbols=list(pool))
        .filter(pl.col("regime") == ALL, pl.col("origin") == OUT_OF_FOLD)
        .join(present, on=["symbol", "training_id"], how="semi")
    )
    rows, missing = labelled_rows(lake, settings, names, list(pool))
    followed = rows.select(
        *("symbol", "timestamp", "label_return", "scaled_return", "up", "past_return", "momentum_return")
    )
    return predictions.join(followed, on=["symbol", "timestamp"], how="inner"), missing


def _decision(
    candidate: Row,
    judgement: Judgement,
    last: Row | None,
    production: Row | None,
    now: datetime,
    dagster_run: str | None,
) -> Row:
    verdict = judgement.symbols[candidate["symbol"]]
    return {
        "symbol": candidate["symbol"],
        "regime": candidate["regime"],
        "seq": (last["seq"] if last else 0) + 1,
        "verdict": VERDICTS[verdict.decision],
        "reason": verdict.reason,
        "training_id": candidate["training_id"],
        "features_set": candidate["features_set"],
        "model_name": candidate["model_name"],
        "model_version": candidate["model_version"],
        "model_location": candidate["model_location"],
        "model_digest": candidate["model_digest"],
        "previous_version": production["model_version"] if production else None,
        "evidence": {"pool": asdict(judgement.pool), "symbol": asdict(verdict)},
        "dagster_run": dagster_run,
        "decided_at": now,
    }


def reconcile(ledger: Ledger, registry: Registry, tags: Mapping[str, str] | None = None) -> int:
    """Bring MLflow into line with the ledger: a run for each sitting of the gate, then aliases and tags; idempotent.

    A decision survives a kill that its mirror does not; ``tags`` go on the runs that this call makes up for. Two that
    reconcile at the same instant may mirror a sitting twice, under one tag ``sitting``. Returns how many names were
    moved.
    """
    sittings = _sittings(ledger)
    if not sittings:
        return 0
    production = ledger.production()
    serving = {(row["model_name"], row["model_version"]) for row in production.values()}
    mirrored = registry.mirrored_sittings()
    for digest, rows in sittings.items():
        if digest not in mirrored:
            _mirror(ledger, registry, digest, rows, serving, tags or {})
    aliased = registry.production_versions()
    moved = 0
    for (symbol, regime), row in production.items():
        name = row["model_name"] or model_name(symbol, regime)
        if aliased.get(name) == row["model_version"]:
            continue
        because = {"promoted_at": row["decided_at"].isoformat(), "promoted_because": row["reason"][:5000]}
        registry.set_production(name, row["model_version"], row["previous_version"], because)
        moved += 1
    return moved


def _sittings(ledger: Ledger) -> dict[str, list[Row]]:
    """The newest sittings, oldest first, each under a digest of what it decided."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in ledger.sittings(SITTINGS):
        groups.setdefault((row["dagster_run"], row["decided_at"], row["regime"]), []).append(row)
    return {_digest(rows): rows for rows in groups.values()}


def _digest(rows: Sequence[Row]) -> str:
    decided = sorted(f"{row['symbol']}|{row['regime']}#{row['seq']}" for row in rows)
    return hashlib.sha256("\n".join(decided).encode()).hexdigest()[:32]


def _mirror(
    ledger: Ledger,
    registry: Registry,
    digest: str,
    rows: Sequence[Row],
    serving: Container[tuple[str, str]],
    tags: Mapping[str, str],
) -> None:
    """One sitting as a run, after its rejected versions are tagged: where there is the run, there is everything."""
    for row in rows:
        version = (row["model_name"], row["model_version"])
        if row["verdict"] == "reject" and None not in version and version not in serving:
            registry.set_rejected(*version)
    evidence = ledger.evidence([row["id"] for row in rows])
    pool = evidence[rows[0]["id"]].get("pool", {})
    decisions = [
        {key: row[key] for key in ("symbol", "regime", "seq", "verdict", "reason", "model_name", "model_version")}
        for row in rows
    ]
    symbols = {row["symbol"]: evidence[row["id"]].get("symbol") for row in rows}
    by = {"decided_by": rows[0]["dagster_run"]} if rows[0]["dagster_run"] else {}
    registry.log_decisions(
        f"gate {rows[0]['regime']}",
        metrics=_figures(pool, rows),
        tags={
            **tags,
            **by,
            "regime": rows[0]["regime"],
            "sitting": digest,
            "decided_at": rows[0]["decided_at"].isoformat(),
        },
        report={"judgement": {"pool": pool, "symbols": symbols}, "decisions": decisions},
    )


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
