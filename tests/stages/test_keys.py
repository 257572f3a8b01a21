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
    "proxy bob": "b3d8b836226699d60dbfea04896e2fbf",
    "control bob": "191cf4b4adc2416a20fddb6c50cd7331",
    "latents bob": "6c7ef92b6fabe3a80a7f2c4bceea4470",
    "transfer all": "534d56023c7d6cbaf4752488cfd73a3c",
    "drive/targets bob": "722137a9f6d967324b09e95314592924",
    "drive bob__bob": "0a82b7e414e27db047cbc9f6cad391ab",
    "drive bob__ann": "82b93fa3bd7202b92047d83ff577e991",
    "generator all": "922873d2148632a6e0398203e303939e",
    "reenact bob__bob": "b90f5337190473061bf64fa191922972",
    "reenact bob__ann": "90f503769bd96ac109bfec63de81d8f4",
    "evaluate bob__bob": "a0adda6b7c3806a7acb5c709ef6998ec",
    "evaluate bob__ann": "6def161712806db2928d31ce98797907",
}
OTHER_KEYS = {
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "geometry bob": "4e350a984641c7bf0e66d5970b27cefd",
    "proxy bob": "41e81ca4b9d71b85d7ab5b3904a1505f",
    "control bob": "4d9d3f512c0d293c25f59055d84290b8",
    "transfer all": "2084b2078f5da66d43da45724d662382",
    "drive/targets bob": "bf632b6956afccbe3742f852d5ac270c",
    "drive bob__ann": "383bcb0ac814c87f56b6244ef34f1ef8",
    "generator all": "36928fc6340def461e071a55ee214007",
    "reenact bob__ann": "8ead2de4554bccb37cac9604c3d4979b",
    "evaluate bob__bob": "8d380eaa9e0ed9fa895fa0a3a5ecf0ba",
    "evaluate bob__ann": "53b4f04aee9e4b550f1862dd3ab1ed28",
}
CLIP_KEYS = {
    "drive bob__bob": "6e01f277e9fe0391530a753ec1435001",
    "drive bob__ann": "bc1f86c5e86d67a0441471ec17fbcded",
    "reenact bob__ann": "c7b37f3764176881de546a70316b1386",
    "evaluate bob__ann": "5f51f0c02bc9171846122345bacb4009",
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
