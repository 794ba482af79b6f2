"""Whether stored evidence is evidence: what each prediction's fit had learnt ends before the prediction begins.

Nothing is computed anew here: the splits of today would only agree with themselves. A prediction is stored with the
instant until which its fit had learnt, and the calendar says when its bar was known.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from alpha_assets.quant.schema import TIME
from alpha_assets.quant.splits import overlapping
from alpha_assets.settings import Settings
from alpha_assets.stations.inspect import Verdict, findings_verdict
from alpha_assets.stations.series import calendars_of, with_known_at
from alpha_assets.stations.train import OUT_OF_FOLD
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger

LABEL_OVERLAP = "label_overlap"

#: The key of a model's predictions.
_OF_MODEL = ["symbol", "regime", "training_id"]


def overlap_verdict(lake: Lake, ledger: Ledger, settings: Settings, symbols: Sequence[str], now: datetime) -> Verdict:
    """The days on which an out-of-fold prediction of a model was made by a fit that had seen its window.

    Models are the present candidates, canaries and what is in production, which may be an older training.

    Looks at those of ``symbols`` and remembers what it finds; the verdict is over what is found and not cleared in the
    whole universe. The sentence counts what was looked at, and what does not say how far its fit had learnt.
    """
    rows = [row for cells in (ledger.candidates(), ledger.canaries(), ledger.production()) for row in cells.values()]
    models = [{name: row[name] for name in _OF_MODEL} for row in rows]
    present = pl.DataFrame(models, schema=dict.fromkeys(_OF_MODEL, pl.String()))
    columns = [*_OF_MODEL, "timestamp", "origin", "learnt_until"]
    said = (
        lake.read("predictions", symbols=symbols, columns=columns)
        .filter(pl.col("origin") == OUT_OF_FOLD)
        .join(present, on=_OF_MODEL, how="semi")
    )
    found = overlapping(with_known_at(said, settings, calendars_of(ledger)))
    days = found.select("symbol", rule=pl.lit(LABEL_OVERLAP), day=pl.col("timestamp").dt.date()).unique()
    found_on = days.with_columns(seen_at=pl.lit(now, TIME)).to_dicts()
    ledger.note_findings(dict.fromkeys(symbols), [LABEL_OVERLAP], found_on)
    verdict = findings_verdict(ledger, [LABEL_OVERLAP], "days were predicted by a fit that had seen their window")
    silent = said["learnt_until"].null_count()
    looked = f"{said.height - silent:,} predictions of {said['symbol'].n_unique()} symbols looked at"
    untold = f", {silent:,} do not say how far their fit had learnt" if silent else ""
    return replace(verdict, sentence=f"{verdict.sentence}; {looked}{untold}")
