"""Why a symbol's signal says what it says: views, reasons, features, calibration and models. Opens the ledger only."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from alpha_assets.commands import read, show
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.reading import signals
from alpha_assets.settings import Settings

VIEW_FIELDS = ("view", "score", "confidence", "side", "weight", "reasons")


def signal(settings: Settings, options: Namespace) -> None:
    """The newest signal of a symbol with everything that it rests on."""
    with read.trouble_told() as troubles:
        told = signals.explain(options.symbol, settings)
    if options.format == "json":
        show.record(told, "json")
        return
    if options.format == "table":
        print("\n".join(_sentences(told)) + "\n")
    show.table([_line(view, told) for view in told["views"]], VIEW_FIELDS, options.format, "no view was asked")
    if options.format == "table":
        if not told["fresh"]:
            print("not fresh" if troubles else "expired: alpha-assets refresh")
        print(DISCLAIMER)


def _sentences(told: Mapping[str, Any]) -> list[str]:
    sure = "" if told["confidence"] is None else f", which earns its costs in {told['confidence']:.1%} of such cases"
    when = f" {told['bar_time']:%Y-%m-%d %H:%M}".removesuffix(" 00:00") if told["bar_time"] else ""
    lines = [f"{told['symbol']}{when}: {told['signal']}{sure}.", f"Why: {told['reason']}."]
    if told["regime"]:
        lines.append(f"The bar's regime is {told['regime']}, the risk {told['risk'] or 'unknown'}.")
    if told["predicted_price"] is not None:
        lines.append(
            f"Price {told['price']:.4g}, expected at the end of the horizon {told['predicted_price']:.4g}, "
            f"between {told['price_low']:.4g} and {told['price_high']:.4g}."
        )
    lines += _models(told["views"])
    if told["top_features"]:
        named = ", ".join(map(_feature, told["top_features"]))
        lines.append(f"What moved the model's log-odds of up most: {named}.")
    if told["calibration"]:
        known = told["calibration"]["outcomes"]
        lines.append(f"Confidence is calibrated on {known:,.0f} outcomes known when the period began.")
    lines.append(f"{told['data_points'] or 0:,} bars are held of it.")
    return lines


def _models(views: Sequence[Mapping[str, Any]]) -> list[str]:
    details = [view["detail"] for view in views if view["detail"].get("model_name")]
    return [f"Model: {one['model_name']} version {one['model_version']}." for one in details]


def _feature(one: Mapping[str, Any]) -> str:
    value = "unknown" if one["value"] is None else f"{one['value']:.4g}"
    return f"{one['feature']} {value} ({one['contribution']:+.3f})"


def _line(view: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    side = "abstains" if view["abstained"] else {1: "up", -1: "down", 0: "neither"}[view["side"]]
    return {
        "view": view["name"],
        "score": view["score"],
        "confidence": view["confidence"],
        "side": side,
        "weight": told["weights"].get(view["name"]),
        "reasons": "; ".join(view["reasons"]),
    }
