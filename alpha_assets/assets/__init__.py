"""The assets: thin, each a paragraph of read, compute, write, report."""

import warnings

import dagster as dg

# Dagster says at each asset that ``backfill_policy`` may change; one run a range rests on it, the lock file pins it.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy` of", category=dg.BetaWarning)
