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
    "geometry bob": "617f08f7075ec9d7e9bf592d1ac27dd4",
    "proxy bob": "e2579fb23a96e6603428aedc44398be9",
    "control bob": "e5e1b9d2ea77b8d282cc764fae04d3c0",
    "latents bob": "6c7ef92b6fabe3a80a7f2c4bceea4470",
    "transfer all": "c0e091c7daf79051e7e9a3869dd82b2e",
    "drive/targets bob": "698035bbb92d1ff5a25d61b55722212d",
    "drive bob__bob": "f4cb19857c7f68fe904b98ec293b5bcc",
    "drive bob__ann": "f18c9ad81caa742bf24d0fb010dcbd97",
    "generator all": "7803fc936e0187966c7305ec450c1e33",
    "reenact bob__bob": "10c851a1a23ea4ee77d32f3d7a7a74c2",
    "reenact bob__ann": "4c439f7276a99f95cb19dc25d238c917",
    "evaluate bob__bob": "aecaef932e1132281ba24a0640b22cf9",
    "evaluate bob__ann": "de753c8301c2c62dad3b3a2bf00c8761",
}
OTHER_KEYS = {
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "geometry bob": "1fd4a0eaf371dd93004631e7bf5d51e2",
    "proxy bob": "20724193b6c5a7e785ad1a4aac1b663c",
    "control bob": "156d3e1b0721847aba9360f78fc31e66",
    "transfer all": "35673faa87700ba0a414cef56e5c0b29",
    "drive/targets bob": "e1bd86e2668588e2c3ab1da792de45ab",
    "drive bob__ann": "2973c3e04c7b771af7eda77cf81dd890",
    "generator all": "ea0b762b6694f61c15516e53e78b9ca4",
    "reenact bob__ann": "b0d3678c025183c8fe494edc22d24130",
    "evaluate bob__bob": "c3597f6f6ada1a93808e280a53f2bfa7",
    "evaluate bob__ann": "0806d6b9c533a8c1a046b8f6b02730a4",
}
CLIP_KEYS = {
    "drive bob__bob": "4a2d4f4c10e2aa7f891d36cdc291709a",
    "drive bob__ann": "f7f1ee2b5fc11ae292c191a0fb8022a2",
    "reenact bob__ann": "b0834f507d2d70acd56553a3795e7e67",
    "evaluate bob__ann": "6da4c179238e2f0c70a8305a5e989412",
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
