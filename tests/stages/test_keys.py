"""Keys are for good: what was made stays good until a version, a setting, a row or a file changes."""

import pytest

from expportrait.engine.keys import Keys
from expportrait.settings.files import read_config
from expportrait.stages import PIPELINE
from expportrait.status.survey import ALL, survey

MANIFEST = """\
clip,dataset,source,person,split,start,end,box,rev
ann,films,films/ann.mp4,ann,train,,,,
bob,films,films/bob.mp4,bob,test,1.5,4,10 20 300 310,2
cem,demo,data/cem.mp4,cem,val,,,,
"""
FILES = {"geometry": {"estimator": "embedded"}, "latents": {"codec": "linear"}}  # need no network's file
OTHER = {
    "head": {"file": "head.npz", "subdivisions": 0}, "proxy": {"batch": 5},
    "control": {"maps": ["depth"]}, "transfer": {"steps": 9, "save_every": 3},
    "drive": {"reference": 3, "offsets": "copy", "pose": "relative"},
    "generator": {"steps": 9, "batch": 2, "save_every": 3, "keep": 7}, "reenact": {"seed": 4},
    "evaluate": {"tracker": "smirk", "tracks": "tracks", "stride": 2},
}  # fmt: skip
# Today's settings and versions. Who bumps a version replaces the keys of that stage and of all that follow it.
DEFAULT_KEYS = {
    "crop ann": "33a27b30ac5b1f4d91a68d2fc02d7aa9",
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "landmarks bob": "1d4c8eef91a8d6397ed96c8dc105eded",
    "geometry bob": "06eaf45e7ee67b2406ffbc2bb1af09ed",
    "proxy bob": "a627db36575b210754daad513ac4d568",
    "control bob": "7f69e9056a6ec6ea95c5e437a5818a99",
    "latents bob": "6c7ef92b6fabe3a80a7f2c4bceea4470",
    "transfer all": "08800c679ffb62cfdb4ebf51ece8cef3",
    "drive/targets bob": "86e12daab3b6427fd83a26f67c8308d3",
    "drive bob__bob": "1759ec3385d712344a16cff0bb269505",
    "drive bob__ann": "5025c6685089a4d5ce82472a0655ffd9",
    "generator all": "89090dd0092a6845e4b77b2bfea0bb66",
    "reenact bob__bob": "e82c4bd2608a3b4278d9ea6cbdab9269",
    "reenact bob__ann": "e588a22d1964cfa8591bfeb4d20a6f8b",
    "evaluate bob__bob": "f9b1216fce2f2db9a4ad337b2ded0ed2",
    "evaluate bob__ann": "dadf00b9af364992614dba865b637a7f",
}
OTHER_KEYS = {
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "geometry bob": "9548483bd8db303f278ad2902dc5a051",
    "proxy bob": "f07052f3fd7523db78db956630e68f77",
    "control bob": "22008a49236ce0829920e48c2052df0b",
    "transfer all": "b29382758d56ff571b807f58f62f8e6d",
    "drive/targets bob": "132fae8f789e39a5ee9ee22edd086ce0",
    "drive bob__ann": "7f80548d6be6bab04b7497f359d4d036",
    "generator all": "89ac6261faf6f34e34b5081ef7970d25",
    "reenact bob__ann": "e94dda703ee41460ca9df30ed31b82e3",
    "evaluate bob__bob": "ed91d02bafd773189c7c6c9fc61ac93d",
    "evaluate bob__ann": "259ed1e280000625a1fc09472637bd8f",
}
CLIP_KEYS = {
    "drive bob__bob": "062ca974d4e5979dc19d9756a57bb9ff",
    "drive bob__ann": "ec46fef582e8b88acad9d235971243f7",
    "reenact bob__ann": "fa863e7ee731475bc0799abd8c7b20d9",
    "evaluate bob__ann": "e3a88741186604f76c39c9a0113832d0",
}
FROM_CLIP = {"drive": {"target_proxy": "clip", "reference": 2}}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Makes settings of a manifest of three clips, with the files that they may name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text(MANIFEST)
    (tmp_path / "head.npz").write_text("a head")
    (tmp_path / "tracks").mkdir()
    for name in ("ann", "bob", "bob__bob", "bob__ann"):
        (tmp_path / "tracks" / f"{name}.npz").write_text(name)

    def made(choice):
        given = {name: FILES.get(name, {}) | choice.get(name, {}) for name in {**FILES, **choice}}
        return read_config(("test", given | {"manifest": "m.csv", "results": "results"}))

    return made


@pytest.mark.parametrize(
    ("choice", "known"),
    [({}, DEFAULT_KEYS), (OTHER, OTHER_KEYS), (FROM_CLIP, CLIP_KEYS)],
    ids=["default", "other", "from the clip"],
)
def test_keys_are_those_that_were_first_made(config, choice, known):
    cells = survey(config(choice)).cells
    keys = {f"{stage} {'all' if member == ALL else member}": cell.key
            for stage, of in cells.items() for member, cell in of.items()}  # fmt: skip
    assert {name: keys[name] for name in known} == known
    assert ("drive/targets" in cells) == (choice is not FROM_CLIP)


def test_the_former_tracker_enters_keys_as_it_did(config):
    """Before blendshapes were the default, ``own`` was, and left out."""
    own, now = (
        Keys(PIPELINE["evaluate"], config(choice)).settings() for choice in ({"evaluate": {"tracker": "own"}}, {})
    )
    assert own == {"evaluate": {}} and now == {"evaluate": {"tracker": "blendshapes"}}
