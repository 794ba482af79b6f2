"""The backtest from the command: the same station as the asset, with the user's own way of trading."""

import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alpha_assets.commands import home, show
from alpha_assets.commands.models import now, opened
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.settings import Settings

#: Parts of the report that are tables, with their columns as a person reads them.
TABLES: Mapping[str, tuple[str, ...]] = {
    "years": ("year", "periods", "return", "sharpe", "max_drawdown", "turnover", "benchmark"),
    "regimes": ("regime", "trades", "hit_rate", "gross_bp", "net_bp", "gained"),
    "costs": ("cost_bp", "total_return", "annual_return", "volatility", "sharpe", "max_drawdown"),
    "benchmarks": ("name", "annual_return", "sharpe", "max_drawdown", "excess", "correlation", "beta", "alpha"),
}


def backtest(settings: Settings, options: Namespace) -> None:
    """Play it, log it in MLflow, print it: CSV is the brief in one row, JSON the whole report without the series."""
    from alpha_assets.stations.backtest import Wish, brief
    from alpha_assets.stations.backtest import backtest as look_back
    from alpha_assets.stores.lake import Lake
    from alpha_assets.stores.registry import Registry

    ledger = opened(settings)
    members = {row["symbol"] for row in ledger.universe(retired=True)}
    unknown = [symbol for symbol in options.symbols or () if symbol not in members]
    if unknown:
        raise CommandFailed(f"{', '.join(unknown)}: not in the universe; alpha-assets universe list says who is")
    if options.since and options.until and options.since > options.until:
        raise CommandFailed(f"--from {options.since} is after --to {options.until}")
    wish = Wish(
        symbols=tuple(options.symbols) if options.symbols else None,
        regimes=tuple(options.regimes) if options.regimes else None,
        since=options.since,
        until=options.until,
        promoted_only=options.promoted_only,
    )
    if options.picture:
        _refuse_without_place(Path(options.picture))
    home.prepare(settings)
    found = look_back(Lake(settings), ledger, Registry(settings), traded_as(settings, options), now(), wish=wish)
    if found.told["state"] != "done":
        raise CommandFailed(found.told["reason"])
    if options.picture and found.picture:
        Path(options.picture).write_bytes(found.picture)
    if options.format == "json":
        show.record({name: value for name, value in found.told.items() if name != "series"}, "json")
    elif options.format == "csv":
        show.record(brief(found.told), "csv")
    else:
        _print_whole(found.told, brief(found.told))


def _refuse_without_place(picture: Path) -> None:
    """Before anything is looked at: what is logged has been a look, with a picture or without."""
    why = None
    if picture.is_dir():
        why = "it is a folder, name a file in it"
    elif not picture.parent.is_dir():
        why = f"there is no folder {picture.parent}"
    elif not os.access(picture if picture.exists() else picture.parent, os.W_OK):
        why = "permission denied"
    if why:
        raise CommandFailed(f"--picture {picture} cannot be written: {why}")


def traded_as(settings: Settings, options: Namespace) -> Settings:
    """The settings with what the options say of trading; a cost a side is all commission, without slippage."""
    chosen = {name: getattr(options, name) for name in ("rule", "sizing") if getattr(options, name) is not None}
    if options.long_only:
        chosen["long_only"] = True
    trading = settings.trading
    if options.cost_bp is not None:
        trading = replace(trading, commission_bp=options.cost_bp, slippage_bp=0.0)
    return settings.model_copy(update={"backtest": replace(settings.backtest, **chosen), "trading": trading})


def print_brief(told: Mapping[str, Any]) -> None:
    """The paragraph that the main job ends its backtest with."""
    if told["state"] != "done":
        print(f"\nBacktest: none, {told['reason']}\n")
        return
    print(
        f"\nBacktest of {told['models']}, {told['first']} to {told['last']}, {told['trades']:,} trades, net of costs: "
        f"{_share(told.get('annual_return'))} a year, deepest fall {_share(told.get('max_drawdown'))}, Sharpe ratio "
        f"{_number(told.get('sharpe'))}, which is more than luck with probability {_number(told.get('deflated'))} "
        f"({show.counted(told['trials'], 'trial')}); nothing would be left at {_number(told.get('break_even_bp'), 1)} "
        f"bp a side; holding the universe {_share(told.get('universe_held_annual_return'))} a year; "
        f"{told['universe']}.\n"
    )


def _print_whole(told: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    show.table(
        [{"figure": name, "value": _shown(value)} for name, value in first.items()], ("figure", "value"), "table"
    )
    rows = {
        "years": [{**row, "year": str(row["year"])} for row in told["years"]],
        "regimes": [{**row, **{f"{name}_bp": 1e4 * row[name] for name in ("gross", "net")}} for row in told["regimes"]],
        "costs": told["costs"],
        "benchmarks": [{"name": name, **other} for name, other in told["benchmarks"].items()],
    }
    for name, columns in TABLES.items():
        print(f"\n{name}")
        show.table(rows[name], columns, "table")
    if apart := told["of"]["rows_apart_left_out"]:
        pause = show.counted(told["of"]["bars_between"], "bar")
        print(
            f"\n{show.counted(apart, 'prediction')} beyond a pause of {pause} left out; --from and --to choose others."
        )
    print(f"\nAll of it is in MLflow, experiment alpha/backtest, run {told['run']}.\n{DISCLAIMER}")


def _shown(value: Any) -> str:
    return f"{value:,.5g}" if isinstance(value, float) else str(value)


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, digits: int = 2) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"
