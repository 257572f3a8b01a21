import av
import numpy as np
import pytest

from expportrait.video.mark import COMPOSITE, TRAINED, moved, read_mark
from expportrait.video.write import write_mp4

from . import make


@pytest.mark.parametrize("target, driver", [("ann", "bob-2.x"), ("Ärzte & <Söhne>", "名前")])
def test_a_film_says_that_it_is_synthetic_and_of_what(tmp_path, target, driver):
    mark = moved(target, driver, generated=True)
    write_mp4(tmp_path / "v.mp4", make.numbered(5), 25, mark=mark)
    assert read_mark(tmp_path / "v.mp4") == mark
    assert mark.source_type == TRAINED and target in mark.words and driver in mark.words
    with av.open(str(tmp_path / "v.mp4")) as container:  # what ffprobe shows
        assert container.metadata["comment"] == mark.words
        assert TRAINED in container.metadata["description"]
        assert len([*container.decode(video=0)]) == 5


def test_what_was_not_generated_or_stands_beside_pictures_is_a_composite():
    assert moved("a", "b", generated=False).source_type == COMPOSITE
    assert moved("a", "b", generated=True, alone=False).source_type == COMPOSITE
    assert "preview" in moved("a", "b", generated=False).words
    assert "trained generator" in moved("a", "b", generated=True, alone=False).words


def test_a_repacked_film_is_still_marked(tmp_path):
    mark = moved("a", "b", generated=False)
    write_mp4(tmp_path / "v.mp4", make.numbered(5), 25, mark=mark)
    with av.open(str(tmp_path / "v.mp4")) as given, av.open(str(tmp_path / "w.mp4"), "w") as taken:
        stream = taken.add_stream_from_template(given.streams.video[0])
        taken.metadata.update(given.metadata)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                taken.mux(packet)
    assert read_mark(tmp_path / "w.mp4") == mark


def test_the_xmp_is_where_readers_look_for_it(tmp_path):
    write_mp4(tmp_path / "v.mp4", make.numbered(5), 25, mark=moved("a", "b", generated=False))
    data = (tmp_path / "v.mp4").read_bytes()
    at = data.rfind(bytes.fromhex("be7acfcb97a942e89c71999491e3afac"))
    assert data[at - 4 : at] == b"uuid" and int.from_bytes(data[at - 8 : at - 4]) == len(data) - at + 8
    import xml.etree.ElementTree as tree

    found = tree.fromstring(data[at + 16 :].decode()).iter(
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    )
    assert [one.text for one in found] == [COMPOSITE]


def test_films_without_a_mark_have_none(tmp_path):
    write_mp4(tmp_path / "v.mp4", np.zeros((3, 16, 16, 3), np.uint8), 25)
    assert read_mark(tmp_path / "v.mp4") is None
