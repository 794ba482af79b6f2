"""What a symbol may look like, and its form inside other names."""

import re

#: ``all`` is the per-symbol model over every bar: baseline, and fallback where a regime has no promoted model.
REGIMES = ("all", "trending", "sideways", "volatile", "consolidation")

_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.\-=^&_]{0,31}")


def well_formed(symbol: str) -> bool:
    """True for text that is safe as a partition key, in a range tag and in a path."""
    return _SYMBOL.fullmatch(symbol) is not None and "..." not in symbol


def slug(symbol: str) -> str:
    """The symbol as part of a name that MLflow, file systems and URLs all accept; distinct for distinct symbols."""
    return re.sub(r"[^A-Za-z0-9-]", lambda match: f"_{ord(match.group()):02x}", symbol)
