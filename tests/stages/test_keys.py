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
    "geometry bob": "c52205ce2dac52178d0ebfb39577d261",
    "proxy bob": "ea7a2074a8437003867af2b3cd720d30",
    "control bob": "57986e76718c428632b2963058454ee5",
    "latents bob": "6c7ef92b6fabe3a80a7f2c4bceea4470",
    "transfer all": "814fd5f6fd5a4c497f765d7750c52006",
    "drive/targets bob": "d6fc6a6848ba9a62eb3c129042e1db84",
    "drive bob__bob": "564fc01ce1a6a74e8bb9f8dd9cb51c73",
    "drive bob__ann": "caf8aeea7162b99c663d605e8bd4b5c8",
    "generator all": "f15c687e6c4b870e7d8c8f7e3e823062",
    "reenact bob__bob": "b26bbc46c923c09689ab3e5fb5a8eef5",
    "reenact bob__ann": "f594432191877ba0bb056554b30242ed",
    "evaluate bob__bob": "e6c978d5b5f1577a58753179270df1f5",
    "evaluate bob__ann": "170c13c52c381e49db83126801cc8869",
}
OTHER_KEYS = {
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "geometry bob": "4e350a984641c7bf0e66d5970b27cefd",
    "proxy bob": "375cb185d6dbdd7dbe8947e223ff7c0d",
    "control bob": "44a7a986c30afdb189590717f78f6ef3",
    "transfer all": "18628dfc3c2b3459195d2fcb13695c81",
    "drive/targets bob": "962d8118821c733c4dad642c5baef317",
    "drive bob__ann": "1a83b726f215221649fa04f174130cb4",
    "generator all": "b72f840815cd1451ce3db88ad2cbc996",
    "reenact bob__ann": "9bc20949f27b6b1a05c79e08aba1c292",
    "evaluate bob__bob": "705c5de9f6f87744500a64069df088a2",
    "evaluate bob__ann": "72ea3051aca8472b78e22e9f3e657ab6",
}
CLIP_KEYS = {
    "drive bob__bob": "cfa98793746a706a26b7f3c8c7060516",
    "drive bob__ann": "ea2c4dc5b1c24cf78ca4aeae801e6bdb",
    "reenact bob__ann": "3a48c64d7b565d2b6a9de14fca60103a",
    "evaluate bob__ann": "85f1d8269d9a1c68c6a29dc1f00d4fe3",
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
