"""The documentation's pictures of heads and of the second half, from a finished demo.

``python benchmarks/demo_pictures.py RESULTS [--out docs/images]`` writes proxy.jpg, latents.jpg, carry.jpg,
appearance.jpg, generator.png, reenact.jpg, and with ``--animate`` animate.jpg and animate_whole.jpg too, for which it
runs the README's lines, on the demo's clips and on the whole public-domain pictures.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from expportrait.demo.portrait import SOURCES
from expportrait.generator.codec import LinearCodec, resize, to_tensor
from expportrait.render.picture import normals_to_rgb, shade_image
from expportrait.show import panels
from expportrait.store import Store
from expportrait.video.reader import open_source

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIDE = 256
PAIRS = ("hopper-talk__hopper-talk", "astronaut-smile__astronaut-smile", "hopper-talk__astronaut-smile",
         "astronaut-smile__hopper-talk")  # fmt: skip


def side(image: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE, 3) u8."""
    way = cv2.INTER_AREA if len(image) >= SIDE else cv2.INTER_CUBIC
    return image if len(image) == SIDE else cv2.resize(image, (SIDE, SIDE), interpolation=way)


def decoded(codec: LinearCodec, latents: np.ndarray) -> np.ndarray:
    """Latents (C, t, h, w) as frames (T, S, S, 3) u8."""
    video = codec.decode(torch.from_numpy(latents.astype(np.float32))[None])[0].permute(1, 2, 3, 0)
    return ((video + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def written(path: Path, rows: list[list[np.ndarray]]) -> None:
    picture = np.vstack([np.hstack([side(image) for image in row]) for row in rows])
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


def proxy_picture(results: Path) -> list[list[np.ndarray]]:
    """A frame of each clip, the fitted head over it, the head alone, from both sides, its control map."""
    rows = []
    for clip, t in (("astronaut-turn", 0), ("astronaut-smile", 14), ("hopper-talk", 14)):
        head = panels.load_fitted(Store(results / f"proxy/{clip}.zarr"))
        frame = Store(results / f"crop/{clip}.zarr").lazy("frames")[t]
        normals, coverage = panels.fitted(head, t, SIDE)
        alone = shade_image(normals, coverage, background=0)
        sides = panels.two_sides(head, SIDE)
        seen = panels.overlay(frame, alone, coverage, SIDE)
        rows.append([frame, seen, alone, *sides, normals_to_rgb(normals, coverage, background=0)])
    return rows


def latents_picture(results: Path, codec: LinearCodec, size: int) -> list[list[np.ndarray]]:
    """A frame, the same at the generator's size, through the codec, and three channels."""
    frame = Store(results / "crop/hopper-talk.zarr").lazy("frames")[:1]
    small = resize(frame, size)
    latents = codec.encode(to_tensor(small))[0].numpy()
    grey = [np.clip(128 + 60 * latents[c, 0] / latents[c, 0].std(), 0, 255).astype(np.uint8) for c in range(3)]
    channels = [cv2.resize(c, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)[..., None].repeat(3, 2) for c in grey]
    return [[frame[0], small[0], decoded(codec, latents)[0], *channels]]


def carry_picture(results: Path, codec: LinearCodec, size: int) -> list[list[np.ndarray]]:
    """A window's frames; below, a row for each portrait: itself, what is made of it, what it never showed."""
    store, crop = Store(results / "carry/hopper-talk.zarr"), Store(results / "crop/hopper-talk.zarr").lazy("frames")
    starts, references, chosen = (store.attrs[name] for name in ("starts", "references", "portraits"))
    number, shown = len(starts) // 3, (0, 4, 8)
    truth = crop[starts[number] : starts[number] + store.attrs["window"]]
    rows = [[np.full_like(truth[0], 255), *truth[list(shown)], np.full_like(truth[0], 255)]]
    for place, reference in enumerate(chosen[number]):
        row = number * len(chosen[number]) + place
        made = decoded(codec, store["appearance"][row])
        seen = cv2.resize(store["seen"][row][shown[-1]], (size, size), interpolation=cv2.INTER_LINEAR)
        rows.append([crop[references[reference]], *made[list(shown)], panels.marked(made[shown[-1]], seen)])
    return rows


def appearance_picture(results: Path) -> list[list[np.ndarray]]:
    """Two frames of both cross pairs: reference, driver, appearance, and in magenta what the reference never showed."""
    rows = []
    for pair in PAIRS[2:]:
        target, driver = pair.split("__")
        portrait, film = (Store(results / f"crop/{clip}.zarr").lazy("frames") for clip in (target, driver))
        store = Store(results / f"appearance/{pair}.zarr")
        moved, seen = store.lazy("appearance"), store.lazy("seen")
        rows += [[portrait[0], film[t], moved[t], panels.marked(moved[t], seen[t])] for t in (14, 30)]
    return rows


def reenact_picture(results: Path) -> list[list[np.ndarray]]:
    """Two frames of each pair: reference, driver, appearance, result."""
    rows = []
    for pair in PAIRS:
        target, driver = pair.split("__")
        portrait = Store(results / f"crop/{target}.zarr").lazy("frames")[0]
        places = {f"crop/{driver}": "frames", f"appearance/{pair}": "appearance", f"reenact/{pair}": "frames"}
        films = [Store(results / f"{place}.zarr").lazy(name) for place, name in places.items()]
        rows += [[portrait, *(film[t] for film in films)] for t in (12, 30)]
    return rows


def animated(folder: Path, portrait: Path, driver: Path, *options: str) -> np.ndarray:
    """A film of ``expportrait animate``, (T, H, W, 3) u8."""
    command = [sys.executable, "-m", "expportrait", "animate", "--portrait", portrait, "--driver", driver]
    subprocess.run([*command, "--out", folder / "film.mp4", "--results", folder / "kept", *options], check=True)
    return np.stack([frame for _, frame in open_source(folder / "film.mp4").frames()])


def animate_picture(results: Path, clips: Path, folder: Path) -> list[list[np.ndarray]]:
    """The driver's frames; below, a row each: portrait and preview, portrait and generated frames."""
    portrait, driver, shown = clips / "hopper-talk.mp4", clips / "astronaut-smile.mp4", [4, 14, 30, 44]
    own, driving = (np.stack([frame for _, frame in open_source(clip).frames()]) for clip in (portrait, driver))
    generator = ("--generator", str(results / "generator"), "--expression", "1.3")
    films = [animated(folder, portrait, driver, *options)[shown] for options in ((), generator)]
    return [[np.full_like(own[0], 255), *driving[shown]], *([own[0], *film] for film in films)]


def whole_picture(results: Path, clips: Path, folder: Path) -> np.ndarray:
    """Both public-domain pictures as they are, and frames of their films: preview, then generated."""
    rows = []
    for name, picture, driver in (("hopper", SOURCES["hopper"].read(), "astronaut-smile"),
                                  ("astronaut", SOURCES["astronaut"].read(), "hopper-talk")):  # fmt: skip
        file = folder / f"{name}.png"
        cv2.imwrite(str(file), picture[..., ::-1])
        generator = ("--generator", str(results / "generator"))
        films = [animated(folder, file, clips / f"{driver}.mp4", *options) for options in ((), generator)]
        row = [picture, films[0][14], films[0][30], films[1][14], films[1][30]]
        rows.append(
            np.hstack([cv2.resize(image[:512, :512], (320, 320), interpolation=cv2.INTER_AREA) for image in row])
        )
    return np.vstack(rows)


def loss_picture(log: Path, path: Path) -> None:
    with log.open(newline="") as file:
        loss = np.array([float(row["loss"]) for row in csv.DictReader(file)])
    smooth = np.convolve(loss, np.ones(20) / 20, "valid")
    figure, axes = plt.subplots(figsize=(6.6, 2.86))
    axes.semilogy(loss, color="#a9c1dc", linewidth=0.8)
    axes.semilogy(np.arange(len(smooth)) + 10, smooth, color="#2260a0", linewidth=2)
    axes.set(xlabel="step", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main(results: Path, out: Path = Path("docs/images"), animate: bool = False) -> None:
    if animate:
        with tempfile.TemporaryDirectory() as name:
            clips = results.parent / "data" / "demo"
            written(out / "animate.jpg", animate_picture(results, clips, Path(name)))
            picture = whole_picture(results, clips, Path(name))
            cv2.imwrite(str(out / "animate_whole.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    about = Store(results / "latents/hopper-talk.zarr").attrs
    codec = LinearCodec(*(about["codec"][name] for name in ("channels", "time", "space")))
    written(out / "proxy.jpg", proxy_picture(results))
    written(out / "latents.jpg", latents_picture(results, codec, about["size"]))
    written(out / "carry.jpg", carry_picture(results, codec, about["size"]))
    written(out / "appearance.jpg", appearance_picture(results))
    written(out / "reenact.jpg", reenact_picture(results))
    loss_picture(results / "generator/model/loss.csv", out / "generator.png")


if __name__ == "__main__":
    typer.run(main)
