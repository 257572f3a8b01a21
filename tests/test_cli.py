import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from expportrait import __version__, cli
from expportrait.engine.stage import Stage
from expportrait.errors import ClipError, MachineFault
from expportrait.manifest.clips import Row, shards
from expportrait.stages import PIPELINE, STAGES


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with a manifest of three clips, and a stage of no weight behind every command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_manifest.csv").write_text("clip,dataset,source\na,d,a.mp4\nb,d,b.mp4\nc,e,c.mp4\n")
    done = []

    def process(clip, out):
        done.append((clip.row.clip, clip.settings.crop.scale, clip.device, clip.backend))
        if clip.row.source == "reject":
            raise ClipError("no face")
        out.array("x", np.ones(3))

    stage = Stage("crop", 1, ("crop",), (), process)
    monkeypatch.setitem(PIPELINE, "crop", stage)
    return SimpleNamespace(path=tmp_path, done=done)


def run(*arguments):
    """The exit status of the command, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["expportrait", *arguments])
        patch.setattr(cli.signal, "signal", lambda *_: None)
        try:
            cli.main()
        except SystemExit as end:
            return end.code
    return 0


def test_all_clips_one_index_a_shard(here):
    assert run("crop") in (0, None)
    assert [clip for clip, *_ in here.done] == ["a", "b", "c"]
    assert sorted(file.name for file in (here.path / "results/crop").glob("*.json")) == ["d-0000.json", "e-0000.json"]
    assert [*json.loads((here.path / "results/crop/d-0000.json").read_text())] == ["a", "b"]


def test_one_shard(here):
    run("crop", "--shard", "e-0000", "--results", "elsewhere")
    assert [clip for clip, *_ in here.done] == ["c"]
    assert (here.path / "elsewhere/crop/e-0000.json").exists()


def test_the_number_of_shards_is_part_of_a_shards_name(here):
    (last,) = shards([Row("a", "d", "a.mp4", None)], {"d": 50})
    assert run("crop", "--shard", last, "--shards", "50") in (0, None)
    assert [clip for clip, *_ in here.done] == ["a"]
    assert f"no shard '{last}'" in run("crop", "--shard", last)


def test_single_clips_make_no_index_but_keep_one_up_to_date(here):
    index = here.path / "results/crop/d-0000.json"
    run("crop", "--clip", "a", "--clip", "c")
    assert [clip for clip, *_ in here.done] == ["a", "c"]
    assert not index.exists(), "an index with some of the shard's clips would pass for the whole"
    run("crop")
    before = json.loads(index.read_text())
    run("crop", "--clip", "a", "--set", "crop.scale=3")
    after = json.loads(index.read_text())
    assert after["a"] != before["a"] and after["b"] == before["b"]


def scale(here, *arguments):
    here.done.clear()
    assert run("crop", "--clip", "a", *arguments) in (0, None)
    return here.done[0][1]


def test_where_settings_come_from(here):
    (here.path / "config.yaml").write_text("crop: {scale: 2.5}")
    assert scale(here) == 2.5
    (here.path / "data_manifest.yaml").write_text("crop: {scale: 2.6}")
    assert scale(here) == 2.6
    (here.path / "all.yaml").write_text("crop: {scale: 2.7}")
    assert scale(here, "--settings", "all.yaml") == 2.7
    assert scale(here, "--settings", '{"crop":{"scale":2.8}}') == 2.8
    assert scale(here, "--set", "crop.scale=2.9") == 2.9
    (here.path / "my.csv").write_text((here.path / "data_manifest.csv").read_text())
    assert scale(here, "--manifest", "my.csv", "--results", "r") == 2.5
    (here.path / "my.yaml").write_text("crop: {scale: 3.1}")
    assert scale(here, "--manifest", "my.csv", "--results", "r") == 3.1


def test_settings_given_in_full_replace_the_files(here):
    (here.path / "config.yaml").write_text("crop: {scale: 2.5}")
    assert scale(here, "--settings", "{}") == cli.Config().crop.scale


def test_device_and_backend_are_passed_on(here, monkeypatch):
    run("crop", "--clip", "a", "--device", "cpu", "--backend", "torch")
    assert here.done[0][2:] == ("cpu", "torch")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--manifest", "none.csv"], "the manifest none.csv cannot be read"),
        (["--clip", "aa"], "has no clip 'aa'; did you mean 'a'?"),
        (["--shard", "d-0001"], "has no shard 'd-0001'; did you mean 'd-0000'?"),
        (["--shards", "3"], "--shards: say which shard is meant"),
        (["--set", "crop.scale"], "--set crop.scale: write it as section.setting=value"),
        (["--set", "scale=3"], "--set scale=3: write it as section.setting=value"),
        (["--set", "crop.scael=3"], "--set: there is no setting crop.scael; did you mean crop.scale?"),
        (["--set", "crop.scale=[3"], "--set crop.scale: not valid JSON or YAML"),
        (["--settings", "none.yaml"], "none.yaml does not exist"),
        (["--settings", "{crop: {scale: 0}}"], "--settings: crop.scale is 0"),
        (["--device", "gpu"], "--device gpu: cpu, cuda or auto is expected"),
    ],
)
def test_mistakes_are_one_sentence_and_status_1(here, arguments, said):
    status = run("crop", *arguments)
    assert isinstance(status, str) and status.startswith("expportrait: ")
    assert said in status and "\n" not in status


def test_a_fault_of_the_machine_is_status_3(here, monkeypatch, capsys):
    def fail(device):
        raise MachineFault("--device cuda: there is no usable GPU on this machine")

    monkeypatch.setattr(cli, "choose_device", fail)
    assert run("crop") == 3
    assert capsys.readouterr().err == "expportrait: --device cuda: there is no usable GPU on this machine\n"


def test_a_rejected_clip_is_no_failure_of_the_command(here):
    (here.path / "data_manifest.csv").write_text("clip,dataset,source\na,d,reject\nb,d,b.mp4\n")
    assert run("crop") in (0, None)
    assert json.loads((here.path / "results/crop/d-0000.json").read_text())["a"]["why"] == "no face"


def command(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-m", "expportrait", *arguments], capture_output=True, text=True, cwd=cwd)


def test_version_and_help_are_quick_and_plain():
    assert command("--version").stdout == f"expportrait {__version__}\n"
    text = command("--help").stdout
    assert all(f" {stage} " in text for stage in STAGES)
    heavy = "{'torch', 'mediapipe', 'zarr', 'cv2', 'scipy'}"
    loaded = f"import sys, expportrait.cli; sys.exit(bool({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", loaded]).returncode == 0, "heavy imports belong into the commands"


def test_the_commands_of_heads_are_there_whatever_was_asked_for():
    names = {command.callback.__name__ for command in cli.head.registered_commands}
    assert names == {"info", "check", "export", "bust", "convert"}


@pytest.mark.parametrize("stage", STAGES)
def test_every_command_explains_itself(stage):
    done = command(stage, "--help")
    assert done.returncode == 0
    assert "--manifest" in done.stdout and "--set" in done.stdout and "default" in done.stdout


def test_no_traceback_for_a_mistake(tmp_path):
    done = command("crop", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "expportrait: the manifest data_manifest.csv cannot be read: No such file or directory\n"
