"""Who may import whom, read from the source of every module: quant knows nobody, definitions and commands know all.

A layer that imports upwards cannot be understood, tested or replaced by itself any more, and the import that
does it looks harmless in review; so it is a test.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alpha_assets

ROOT = Path(alpha_assets.__file__).parent

#: By layer, the layers it may import besides itself. A name is a folder or a module of the package.
MAY_IMPORT = {
    "quant": set(),
    "clock": set(),
    "settings": {"quant"},
    "sources": {"quant", "settings"},
    "stores": {"quant", "settings"},
    "stations": {"quant", "sources", "stores", "settings"},
    "reading": {"quant", "settings", "stores"},
    "partitions": {"quant"},
    "assets": {"quant", "sources", "stores", "settings", "stations", "clock", "partitions"},
    "checks": {"quant", "sources", "stores", "settings", "stations", "clock", "partitions", "assets"},
    "automation": {"quant", "sources", "stores", "settings", "stations", "clock", "partitions", "assets"},
}
#: These assemble and launch, and may know everything.
KNOW_EVERYTHING = {"definitions", "commands", "cli", "__init__"}

#: What the pure core may never reach: orchestration, registry, SQL, files and network.
IMPURE = {
    *("dagster", "mlflow", "sqlalchemy", "alembic", "deltalake", "pydantic_settings", "yfinance", "curl_cffi", "boto3"),
    *("requests", "urllib", "http", "socket", "ssl", "subprocess", "sqlite3", "os", "pathlib", "shutil", "tempfile"),
}

#: Commands that only read; they answer before Dagster would be imported.
READERS = {"read", "show", "trouble", "universe", "home", "doctor"}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def layer_of(path: Path) -> str:
    return name_of(path).split(".")[0]


def imports(path: Path, at_import_only: bool = False) -> Iterator[str]:
    """The dotted names a module imports, wherever in its source; or only those it imports when it is imported."""
    tree = ast.parse(path.read_text())
    for node in _at_import(tree) if at_import_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_import(child)


def of_the_package(path: Path) -> set[str]:
    """The layers of the package that a module imports, its own left out."""
    inner = (name.split(".") for name in imports(path) if name.split(".")[0] == "alpha_assets")
    return {parts[1] if len(parts) > 1 else "__init__" for parts in inner} - {layer_of(path)}


def foreign(path: Path, at_import_only: bool = False) -> set[str]:
    return {name.split(".")[0] for name in imports(path, at_import_only)}


def test_every_module_belongs_to_a_layer() -> None:
    strangers = {layer_of(path) for path in modules()} - set(MAY_IMPORT) - KNOW_EVERYTHING
    assert strangers == set(), "name the new layer here, and what it may import"


@pytest.mark.parametrize("path", [path for path in modules() if layer_of(path) in MAY_IMPORT], ids=name_of)
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    assert of_the_package(path) - MAY_IMPORT[layer_of(path)] == set()


@pytest.mark.parametrize("path", sorted((ROOT / "quant").glob("*.py")), ids=name_of)
def test_quant_reaches_no_orchestration_no_sql_no_file_and_no_network(path: Path) -> None:
    assert foreign(path) & IMPURE == set()


@pytest.mark.parametrize("layer", ["quant", "sources", "stores", "stations", "reading", "settings", "clock"])
def test_below_the_assets_nobody_imports_dagster(layer: str) -> None:
    guilty = [name_of(path) for path in modules() if layer_of(path) == layer and "dagster" in foreign(path)]
    assert guilty == []


def test_commands_that_read_import_no_dagster_and_no_frames_before_they_must() -> None:
    guilty = {
        name: heavy
        for name in READERS
        if (heavy := foreign(ROOT / "commands" / f"{name}.py", at_import_only=True) & {"dagster", "mlflow", "polars"})
    }
    assert guilty == {}


def test_the_wall_clock_is_read_in_one_place_by_the_line() -> None:
    """Stations, sources, quant and assets are told the time, so that a replay can tell them another."""
    guilty = [
        name_of(path)
        for path in modules()
        if layer_of(path) in ("quant", "stations", "assets", "checks", "automation")
        and any(call in path.read_text() for call in ("datetime.now(", "date.today(", "time.time("))
    ]
    assert guilty == []


HEAVY = ("dagster", "mlflow", "alembic", "polars")

FROM_PROGRAM = "from alpha_assets import signals; signals(); signals.metrics(words=['HOLD']); signals.explain('AAA')"
FROM_COMMAND = "from alpha_assets.cli import main; assert main(['signals', '--format', 'json']) == 0"


@pytest.mark.parametrize("reading", [FROM_PROGRAM, FROM_COMMAND], ids=["program", "command"])
def test_reading_signals_imports_nothing_heavy(reading: str, tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    from alpha_assets.settings import Settings
    from alpha_assets.stores.ledger import Ledger

    now = datetime.now(UTC)
    row = {"symbol": "AAA", "signal": "HOLD", "created_at": now, "expires_at": now + timedelta(hours=1)}
    Ledger(Settings(home=tmp_path, source="simulated")).put_signals([{**row, "reason": "none", "signal_id": "1"}])
    code = f"import json, sys; {reading}; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHA_", "DAGSTER_"))}
    environment |= {"ALPHA_HOME": str(tmp_path), "ALPHA_SOURCE": "simulated"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert reading is FROM_PROGRAM or "AAA" in done.stdout
