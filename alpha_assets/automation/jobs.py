"""The jobs: what is launched over a range of symbols, or of (regime, symbol) cells."""

import dagster as dg

from alpha_assets.assets.features import features
from alpha_assets.assets.market import ohlcv
from alpha_assets.assets.models import candidate_model
from alpha_assets.assets.profiles import statistical_profiles
from alpha_assets.assets.promotion import promoted_model
from alpha_assets.assets.signals import signals

#: The assets each job runs, in order; run config names them.
REFRESH = ("ohlcv", "features", "statistical_profiles", "signals")
TRAIN = ("candidate_model", "promoted_model")
SIGNALS = ("signals",)

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(ohlcv, features, statistical_profiles, signals),
    description="Bars, features, profiles and signals of a range of symbols, in one run.",
)
train = dg.define_asset_job(
    "train",
    selection=dg.AssetSelection.assets(candidate_model, promoted_model),
    description="Candidates and the gate's decisions for a range of (regime, symbol) cells, in one run.",
)
# Not called «signals»: Dagster wants the names of jobs and assets distinct.
say_signals = dg.define_asset_job(
    "signals_only",
    selection=dg.AssetSelection.assets(signals),
    description="Signals alone, after a training changed what is promoted.",
)

# The checks alone, over the whole universe: a drift shows between two trainings, not in them.
look_for_drift = dg.define_asset_job(
    "look_for_drift",
    selection=dg.AssetSelection.checks(
        *(dg.AssetCheckKey(promoted_model.key, name) for name in ("features_undrifted", "loss_undrifted"))
    ),
    description="Whether the newest features still look like those that the models were trained on.",
)

JOBS = [refresh, train, say_signals, look_for_drift]
