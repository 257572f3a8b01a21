"""fetch-weights: what it says without a network, and what it does with one, here a folder behind file: addresses."""

import hashlib
import zipfile
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from expportrait.cli import app
from expportrait.errors import UserError
from expportrait.settings import weights
from expportrait.settings.config import Config


def invoke(*arguments):
    result = CliRunner().invoke(app, ["fetch-weights", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture
def published(tmp_path, monkeypatch):
    """One set of two files: a plain one with a checksum and one inside a zip."""
    plain = tmp_path / "there" / "alexnet.pth"
    plain.parent.mkdir()
    plain.write_bytes(bytes(range(256)) * 9000)
    with zipfile.ZipFile(plain.with_name("pack.zip"), "w") as pack:
        pack.writestr("pack/face.onnx", b"face")
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    known = [
        weights.KnownFile("one", "evaluate.lpips_backbone", plain.as_uri(), "free", sha256=digest[:8]),
        weights.KnownFile("one", "evaluate.arcface", plain.with_name("pack.zip").as_uri(), "free", member="face.onnx"),
    ]
    monkeypatch.setattr(weights, "KNOWN", known)
    monkeypatch.setattr(weights, "SETS", ("one",))
    return known


def test_every_known_file_is_for_a_setting_that_there_is():
    for known in weights.KNOWN:
        section, name = known.key.split(".")
        assert name in type(getattr(Config(), section)).model_fields
        assert known.licence and known.url.startswith("https://")
    assert len({(known.set, known.key) for known in weights.KNOWN}) == len(weights.KNOWN)


def test_the_list_says_what_from_where_and_downloads_nothing(monkeypatch):
    monkeypatch.setattr(weights, "chunks", lambda url: pytest.fail("downloads"))
    text = invoke()
    for known in weights.KNOWN:
        assert known.url in text and known.key in text and known.licence in text
    only = invoke("lpips")
    assert "alexnet" in only and "david" not in only and "Nothing was downloaded" in only


def test_files_arrive_checked_and_are_not_fetched_twice(published, tmp_path, monkeypatch):
    text = invoke("one", "--yes", "--to", tmp_path / "here")
    assert (tmp_path / "here" / "alexnet.pth").read_bytes() == (tmp_path / "there" / "alexnet.pth").read_bytes()
    assert (tmp_path / "here" / "face.onnx").read_bytes() == b"face"
    assert f"set evaluate.arcface: {tmp_path / 'here' / 'face.onnx'}" in text
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == ["alexnet.pth", "face.onnx"]
    monkeypatch.setattr(weights, "chunks", lambda url: pytest.fail("downloads again"))
    assert invoke("one", "--yes", "--to", tmp_path / "here") == text


def test_what_is_not_what_was_published_is_refused(published, tmp_path):
    with pytest.raises(UserError, match=r"alexnet.pth is not what was published"):
        weights.download(replace(published[0], sha256="00000000"), tmp_path / "here")
    with pytest.raises(UserError, match=r"has no other.onnx, only pack/face.onnx"):
        weights.download(replace(published[1], member="other.onnx"), tmp_path / "here")
    with pytest.raises(UserError, match="gave no zip file"):
        weights.download(replace(published[0], member="other.onnx"), tmp_path / "here")


def test_what_cannot_be_reached_or_is_not_known_is_one_sentence(published, tmp_path):
    (tmp_path / "there" / "alexnet.pth").unlink()
    with pytest.raises(UserError, match=r"cannot be reached .*: download it on a machine with a network") as error:
        invoke("one", "--yes", "--to", tmp_path / "here")
    assert "\n" not in str(error.value) and not list((tmp_path / "here").iterdir())
    with pytest.raises(UserError, match="no set is called two, only one"):
        invoke("two")
    with pytest.raises(UserError, match="say which sets, of one"):
        invoke("--yes")


def test_a_setting_whose_file_is_missing_says_where_it_comes_from(tmp_path):
    config = Config(geometry={"normals": tmp_path / "normal-model-vitl16_384.onnx"})
    with pytest.raises(
        UserError, match=r"geometry.normals: .* does not exist; take normal-model-vitl16_384.onnx .*MIT"
    ):
        config.require("geometry")
