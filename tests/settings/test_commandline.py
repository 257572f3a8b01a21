"""Mistakes in Snakemake's --config, and names that Snakemake would fill in."""

from pathlib import Path

import pytest

from expportrait.errors import UserError
from expportrait.settings.commandline import check_command_line, check_paths, config_entries


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("-n all", []),
        ("--configfile a.yaml --conda-frontend mamba", []),
        ("--config a=1 b=2 -n", [["a=1", "b=2"]]),
        ("--config=aa=1 all", [["aa=1"]]),
        ("-C aa=1 --until crop", [["aa=1"]]),
        ("-Caa=1", [["aa=1"]]),
        ("-nC aa=1", [["aa=1"]]),
        ("--config a=1 -n --config b=2", [["a=1"], ["b=2"]]),
        ("--config", [[]]),
    ],
)
def test_entries_are_found_as_snakemake_finds_them(line, entries):
    assert config_entries(line.split()) == entries


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--config aa=1 --config bb=2", "there are 2 --config, and Snakemake would take the last one alone: write all"),
        ("--config proxy.batch=8", "--config proxy.batch=8: write it as 'proxy={batch: 8}'"),
        ("-n -C proxy.w_depth=1e-4", "--config proxy.w_depth=1e-4: write it as 'proxy={w_depth: 1e-4}'"),
        ("-C proxy.weights.depth=3", "--config proxy.weights.depth=3: write it as 'proxy={weights: {depth: 3}}'"),
        ("--config a.b.c=8", "'a.b.c' is not the name of a setting"),
        ("--config 1a=8", "'1a' is not the name of a setting"),
        ("--config =8", "'' is not the name of a setting"),
        ("--config results=r all", "--config takes all that follows it, and 'all' is no name=value: write targets and"),
    ],
)
def test_mistakes_are_one_sentence(line, said):
    with pytest.raises(UserError) as error:
        check_command_line(line.split())
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line", ["", "-n all", "--config manifest=my.csv results=a.b/c=d proxy={batch: 8}", "--config"]
)
def test_what_is_right_passes(line):
    check_command_line(line.split(maxsplit=3))


@pytest.mark.parametrize(("name", "found"), [("a{b}", "{b}"), ("x/{}/y", "{}"), ("<r>", "<r>")])
def test_names_that_snakemake_would_fill_in(name, found):
    with pytest.raises(UserError, match=r"head\.file is .* for a place to be filled in; give it another name") as error:
        check_paths({"results": Path("r"), "head.file": Path(name)})
    assert f"takes {found} for" in str(error.value)
    check_paths({"results": Path("a{b"), "head.file": Path("c>d<e")})
