"""``expportrait doctor``: what it sees, what counts as missing, and that nothing makes it stumble."""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from expportrait.doctor import asked, places
from expportrait.doctor.command import doctor
from expportrait.doctor.finding import findings, size
from expportrait.errors import UserError
from expportrait.settings import known_files

NO_FILES = {"geometry": {"estimator": "embedded"}, "latents": {"codec": "linear"}}
PARTS = {"software", "machine", "results", "temporary files", "files", "data"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a manifest, settings that need no files, and no wishes in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("EXPPORTRAIT_DEVICE", "EXPPORTRAIT_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data_manifest.csv").write_text("clip,dataset,source,split\na,d,a.mp4,test\nb,d,b.mp4,\n")
    (tmp_path / "config.yaml").write_text(json.dumps(NO_FILES))
    (tmp_path / "a.mp4").touch()
    return tmp_path


@pytest.fixture
def look(here, capsys):
    """(findings by part and name, the sentence at the end) of a call with these options."""

    def call(**options):
        try:
            doctor(as_json=True, **options)
            end = ""
        except UserError as error:
            end = str(error)
        told = json.loads(capsys.readouterr().out)
        found = {(one["part"], one["name"]): one for one in told["findings"]}
        assert told["ok"] == (not end) == (not any(one["missing"] for one in found.values()))
        return {where: one["says"] for where, one in found.items()}, end

    return call


def test_everything_is_looked_at_and_nothing_is_left_behind(look, here):
    before = {*here.rglob("*")}
    found, end = look()
    assert end == "" and {part for part, _ in found} == PARTS
    assert found["software", "python"].startswith("3.1") and found["software", "torch"].startswith(torch.__version__)
    assert "core" in found["machine", "processor"] and "free" in found["machine", "memory"]
    assert "packs H.264 by libx264" in found["machine", "video"]
    assert found["results", "folder"] == f"results, not there yet; looked at {here}"
    assert found["results", "writing"] == "files are written, renamed and locked"
    assert "evaluate.arcface" in found["files", "settings without one"]
    assert found["data", "manifest"].startswith("data_manifest.csv: 2 clips (d 2); 1 sources are not there, such as b")
    assert found["data", "pairs"] == "by default: 2 pairs"
    assert not any("cannot be found out" in says for says in found.values())
    assert {*here.rglob("*")} == before


def test_the_page_is_the_same_as_text_and_marks_what_is_missing(here, capsys):
    with pytest.raises(UserError, match=r"^missing: files head\.file$"):
        doctor(sets=["head.file=none.npz"])
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line and line[0] not in " !"] == [
        "software", "machine", "results", "temporary files", "files", "data"]  # fmt: skip
    marked = [line.split()[1:3] for line in text.splitlines() if line.startswith("!")]
    assert marked == [["head.file", "none.npz"]]


@pytest.mark.parametrize(
    ("sets", "missing", "said"),
    [
        (["geometry.estimator=david"], "files geometry", "geometry.normals is empty: take normal-model-vitb16_384"),
        (["landmarks.detector=sapiens"], "files landmarks", "landmarks.model is empty: take sapiens"),
        (["latents.codec=wan"], "files latents", "give the file of Wan's VAE weights"),
        (["evaluate.tracker=smirk"], "files evaluate", "evaluate.tracker is smirk, but evaluate.tracks is empty"),
        (["evaluate.arcface=w600k_r50.onnx"], "files evaluate.arcface", "does not exist; take w600k_r50.onnx (licence"),
        (["generator.attention=flash"], "software flash-attn", "generator.attention is flash, and it is not installed"),
    ],
)
def test_what_the_settings_ask_for_is_named_where_it_is_missing(look, sets, missing, said):
    found, end = look(sets=sets)
    assert end == f"missing: {missing}"
    part, _, name = missing.partition(" ")
    assert said in found[part, name]


def test_files_of_networks_are_compared_with_what_was_published(look, here, monkeypatch):
    content = b"AlexNet"
    known = known_files.KnownFile("lpips", "evaluate.lpips_backbone", "https://there/alexnet.pth", "BSD",
                                  sha256=hashlib.sha256(content).hexdigest()[:8])  # fmt: skip
    sized = known_files.KnownFile("david", "geometry.normals", "https://there/normals.onnx", "MIT", megabytes=2.0)
    monkeypatch.setattr(asked, "KNOWN", [known, sized])
    for name, data in (("alexnet.pth", content), ("other.pth", b"x"), ("normals.onnx", bytes(2_004_000))):
        (here / name).write_bytes(data)

    def says(setting, name):
        found, end = look(sets=[f"{setting}={name}"])
        return found["files", setting], end

    text, end = says("evaluate.lpips_backbone", "alexnet.pth")
    assert end == "" and f"alexnet.pth, 7 bytes, sha256 {hashlib.sha256(content).hexdigest()}; right by its sha" in text
    assert "AlexNet's weights" in text, "what it is for"
    assert "your own: there is nothing to compare" in says("evaluate.lpips_backbone", "other.pth")[0]
    assert "right by its size" in says("geometry.normals", "normals.onnx")[0]
    (here / "alexnet.pth").write_bytes(b"AlexNeT")
    text, end = says("evaluate.lpips_backbone", "alexnet.pth")
    assert "not what was published: that one's sha256 begins with" in text and "evaluate.lpips_backbone" in end
    (here / "normals.onnx").write_bytes(bytes(1_900_000))
    text, end = says("geometry.normals", "normals.onnx")
    assert "not what was published: that one has 2 MB" in text and end == "missing: files geometry.normals"


def test_an_index_of_weights_needs_the_files_that_it_lists(look, here):
    index = here / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    (here / "1.safetensors").touch()
    found, end = look(sets=[f"generator.base={index}"])
    assert (
        end == "missing: files generator.base"
        and "2.safetensors, which is not there" in found["files", "generator.base"]
    )
    (here / "2.safetensors").touch()
    assert look(sets=[f"generator.base={index}"])[1] == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_why_and_minds_only_where_one_is_asked_for(look, monkeypatch):
    found, end = look()
    assert found["machine", "GPU"].startswith("none usable: ") and end == ""
    if torch.version.cuda is None:
        assert "is built for processors only" in found["machine", "GPU"]
    monkeypatch.setenv("EXPPORTRAIT_DEVICE", "cuda")
    monkeypatch.setenv("EXPPORTRAIT_BACKEND", "nvdiffrast")
    assert look()[1] == "missing: machine GPU, machine nvdiffrast"


def test_settings_manifest_and_pairs_that_cannot_be_read_are_lines_too(look, here):
    found, end = look(sets=["crop.scale=big"])
    assert end == "missing: settings settings" and "crop.scale is 'big'" in found["settings", "settings"]
    assert ("machine", "memory") in found and ("files", "settings without one") not in found
    (here / "data_manifest.csv").write_text("clip,dataset\n")
    found, end = look()
    assert end == "missing: data manifest, data pairs" and "no column" in found["data", "manifest"]


def test_results_that_cannot_be_written_are_missing(look, here):
    (here / "file").touch()
    found, end = look(results=here / "file")
    assert "is a file, not a folder" in found["results", "folder"] and "results folder" in end
    found, end = look(results=Path("/proc/none"))
    assert found["results", "writing"].startswith("/proc cannot be written: ") and end == "missing: results writing"


def test_a_temporary_folder_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    found = {(one.part, one.name): one for one in places.places(tmp_path)}
    folder, room = (found["temporary files", name] for name in ("folder", "room"))
    assert folder.missing and folder.says.startswith("none can be written (No such file") and "TMPDIR" in folder.says
    assert room.says.startswith("cannot be found out: FileNotFoundError")


MOUNTS = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 / /data rw - nfs4 server:/export rw
31 30 0:41 / /data/fast\040disk rw - xfs /dev/nvme0n1 rw
32 22 0:42 / /scratch rw - lustre 10.0.0.1@tcp:/work rw
33 22 0:43 / /home rw - fuse.sshfs me@there: rw
34 22 0:44 / /databank rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/usr/lib", "ext4 (/dev/sda1), of this machine alone"),
        ("/data/run1", "nfs4 (server:/export), shared with other machines"),
        ("/data/fast disk/run1", "xfs (/dev/nvme0n1), of this machine alone"),
        ("/scratch", "lustre (10.0.0.1@tcp:/work), shared with other machines"),
        ("/home/me", "fuse.sshfs (me@there:), shared with other machines"),
        ("/databank", "tmpfs (tmpfs), of this machine alone"),
    ],
)
def test_file_systems_that_other_machines_see_are_told_apart(folder, said):
    assert places.file_system(Path(folder), MOUNTS.strip()) == said


def test_what_cannot_be_found_out_is_said_and_the_rest_goes_on():
    def fails():
        raise RuntimeError("the driver\nis angry")

    found = [*findings("machine", [("GPU", fails), ("silent", lambda: 1 / 0), ("memory", lambda: ("none", True))])]
    assert [(one.name, one.says, one.missing) for one in found] == [
        ("GPU", "cannot be found out: RuntimeError: the driver", False),
        ("silent", "cannot be found out: ZeroDivisionError: division by zero", False),
        ("memory", "none", True),
    ]


def test_sizes():
    assert [size(n) for n in (12, 2048, 428_420_000, 1.5e12)] == ["12 bytes", "2.05 kB", "428 MB", "1.5 TB"]


def test_the_command_ends_with_1_and_without_a_traceback(here):
    command = [sys.executable, "-m", "expportrait", "doctor", "--set"]
    good = subprocess.run([*command, "crop.scale=2.5"], capture_output=True, text=True)
    assert good.returncode == 0 and good.stderr == "" and "software" in good.stdout
    bad = subprocess.run([*command, "latents.codec=wan"], capture_output=True, text=True)
    assert (bad.returncode, bad.stderr) == (1, "expportrait: missing: files latents\n")
