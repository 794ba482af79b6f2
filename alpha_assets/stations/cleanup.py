"""Old versions of models, taken away with their files; what may be needed again stays.

Kept are, of each registered name, the newest few, the best by the symbol's own TS-IC when it was judged, whatever has
an alias, and whatever the ledger may yet ask for: the candidates, canaries and versions held for a person, and every
version that a rollback may return to. Files go first and the version last, so that a clean-up that is killed is gone
on with by the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpha_assets.quant.lifecycle import STAGING, VersionKey, standing, version_of
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Held, Registry


@dataclass(frozen=True)
class Fate:
    """What becomes of a version, and why it stays where it does."""

    version: Held
    keep: str | None


def plan(ledger: Ledger, registry: Registry, keep: int) -> list[Fate]:
    """The fate of every version that this program has registered, by name and age."""
    held = registry.held()
    needed = _needed(ledger)
    best = _best(ledger)
    by_name: dict[str, list[Held]] = {}
    for version in held:
        by_name.setdefault(version.name, []).append(version)
    fates = []
    for name in sorted(by_name):
        versions = sorted(by_name[name], key=lambda version: int(version.number))
        newest = {version.number for version in versions[-keep:]}
        fates += [Fate(version, _why(version, newest, needed, best)) for version in versions]
    return _with_shared_files(fates)


def clean(ledger: Ledger, registry: Registry, keep: int) -> list[Fate]:
    """Delete what ``plan`` does not keep, with the files; what was deleted."""
    with registry.alone():
        gone = [fate for fate in plan(ledger, registry, keep) if fate.keep is None]
        for fate in gone:
            registry.delete(fate.version)
        return gone


def _why(
    version: Held, newest: set[str], needed: Mapping[VersionKey, str], best: Mapping[str, VersionKey]
) -> str | None:
    key = (version.name, version.number)
    if version.aliases:
        return f"alias {', '.join(sorted(version.aliases))}"
    if key in needed:
        return needed[key]
    if version.number in newest:
        return "among the newest"
    return "the best of its name" if best.get(version.name) == key else None


def _needed(ledger: Ledger) -> dict[VersionKey, str]:
    needed: dict[VersionKey, str] = {}
    for history in ledger.history().values():
        stands = standing(history)
        needed |= {key: "held for a person" for key, state in stands.states.items() if state == STAGING}
        for words, rows in (
            ("a rollback may return to it", stands.line[:-1]),
            ("canary", [stands.canary] if stands.canary else []),
            ("in production", stands.line[-1:]),
        ):
            needed |= {key: words for row in rows if (key := version_of(row))}
    candidates = (version_of(row) for row in ledger.candidates().values())
    return {key: "the newest candidate" for key in candidates if key} | needed


def _best(ledger: Ledger) -> dict[str, VersionKey]:
    """By name the version whose own TS-IC was the highest when the gate judged it."""
    found: dict[str, tuple[float, VersionKey]] = {}
    for row in ledger.decisions():
        key, ic = version_of(row), (row["evidence"].get("symbol") or {}).get("ic")
        if key is not None and ic is not None and ic > found.get(key[0], (float("-inf"), key))[0]:
            found[key[0]] = (ic, key)
    return {name: key for name, (_, key) in found.items()}


def _with_shared_files(fates: Sequence[Fate]) -> list[Fate]:
    """A version whose files another one that stays has too keeps its own: they are the same files."""
    kept = {fate.version.location for fate in fates if fate.keep is not None}
    return [
        Fate(fate.version, "another version has its files")
        if fate.keep is None and fate.version.location in kept
        else fate
        for fate in fates
    ]
