"""Keys are for good: what was made stays good until a version, a setting, a row or a file changes."""

import pytest

from expportrait.engine.keys import Keys
from expportrait.estimators.geometry.versions import VERSIONS
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
    "geometry bob": "020f6bb9180999d801929238772936b0",
    "proxy bob": "4411d1228fb1b4a46397792e8bafcabc",
    "control bob": "a84357ee8f6a5f61d1f72ed487e4211e",
    "latents bob": "6c7ef92b6fabe3a80a7f2c4bceea4470",
    "transfer all": "533b52e33fd3e1a0f74ea4e54e154dc7",
    "drive/targets bob": "61e9d2cd25be57951e7a0ff17b6a2afe",
    "drive bob__bob": "67e9df9a8bf965d59b494dc7216e21ad",
    "drive bob__ann": "5c43c860b545b05df5955e4bffbcc7a6",
    "generator all": "10b2c00cc4a7ad150820e0009b5f9536",
    "reenact bob__bob": "5b3d386904e9309a5c4668c385f24f28",
    "reenact bob__ann": "40e0d4e36da25ecd3f8cbd655e1e07d4",
    "evaluate bob__bob": "afbfbdae55bdb4d32b70008b943b794c",
    "evaluate bob__ann": "909cf9f46f81bb607f635fa427c6bb19",
}
OTHER_KEYS = {
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "geometry bob": "c34030b0eb8171a427770f8a5b6b656f",
    "proxy bob": "81f52a0e264d500e4cd672e37a9175f2",
    "control bob": "bc66d13726ab806e76ed91e66c28dfff",
    "transfer all": "0e6aae81b11e8216fd187e29e68ec1e3",
    "drive/targets bob": "4422649a91cc5f3f8f82b0409e1ff6bb",
    "drive bob__ann": "249741eb75a4b8482f014940ff172c61",
    "generator all": "08fdc289faf7c5c76e66824b8e24ec30",
    "reenact bob__ann": "cb48c699d66c08cf4bc6dbf52f009cd1",
    "evaluate bob__bob": "32721bb1288aba4eb98345293e8fa4a2",
    "evaluate bob__ann": "a5d3fe57150ac2758f5fc3e424c23a8d",
}
CLIP_KEYS = {
    "drive bob__bob": "2214a7c4f152db59c1060cfb4ca16b26",
    "drive bob__ann": "290fde3a798ce373b0bf1d7e2837d5ef",
    "reenact bob__ann": "2d8c15e72e3c62da2117dc1148299783",
    "evaluate bob__ann": "64f332dd45e22efc9375c5b0d0a207d7",
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


# Keys of geometry's version 7, when the embedded estimator was at 4 and the others where they are
OF_ESTIMATORS = {
    "david": "b0c36fa97df3c149a02d11853e4bfdf3",
    "sapiens": "9a7317a78d5b9227ec26c5e347df7f66",
    "embedded": "24a9cc1158b3ff6ebb15d90ae947326d",
}


@pytest.mark.parametrize("name", OF_ESTIMATORS)
def test_a_new_version_of_an_estimator_concerns_what_it_made_alone(config, tmp_path, monkeypatch, name):
    """Stores of an estimator that has not changed stay good, and so does all that stands on them."""
    files = {part: f"{part}.onnx" for part in ("normals", "depth", "mask") if name != "embedded"}
    for part, file in files.items():
        (tmp_path / file).write_text(part)
    settings = config({"geometry": {"estimator": name} | files})

    def keys():
        cells = survey(settings).cells
        return cells["geometry"]["bob"].key, cells["proxy"]["bob"].key

    now = keys()
    assert (now[0] == OF_ESTIMATORS[name]) == (name != "embedded")
    monkeypatch.setitem(VERSIONS, "embedded", 4 if name != "embedded" else VERSIONS["embedded"] + 1)
    assert (keys() == now) == (name != "embedded")
    monkeypatch.setitem(VERSIONS, name, 99)
    assert not {*keys()} & {*now}


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
