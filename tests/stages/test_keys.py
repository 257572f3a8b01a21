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
    "geometry bob": "540be10090489d44950ff4cb94fe6a60",
    "proxy bob": "b186e0981fc509e53cdbc3bd79613ba8",
    "control bob": "bef4cac28299794ea06a940bed1229fb",
    "latents bob": "6c7ef92b6fabe3a80a7f2c4bceea4470",
    "transfer all": "bc5a0baeffc61527ac498cb81473c5f8",
    "drive/targets bob": "274683ffecdad759f0a31abb64f5c19c",
    "drive bob__bob": "89047b55050dafb95ba61005709c3b0e",
    "drive bob__ann": "06cf4875dcc9eadc6cd0ded49ea9d8e1",
    "generator all": "ba453f579f8c8ddaef23399e50fd31f1",
    "reenact bob__bob": "92a51dc46f517ef7a6adb6e1fd655624",
    "reenact bob__ann": "16c20e9c15965860ac1df93ff2a26243",
    "evaluate bob__bob": "d256d6f8dfdd8665e5e940bda50e6221",
    "evaluate bob__ann": "211074acb00256ac856f6ef9d141032b",
}
OTHER_KEYS = {
    "crop bob": "af101ba4d87a6f979229535a5f3cd5e0",
    "geometry bob": "4ae33e9c962b55a96732fd6f5f36b765",
    "proxy bob": "788fd82114bc120bfd3788b53f8d53ee",
    "control bob": "b658b1ad3d4bad08e889624c3ee9a5e6",
    "transfer all": "d8bfd3962326566b6a88632f3a9479ec",
    "drive/targets bob": "ac12412ff40da5bd3de7f32558710458",
    "drive bob__ann": "10ca92541ec079c103ae31d4d583c065",
    "generator all": "af4919e516764949c3b7cf650be46b55",
    "reenact bob__ann": "7603356b4239510e6154269d9ca363c4",
    "evaluate bob__bob": "6e1350601012c0d519147156ef0d55ca",
    "evaluate bob__ann": "df1bcf2642b0cc8b239536021b29b83e",
}
CLIP_KEYS = {
    "drive bob__bob": "6cab02fdf5a30e76462f37e357dffe21",
    "drive bob__ann": "6b734d09a9609869c63857cc0bfaf11e",
    "reenact bob__ann": "b2a1da27b9c3b4c86d1a4cee11d7110f",
    "evaluate bob__ann": "1dc687fe851530866d67749dfdbb44b6",
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
