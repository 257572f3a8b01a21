"""``show pair`` on a fabricated run."""

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from expportrait.cli import app
from expportrait.errors import UserError
from expportrait.show.pair import show_pair
from expportrait.show.panels import columns, grid
from expportrait.video.mark import moved, read_mark
from tests.report.fabricate import index_pairs, make_clip, make_pair, pair
from tests.video import talk

PAIR = pair("anna", "bob")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = tmp_path_factory.mktemp("run")
    for clip, frames in (("anna", 3), ("bob", 5)):
        make_clip(results, clip, frames=frames, stages=("crop", "control"))
    make_pair(results, "anna", "bob")
    index_pairs(results, {"pairs-0000": [PAIR]}, {})
    return results


def test_a_film_and_a_strip_of_a_pair(results, tmp_path):
    film, strip = show_pair(PAIR, results, tmp_path / "new", strip=4, size=64)
    with av.open(str(film)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (2 * 64, 3 * 64, 3)
    picture = np.asarray(Image.open(strip)).astype(float)
    assert picture.shape == (5 * 192, 5 * 192, 3)  # a row a panel, the reference before them
    driver, control, appearance, seen, generated = (picture[192 * k : 192 * (k + 1), 192:] for k in range(5))
    lower = slice(40, None)  # below the labels
    assert np.abs(appearance[lower] - driver[lower]).mean() < 4 and np.abs(seen[lower] - driver[lower]).mean() < 4
    assert np.abs(control[lower] - driver[lower]).mean() > 20 and np.abs(generated[lower] - driver[lower]).mean() > 8


def test_the_film_has_the_drivers_sound_and_is_marked(results, tmp_path):
    heard = PAIR._replace(place=talk.source(tmp_path / "bob.mp4", talk.even(25, 10), 2))
    film, _ = show_pair(heard, results, tmp_path, strip=2, size=64)
    seen = talk.look(film)
    assert seen.beep == pytest.approx(2 / 25, abs=0.01) and len(seen.times) == 5
    assert read_mark(film) == moved("anna", "bob", generated=True, alone=False)


def test_mistakes_end_in_one_sentence(results, tmp_path):
    with pytest.raises(UserError, match="has no drive of bob__anna"):
        show_pair(pair("bob", "anna"), results, tmp_path)
    manifest = tmp_path / "my.csv"
    manifest.write_text("clip,dataset,source,split\nanna,demo,a.mp4,test\nbob,demo,b.mp4,train\n", "utf-8")
    given = ["--manifest", str(manifest), "--results", str(results), "--pairs", "", "--settings", "{}"]
    done = CliRunner().invoke(app, ["show", "pair", "anna__carol", *given])
    assert done.exit_code != 0 and isinstance(done.exception, UserError) and "anna__carol" in str(done.exception)
    done = CliRunner().invoke(app, ["show", "pair", PAIR.clip, *given, "--out", str(tmp_path)])
    assert done.exit_code == 0 and "wrote" in done.output and (tmp_path / f"{PAIR.clip}.mp4").exists()


def test_panels_fill_a_grid():
    assert [columns(count) for count in range(1, 7)] == [1, 2, 3, 2, 3, 3]
    images = [np.full((2, 2, 3), 50 * k, np.uint8) for k in range(5)]
    made = grid(images)
    assert made.shape == (4, 6, 3) and made[::2, ::2, 0].tolist() == [[0, 50, 100], [150, 200, 24]]
