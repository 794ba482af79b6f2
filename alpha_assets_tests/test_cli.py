"""The command as a process: its help, its codes, its streams."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alpha_assets.commands import decide, doctor, knobs, line, models, read, replay, serve, universe
from alpha_assets_tests.commands.call import call

COMMAND = Path(sys.executable).with_name("alpha-assets")

#: Every verb, and of a verb that prints a table that it takes a format.
VERBS = {
    ("universe", "add"): False,
    ("universe", "list"): True,
    ("universe", "retire"): False,
    ("refresh",): True,
    ("train",): True,
    ("run",): False,
    ("demo",): False,
    ("backtest",): True,
    ("advance",): False,
    ("signals",): True,
    ("signals", "explain"): True,
    ("cache", "status"): True,
    ("cache", "clear"): True,
    ("cache", "clean"): True,
    ("replay",): True,
    ("status",): True,
    ("findings",): True,
    ("features",): True,
    ("models",): True,
    ("models", "explain"): True,
    ("models", "clean"): True,
    ("promotions",): True,
    ("performance",): True,
    ("promote",): True,
    ("reject",): True,
    ("rollback",): True,
    ("vault",): True,
    ("profile",): True,
    ("doctor",): True,
    ("settings",): True,
    ("ui",): False,
}


def process(arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A shell that calls the command as users do."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHA_", "DAGSTER_"))}
    environment = {**bare, "ALPHA_HOME": str(home), "PATH": f"{COMMAND.parent}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        ["bash", "-c", arguments], env=environment, cwd=home.parent, capture_output=True, text=True, check=False
    )


class TestHelp:
    def test_names_every_verb_and_the_disclaimer(self) -> None:
        said = call("--help")
        assert said.code == 0
        listed = set(re.findall(r"^ {4}([a-z]+)\b", said.out, re.MULTILINE))
        assert listed == {verb[0] for verb in VERBS}
        assert "not financial advice" in said.out

    @pytest.mark.parametrize("verb", VERBS, ids=" ".join)
    def test_of_a_verb_says_what_it_does_and_which_formats_it_has(self, verb: tuple[str, ...]) -> None:
        said = call(*verb, "--help")
        assert said.code == 0
        assert said.out.startswith(f"usage: alpha-assets {' '.join(verb)}")
        assert len(said.out.split("\n\n")[1]) > 10
        assert ("--format {table,csv,json}" in said.out) == VERBS[verb]

    def test_leads_only_to_verbs_that_are_there(self) -> None:
        for module, names in {
            universe: ("add", "show_members", "retire"),
            line: ("refresh", "train", "run", "demo", "advance"),
            read: ("signals", "status", "findings"),
            models: ("models", "explain", "clean", "promotions"),
            decide: ("promote", "reject", "rollback", "vault"),
            replay: ("replay",),
            doctor: ("doctor",),
            knobs: ("settings",),
            serve: ("ui",),
        }.items():
            assert all(callable(getattr(module, name)) for name in names)


class TestAProcess:
    def test_that_does_what_it_was_asked_ends_with_0_and_says_nothing_on_stderr(self, tmp_path: Path) -> None:
        ended = process("alpha-assets signals --format json", tmp_path / "home")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")

    def test_that_cannot_ends_with_1_and_the_reason_on_stderr(self, tmp_path: Path) -> None:
        ended = process("alpha-assets refresh", tmp_path / "home", ALPHA_SOURCE="yaho")
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith("alpha-assets: ALPHA_SOURCE='yaho' must be 'yahoo', 'files' or 'simulated'")
        assert len(ended.stderr.splitlines()) == 1

    @pytest.mark.parametrize("wrong", ["", "fly", "signals --format xml", "universe", "signals --max-age old"])
    def test_that_was_called_wrongly_ends_with_2_and_the_usage(self, wrong: str) -> None:
        said = call(*wrong.split())
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("usage: alpha-assets")

    def test_whose_reader_goes_away_does_not_complain(self, tmp_path: Path) -> None:
        ended = process("alpha-assets settings --format csv | true", tmp_path / "home")
        assert (ended.stdout, ended.stderr) == ("", "")

    def test_is_the_same_as_the_module(self, tmp_path: Path) -> None:
        ended = process(f"{sys.executable} -m alpha_assets.cli universe list --format json", tmp_path / "home")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")

    def test_reads_the_env_file_of_the_folder_it_is_called_in(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("ALPHA_INTERVAL=1x\n")
        ended = process("alpha-assets status", tmp_path / "home")
        assert ended.returncode == 1
        assert "ALPHA_INTERVAL='1x'" in ended.stderr
