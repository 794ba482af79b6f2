"""``alpha-assets features``: what the feature set of these settings holds."""

from argparse import Namespace

from alpha_assets.commands import show
from alpha_assets.settings import Settings

FIELDS = ("feature", "group", "formula", "source", "window", "warm_up", "memory", "version")


def features(settings: Settings, options: Namespace) -> int:
    """A row a column: its formula with source and window, the bars before it has a value, those an update reads."""
    from alpha_assets.stations.sets import recipe_of

    rows = [
        {
            "feature": feature.name,
            "group": feature.group,
            "formula": feature.doc,
            "source": feature.source,
            "window": feature.window,
            "warm_up": feature.warm_up,
            "memory": feature.memory,
            "version": feature.version,
        }
        for feature in recipe_of(settings).feature_set.features
    ]
    show.table(rows, FIELDS, options.format)
    if options.format == "table":
        chosen = settings.features
        print(f"set {chosen.set}, denoiser {chosen.denoiser}, benchmark {chosen.benchmark or 'none'}")
    return 0
