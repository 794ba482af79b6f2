"""How strategies did, and the log of trainings: the figures that the assets wrote, read from the ledger."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from alpha_assets.commands import show
from alpha_assets.commands.models import opened
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings

#: What fits on a screen; CSV and JSON have every figure.
SHOWN_FIELDS = ("signals", "closed", "win_rate", "expectancy", "profit_factor", "total_pnl", "sharpe", "max_drawdown")
#: Figures that are counts or flags; a document of figures holds numbers alone, and of old homes floats.
COUNTS = ("signals", "closed", "open", "void", "wins", "stated", "outcomes", "dates", "rows")
FLAGS = ("calibrated",)
SHOWN_CALIBRATION = ("strategy", "source", "outcomes", "brier", "sentence")
TRAINING_FIELDS = (
    "symbol",
    "regime",
    "model",
    "version",
    "status",
    "trained_at",
    "seconds",
    "rows",
    "accuracy",
    "ts_ic",
)


def performance(settings: Settings, options: Namespace) -> None:
    """Figures of each strategy, window and regime: over all symbols, or of those named."""
    from alpha_assets.quant.performance import ALL, CELL, EVER, FIGURES
    from alpha_assets.stores.outcomes import Outcomes

    _refuse_unheard(options)
    ledger = opened(settings)
    windows = [str(days) for days in settings.trading.windows] + [EVER]
    if options.window is not None and options.window not in windows:
        raise CommandFailed(f"there is no window {options.window!r}: it is one of {', '.join(windows)} (days)")
    if options.calibration:
        _calibration(Outcomes(ledger).performance([ALL]), options)
        return
    if options.trainings:
        from alpha_assets.stations.dossier import training_log
        from alpha_assets.stores.registry import Registry

        if options.symbols is not None:
            _refuse_unknown(ledger.universe(retired=True), options.symbols)
        rows = [_counting(row) for row in training_log(ledger, Registry(settings), options.symbols)]
        show.table(rows, TRAINING_FIELDS, options.format, "no model was trained yet: alpha-assets train")
        return
    store = Outcomes(ledger)
    symbols = [ALL] if options.symbols is None else options.symbols
    if options.symbols is not None:
        _refuse_unknown(ledger.universe(retired=True), options.symbols)
    strategies = None if options.strategy is None else [options.strategy]
    shown = options.format == "table"
    asked = options.window or (EVER if shown else None)
    rows = store.performance(symbols, strategies, windows if asked is None else [asked])
    if options.strategy is not None and not rows:
        _refuse_no_strategy(store.performance(), options.strategy)
    told = [{**{name: row[name] for name in (*CELL, "window")}, **_counting(row["document"])} for row in rows]
    cell = [name for name in CELL if name != "symbol" or options.symbols is not None]
    fields = (*cell, *SHOWN_FIELDS) if shown else (*CELL, "window", *FIGURES, "as_of")
    show.table(told, fields, options.format, "nothing was settled yet: alpha-assets refresh, after the next bars")
    if shown and rows:
        from alpha_assets.quant.parameters import DISCLAIMER

        print(f"Window: {asked}; --window takes {', '.join(windows)} (days), --format csv every figure of each.")
        print(DISCLAIMER)


def _calibration(rows: Sequence[dict[str, Any]], options: Namespace) -> None:
    """How the confidences of each strategy held, live and out of fold, a row each."""
    from alpha_assets.quant.reliability import FIGURES
    from alpha_assets.stations.reliability import reliability_of

    if options.strategy is not None:
        _refuse_no_strategy(rows, options.strategy)
    told = [
        {"strategy": strategy, "source": source, **_counting(one)}
        for source, by_strategy in reliability_of(rows).items()
        for strategy, one in by_strategy.items()
        if options.strategy in (None, strategy)
    ]
    whole = ("strategy", "source", *FIGURES, "sentence", "curve")
    fields = SHOWN_CALIBRATION if options.format == "table" else whole
    none = "no confidence was stated: a signal states one where a model serves, see alpha-assets promotions"
    show.table(told, fields, options.format, none)


def _refuse_unheard(options: Namespace) -> None:
    """Say of an option that the table asked for knows nothing of that it does not."""
    unheard = {"calibration": ("symbols", "window"), "trainings": ("strategy", "window")}
    for asked, names in unheard.items():
        for name in names:
            if getattr(options, asked) and getattr(options, name) is not None:
                raise CommandFailed(f"--{asked} goes without --{name}: its table is over all of them")


def _counting(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures with counts as integers and flags as booleans."""
    kinds = dict.fromkeys(COUNTS, int) | dict.fromkeys(FLAGS, bool)
    return {
        name: kinds[name](value) if name in kinds and value is not None else value for name, value in figures.items()
    }


def _refuse_no_strategy(rows: Sequence[dict[str, Any]], strategy: str) -> None:
    from alpha_assets.stations.outcome import BLEND

    known = sorted({row["strategy"] for row in rows})
    if not known or strategy in known:
        return
    if strategy == BLEND:
        raise CommandFailed(f"{BLEND} has opened no position that is settled; {', '.join(known)} have")
    raise CommandFailed(f"there is no strategy {strategy!r}: it is one of {', '.join(known)}")


def _refuse_unknown(members: Sequence[dict[str, Any]], symbols: Sequence[str]) -> None:
    unknown = sorted(set(symbols) - {row["symbol"] for row in members})
    if unknown or not symbols:
        raise CommandFailed(
            f"{', '.join(unknown) or 'no symbol'}: not in the universe, see «alpha-assets universe list»"
        )
