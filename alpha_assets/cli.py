"""The ``alpha-assets`` command: thin. Each verb imports what it needs when it is called: reading stays quick."""

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import date

from alpha_assets.quant.parameters import BACKTEST_RULES, BACKTEST_SIZINGS, DISCLAIMER, MOST_HOURS
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.quant.tally import RISKS, WORDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it did what was asked, 1 with the reason on stderr where not, 2 for a wrong call."""
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        return _done(options)
    except BrokenPipeError:
        # Whoever read our answer has gone (``| head``); Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("alpha-assets: stopped; what was stored is whole, run it again to go on", file=sys.stderr)
        return 130


#: Verbs of two words whose first is a verb by itself, which takes a symbol: «models AAPL», «models clean».
TWO_WORDS = (
    *(("models", "explain"), ("models", "picture"), ("models", "clean")),
    *(("signals", "explain"), ("signals", "metrics")),
)


def _joined(arguments: Sequence[str]) -> list[str]:
    """The arguments with a verb of two words as one."""
    if tuple(arguments[:2]) in TWO_WORDS:
        return [" ".join(arguments[:2]), *arguments[2:]]
    return list(arguments)


def _done(options: argparse.Namespace) -> int:
    # Imported here, so that Ctrl-C is answered with a sentence from the first moment on.
    from alpha_assets.commands.trouble import CommandFailed
    from alpha_assets.settings import WrongSetting, load
    from alpha_assets.stores.trouble import StoreTrouble

    try:
        code = int(options.verb(load(), options) or 0)
        sys.stdout.flush()
    except (CommandFailed, WrongSetting, StoreTrouble) as error:
        print(f"alpha-assets: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except Exception as error:  # nobody foresaw it: the person gets a sentence, the trace is kept for who can mend it
        with tempfile.NamedTemporaryFile("w", prefix="alpha-assets-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        told = str(error).strip().splitlines()[:1]
        print(f"alpha-assets: unexpected {type(error).__name__}: {''.join(told)}; trace in {log.name}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alpha-assets",
        description="Market bars to trading signals you can trust.",
        epilog=f"Settings: variables ALPHA_* or .env, see the README. {DISCLAIMER}",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _universe(verbs)
    _work(verbs)
    _deciding(verbs)
    _reading(verbs)
    _serving(verbs)
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str, call: object
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=what, description=what)
    parser.set_defaults(verb=call)
    return parser


def _symbols(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--symbols", metavar="A,B", type=_listed, help="only these; default: the whole universe")


def _regimes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--regime",
        action="append",
        choices=REGIMES,
        dest="regimes",
        help="only this one, repeatable; default: all five",
    )


def _format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: table")


def _listed(text: str) -> list[str]:
    return [part for part in text.replace(",", " ").split() if part]


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= MOST_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours above 0, {MOST_HOURS:,} at most")
    return hours


def _universe(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    universe = verbs.add_parser(
        "universe", help="which symbols are followed", description="Which symbols are followed."
    )
    inner = universe.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = _verb(inner, "add", "follow symbols", _call("universe", "add"))
    add.add_argument("symbols", nargs="*", metavar="SYMBOL")
    add.add_argument("--all", action="store_true", help="every symbol that the source holds (files, simulated)")
    add.add_argument("--source", choices=("yahoo", "files", "simulated"), help="default: ALPHA_SOURCE")
    listing = _verb(inner, "list", "list the symbols that are followed", _call("universe", "show_members"))
    listing.add_argument("--retired", action="store_true", help="those no longer followed too")
    _format(listing)
    retire = _verb(inner, "retire", "follow symbols no longer; their data stay", _call("universe", "retire"))
    retire.add_argument("symbols", nargs="+", metavar="SYMBOL")


def _work(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    refresh = _verb(verbs, "refresh", "fetch what is new; bars, features, profiles, signals", _call("line", "refresh"))
    _symbols(refresh)
    refresh.add_argument("--full", action="store_true", help="read the whole history again")
    _format(refresh)
    train = _verb(verbs, "train", "train candidates, let the gate decide, say signals", _call("line", "train"))
    _symbols(train)
    _regimes(train)
    _format(train)
    run = _verb(verbs, "run", "the main job: follow these symbols, refresh, train, say signals", _call("line", "run"))
    run.add_argument("symbols", nargs="*", metavar="SYMBOL", help="default: the universe, or all that files hold")
    _regimes(run)
    demo = _verb(verbs, "demo", "the main job on a simulated market", _call("line", "demo"))
    demo.set_defaults(symbols=[])
    _regimes(demo)
    _backtest(verbs)
    advance = _verb(verbs, "advance", "let the simulated market trade on", _call("line", "advance"))
    advance.add_argument("--sessions", type=int, default=1, metavar="N", help="default: 1")


def _backtest(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    what = "what following the models' words would have come to, net of costs; logged in MLflow"
    verb = _verb(verbs, "backtest", what, _call("backtest", "backtest"))
    _symbols(verb)
    _regimes(verb)
    verb.add_argument("--rule", choices=BACKTEST_RULES, help="when to trade; default: ALPHA_BACKTEST__RULE")
    verb.add_argument("--sizing", choices=BACKTEST_SIZINGS, help="default: ALPHA_BACKTEST__SIZING")
    verb.add_argument("--long-only", action="store_true", help="sell nothing short")
    verb.add_argument("--cost-bp", type=_basis_points, metavar="BP", help="cost a side; default: the settings' sum")
    verb.add_argument("--from", type=_day, dest="since", metavar="DAY", help="first day, such as 2015-01-31")
    verb.add_argument("--to", type=_day, dest="until", metavar="DAY", help="last day")
    verb.add_argument("--promoted-only", action="store_true", help="only versions in production speak")
    verb.add_argument("--picture", metavar="FILE", help="write the picture there too")
    _format(verb)


def _basis_points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points < 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of basis points from 0 to 10,000")
    return points


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2015-01-31") from None


def _deciding(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, what in (
        ("promote", "bring a version into production: what waits, else what was judged last, or --version"),
        ("reject", "turn a version down for good: what waits, else what was judged last, or --version"),
        ("rollback", "take production back to the version before it, or to --version"),
    ):
        verb = _verb(verbs, name, what, _call("decide", name))
        verb.set_defaults(verb_name=name)
        _cell(verb)
        verb.add_argument(
            "--version", metavar="N", help="the version meant: its number, or MODEL/N where two models have it"
        )
        verb.add_argument("--why", metavar="REASON", required=True, help="recorded with the decision and who took it")
        _format(verb)

    vault = _verb(verbs, "vault", "read the newest dates, once a release", _call("decide", "vault"))
    vault.add_argument("--why", metavar="REASON", required=True, help="recorded with the reading and who asked for it")
    _format(vault)


def _cell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbol", metavar="SYMBOL")
    parser.add_argument("regime", metavar="REGIME", help="all, trending, sideways, volatile or consolidation")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of versions from 1 on")
    return int(text)


def _reading(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    signals = _verb(verbs, "signals", "the newest signal of each symbol", _call("read", "signals"))
    signals.add_argument("--refresh", action="store_true", help="make them anew from the bars that are held first")
    _chosen(signals)
    metrics = _verb(verbs, "signals metrics", "how many signals say what", _call("read", "metrics"))
    _chosen(metrics)
    reasons = _verb(verbs, "signals explain", "why a signal says what it says", _call("explain", "signal"))
    reasons.add_argument("symbol", metavar="SYMBOL")
    _format(reasons)
    replay = _verb(
        verbs, "replay", "make past signals again from what was known then, and compare", _call("replay", "replay")
    )
    replay.add_argument("symbols", nargs="*", metavar="SYMBOL", help="default: every symbol that has a signal")
    replay.add_argument("--since", type=_day, metavar="DAY", help="of bars from this day on, such as 2015-01-31")
    replay.add_argument("--until", type=_day, metavar="DAY", help="and up to this one")
    _format(replay)
    status = _verb(
        verbs, "status", "a line a symbol: bars, features, models, signal, quarantine", _call("read", "status")
    )
    _symbols(status)
    _format(status)
    findings = _verb(verbs, "findings", "what cleaning and checks found: symbol, rule, day", _call("read", "findings"))
    _symbols(findings)
    _format(findings)
    _cache(verbs)
    models = _verb(verbs, "models", "every version of a model, with its state", _call("models", "models"))
    models.add_argument("symbol", nargs="?", metavar="SYMBOL", help="default: the whole universe")
    _format(models)
    explain = _verb(verbs, "models explain", "why a version is in production", _call("models", "explain"))
    _cell(explain)
    _format(explain)
    picture = _verb(
        verbs, "models picture", "calibration, confusion, importance and learning", _call("models", "picture")
    )
    _cell(picture)
    picture.add_argument("--version", metavar="N", help="default: the one in production, else the newest candidate")
    picture.add_argument("--to", metavar="FILE", help="default: MODEL-N.png in this folder")
    clean = _verb(verbs, "models clean", "delete old versions with their files", _call("models", "clean"))
    clean.add_argument("--keep", type=_count, metavar="N", help="newest versions to keep; default: the setting")
    clean.add_argument("--yes", action="store_true", help="delete; without it only what would be deleted is shown")
    _format(clean)
    performance = _verb(verbs, "performance", "how strategies did after costs", _call("performance", "performance"))
    performance.add_argument("--strategy", metavar="NAME", help="blend, view:NAME or kind:NAME; default: each of them")
    performance.add_argument("--window", metavar="DAYS", help="30, 90, 365 or all; default: all, in CSV and JSON each")
    performance.add_argument("--symbols", metavar="A,B", type=_listed, help="of these apart; default: of all together")
    instead = performance.add_mutually_exclusive_group()
    instead.add_argument("--trainings", action="store_true", help="the log of trainings instead")
    instead.add_argument("--calibration", action="store_true", help="how stated confidences held instead")
    _format(performance)
    promotions = _verb(verbs, "promotions", "every decision on models, and why", _call("models", "promotions"))
    promotions.add_argument("symbol", nargs="?", metavar="SYMBOL", help="default: the whole universe")
    _format(promotions)
    features = _verb(verbs, "features", "the columns of a model: formula, warm-up", _call("features", "features"))
    _format(features)
    profile = _verb(verbs, "profile", "return, risk, regimes and company of a symbol", _call("profile", "profile"))
    profile.add_argument("symbol", nargs="?", metavar="SYMBOL")
    profile.add_argument("--kind", choices=("statistical", "company", "patterns", "ml"), help="default: the first two")
    profile.add_argument("--fields", action="store_true", help="what the documents hold: type, unit, meaning")
    _format(profile)
    doctor = _verb(verbs, "doctor", "check settings, stores, versions and reachability", _call("doctor", "doctor"))
    _format(doctor)
    settings = _verb(verbs, "settings", "every setting: its value, default and meaning", _call("knobs", "settings"))
    _format(settings)


def _chosen(parser: argparse.ArgumentParser) -> None:
    """The options that choose among signals."""
    _symbols(parser)
    parser.add_argument(
        "--signal", metavar="A,B", type=_one_of(WORDS), dest="words", help=f"only these: {', '.join(WORDS)}"
    )
    parser.add_argument(
        "--min-confidence", type=_probability, metavar="P", help="only signals that are at least so sure"
    )
    parser.add_argument(
        "--risk", metavar="A,B", type=_one_of(RISKS), dest="risks", help=f"only these: {', '.join(RISKS)}"
    )
    parser.add_argument("--max-age", type=_hours, metavar="HOURS", help="only signals created within so many hours")
    _format(parser)


def _one_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def chosen(text: str) -> list[str]:
        words = [word.upper() for word in _listed(text)]
        if not words or not set(words) <= set(known):
            raise argparse.ArgumentTypeError(f"{text!r} names something else than {', '.join(known)}")
        return words

    return chosen


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability from 0 to 1")
    return value


def _cache(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    cache = verbs.add_parser("cache", help="what is kept for a while", description="What is kept for a while.")
    inner = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _format(_verb(inner, "status", "entries, age, hits, misses and size by namespace", _call("cache", "status")))
    _format(_verb(inner, "clear", "delete what has expired", _call("cache", "clear")))
    clean = _verb(inner, "clean", "delete what is old; the lake keeps every signal", _call("cache", "clean"))
    clean.add_argument("--older-than", type=_hours, default=24.0, metavar="HOURS", help="default: 24")
    _format(clean)


def _serving(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    ui = _verb(verbs, "ui", "serve the Dagster and MLflow pages with the daemon on loopback", _call("serve", "ui"))
    ui.add_argument("--port", type=int, default=3000, help="of the Dagster page; default: 3000")
    ui.add_argument("--mlflow-port", type=int, default=5000, help="default: 5000")


def _call(module: str, name: str) -> object:
    """The verb ``name`` of ``commands.module``, imported only when it is called."""

    def verb(settings: object, options: argparse.Namespace) -> object:
        from importlib import import_module

        return getattr(import_module(f"alpha_assets.commands.{module}"), name)(settings, options)

    return verb


if __name__ == "__main__":
    sys.exit(main())
