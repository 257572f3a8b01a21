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
    "geometry bob": "24a9cc1158b3ff6ebb15d90ae947326d",
    "proxy bob": "7a66f74358f6d378440065983c7b98a2",
    "control bob": "6218b314233a8f668a1f217883becc86",
    "latents bob": "6c7ef92b6fabe3a80a7f2c4bceea4470",
    "transfer all": "0934b455a034b7dce627acd320eb05f7",
    "drive/targets bob": "15b8520446238b9c845b31d01f81f0d7",
    "drive bob__bob": "bb238dd794c534b7550d6abe7ee59d61",
    "drive bob__ann": "4e3685fc82e5807ccf847f5fb084a278",
    "generator all": "ae4ce0244351c6c814da5cb76df1d236",
    "reenact bob__bob": "ff237e0a0e2da03fe443baf32c5f19c5",
    "reenact bob__ann": "b34b796a1ed9e6c0e4019e080d9ab071",
    "evaluate bob__bob": "c40a6963f9cdd6cd34499f50e376a04a",
    "evaluate bob__ann": "a193675728cfb7977d404e0a5a5cf662",
}
OTHER_KEYS = {
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "geometry bob": "e312955dee7eac7a50d838a2bf32340f",
    "proxy bob": "acc54b077fe3c6395a0ddd2516ae97da",
    "control bob": "de2b3cfb5150f5183f8c522235bd3cfa",
    "transfer all": "88d52cb13fcecd9d389aef2d06fc21e1",
    "drive/targets bob": "b3b450143cfadf2548b3c32cf2e7b86b",
    "drive bob__ann": "a84ce95675c9d1d9d784ca3486db4fc1",
    "generator all": "ae2e8e50351974eb70723b255cd505d4",
    "reenact bob__ann": "0499980c563619b19f37feaa99a37b71",
    "evaluate bob__bob": "8c14330c2471c1103685c77daa54a7c6",
    "evaluate bob__ann": "a7e69510c89e27732f12be419b7fc9d7",
}
CLIP_KEYS = {
    "drive bob__bob": "16f4bc59c2eba508661b41e65c521f52",
    "drive bob__ann": "3d722a71be57c8e716f94b35b93ad664",
    "reenact bob__ann": "d66177b69d92a8d021d570632a6e8cec",
    "evaluate bob__ann": "905305e9d13fc0176c91b0c34731f61a",
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


OWN = {
    "reference": "3", "offsets": "copy", "pose": "relative", "anchor": "mean", "expression": "relative",
    "gaze": "camera", "hold": "pose", "smooth": "0.1", "gain_expression": "0.5", "gain_mouth": "0", "gain_eyes": "2",
    "gain_lids": "0", "max_move": "0.02", "gain_brows": "1.5", "gain_jaw": "0.8", "gain_gaze": "0", "gain_pose": "0.5",
}  # fmt: skip


@pytest.mark.parametrize("column", [*OWN, *([*OWN],)], ids=[*OWN, "all"])
def test_a_pairs_columns_give_the_keys_of_settings_that_say_so(config, tmp_path, column):
    names = [column] if isinstance(column, str) else column
    cells = {name: OWN[name] for name in names}
    said = {name: [value] if name == "hold" else value for name, value in cells.items()}
    (tmp_path / "pairs.csv").write_text("target,driver\nbob,ann\n")
    by_settings = survey(config({"drive": said}).model_copy(update={"pairs": tmp_path / "pairs.csv"})).cells
    table = tmp_path / "own.csv"
    table.write_text(
        f"target,driver,{','.join(cells)}\nbob,ann,{','.join(cells.values())}\nbob,bob,{',' * len(cells)}\n"
    )
    own = survey(config({}).model_copy(update={"pairs": table})).cells
    for stage in ("drive", "appearance", "reenact"):
        assert own[stage]["bob__ann"].key == by_settings[stage]["bob__ann"].key, stage
    assert own["drive"]["bob__bob"].key == DEFAULT_KEYS["drive bob__bob"] != own["drive"]["bob__ann"].key
    assert own["drive/targets"]["bob"].key == DEFAULT_KEYS["drive/targets bob"]
    if "reference" in names:
        assert own["drive/targets"]["bob@3"].key == by_settings["drive/targets"]["bob"].key


def test_the_clips_that_a_motion_is_from_are_in_its_key(config, tmp_path):
    lines = ["bob,ann,a,ann,", "bob,ann,b,cem,", "bob,ann,c,,cem", "bob,ann,d,cem,cem", "bob,ann,,,"]
    (tmp_path / "pairs.csv").write_text("\n".join(["target,driver,pair,pose_from,expression_from", *lines]))
    cells = survey(config({}).model_copy(update={"pairs": tmp_path / "pairs.csv"})).cells["drive"]
    assert len({cell.key for cell in cells.values()}) == 5 and cells["bob__ann"].key == DEFAULT_KEYS["drive bob__ann"]
