"""How the work is cut: by symbol, and by symbol and regime. Time stays inside the tables."""

import dagster as dg

from alpha_assets.quant.symbols import REGIMES

#: One partition is one symbol's whole series. Dagster names dynamic partitions instance-wide, hence the prefix.
SYMBOLS = "alpha_symbols"
symbols = dg.DynamicPartitionsDefinition(name=SYMBOLS)

symbol_regime = dg.MultiPartitionsDefinition(
    {"regime": dg.StaticPartitionsDefinition(list(REGIMES)), "symbol": symbols}
)

#: One run works on all its partitions at once: Dagster otherwise starts a run a partition.
ONE_RUN = dg.BackfillPolicy.single_run()
