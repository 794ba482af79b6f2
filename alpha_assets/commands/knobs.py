"""``alpha-assets settings``: every knob with its value, default and meaning."""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from alpha_assets.commands import show
from alpha_assets.settings import GROUPS, SECRETS, Settings

FIELDS = ("name", "value", "default", "meaning")

HIDDEN = "(set, not shown)"


def settings(settings: Settings, options: Namespace) -> None:
    """List every setting by the name of its variable; what is secret is not shown."""
    show.table(list(listed(settings)), FIELDS, options.format)


def listed(settings: Settings) -> Iterator[dict[str, Any]]:
    """A row a variable; each field of a group is one of its own."""
    values, defaults = settings.model_dump(mode="json"), Settings.model_construct().model_dump(mode="json")
    for field, info in Settings.model_fields.items():
        name, meaning = f"ALPHA_{field.upper()}", info.description
        if field in GROUPS:
            for inner, value in values[field].items():
                yield _row(f"{name}__{inner.upper()}", value, defaults[field][inner], meaning)
        elif field in SECRETS:
            yield _row(name, HIDDEN if values[field] else None, None, meaning)
        else:
            yield _row(name, values[field], defaults[field], meaning)


def _row(name: str, value: Any, default: Any, meaning: str | None) -> dict[str, Any]:
    return {"name": name, "value": value, "default": default, "meaning": meaning}
