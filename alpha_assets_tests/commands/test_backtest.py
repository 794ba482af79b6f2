"""The command ``backtest``: on a home that the line has been through, in every form, and as one would trade."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from alpha_assets.commands.backtest import print_brief
from alpha_assets.commands.launch import Line
from alpha_assets.settings import load
from alpha_assets.stations.trials import family
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.commands.call import Answer, call, home

pytestmark = pytest.mark.xdist_group("commands")


@pytest.fixture
def there(worked: tuple[Path, dict[str, Answer], dict[str, Answer]]) -> Iterator[Path]:
    with home(worked[0]) as folder:
        yield folder


def test_it_says_who_spoke_what_was_earned_and_that_past_results_guarantee_nothing(there: Path) -> None:
    answer = call("backtest", "--rule", "sign", "--picture", str(there / "backtest.png"))
    assert answer.code == 0, answer.err
    for word in ("every candidate, promoted or not", "break_even_bp", "years", "regimes", "costs", "guarantee nothing"):
        assert word in answer.out
    assert (there / "backtest.png").read_bytes()[:4] == b"\x89PNG"


def test_a_picture_that_has_no_place_is_refused_before_anything_is_looked_at(there: Path) -> None:
    def looks() -> int:
        settings = load()
        return len(Ledger(settings).trials(f"backtest|{family(settings, '*')}"))

    before = looks()
    for place, why in ((there / "none" / "a.png", f"there is no folder {there / 'none'}"), (there, "it is a folder")):
        answer = call("backtest", "--rule", "sign", "--sizing", "kelly", "--picture", str(place))
        assert answer.code == 1
        assert f"--picture {place} cannot be written: {why}" in answer.err
    assert looks() == before


@pytest.mark.usefixtures("there")
def test_the_forms_agree() -> None:
    whole = call("backtest", "--rule", "sign", "--format", "json").json
    (row,) = call("backtest", "--rule", "sign", "--format", "csv").csv
    assert float(row["sharpe"]) == whole["figures"]["sharpe"]
    assert row["run"] == whole["run"]
    assert float(row["universe_held_annual_return"]) == whole["benchmarks"]["universe"]["annual_return"]
    assert all(name.isidentifier() for name in row)
    told = call("backtest", "--rule", "sign").out
    assert "universe_held_annual_return" in told
    left_out, between = (whole["of"][name] for name in ("rows_apart_left_out", "bars_between"))
    sentence = f"{left_out} predictions beyond a pause of {between} bars left out; --from and --to choose others."
    assert sentence in told
    assert "series" not in whole


@pytest.mark.usefixtures("there")
def test_the_options_are_the_way_of_trading() -> None:
    plain = call("backtest", "--rule", "sign", "--format", "json").json
    free = call("backtest", "--rule", "sign", "--cost-bp", "0", "--format", "json").json
    assert (free["figures"]["costs"], plain["figures"]["costs"] > 0) == (0, True)
    long = call("backtest", "--rule", "sign", "--long-only", "--sizing", "volatility", "--format", "json").json
    assert long["figures"]["net_exposure"] == pytest.approx(long["figures"]["exposure"])
    assert long["parameters"]["sizing"] == "volatility"
    few = call("backtest", "--rule", "sign", "--symbols", "SIM01", "--regime", "all", "--from", "2022-01-03",
               "--to", "2022-12-30", "--format", "json").json  # fmt: skip
    assert few["universe"]["symbols"] == 1
    assert few["period"]["first"] >= "2022-01-03"
    assert few["period"]["last"] <= "2022-12-30"
    assert few["luck"]["trials"] > plain["luck"]["trials"]


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--symbols", "NOBODY"), "NOBODY: not in the universe"),
        (("--from", "2023-02-01", "--to", "2023-01-01"), "is after --to"),
        (("--from", "2050-01-01"), "it takes more than one bar, and what was said can be played from 20"),
        (("--cost-bp", "-1"), "no number of basis points"),
        (("--from", "yesterday"), "no day such as"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(options: tuple[str, ...], sentence: str) -> None:
    answer = call("backtest", *options)
    assert answer.code != 0
    assert sentence in answer.err


@pytest.mark.usefixtures("there")
def test_the_main_job_launches_the_asset_which_says_the_same_and_shows_the_picture(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = Line(load()).launch_whole("backtest_only", "backtest")
    assert said.pop("picture").startswith("![backtest](data:image/png;base64,")
    assert len(json.dumps(said)) < 2000
    (row,) = call("backtest", "--format", "csv").csv
    assert {name: str(said[name]) for name in ("first", "last", "rows", "sharpe", "trials")} == {
        name: row[name] for name in ("first", "last", "rows", "sharpe", "trials")
    }
    capsys.readouterr()
    print_brief(said)
    printed = capsys.readouterr().out
    assert printed.startswith(f"\nBacktest of every candidate, promoted or not, {said['first']} to {said['last']}")
    print_brief({"state": "empty", "reason": "there is nothing"})
    assert capsys.readouterr().out == "\nBacktest: none, there is nothing\n\n"
