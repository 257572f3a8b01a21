"""Transfer against copying, where the truth is known: ``python benchmarks/transfer.py``.

24 random heads whose wrinkles follow each face's own geometry (made_people.py); 20 of them train, the other 4
are driven by them. Mean error of the mean-free offsets, mm, and the seconds of training.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import made_people as make
from expportrait.fit.store import load_proxy
from expportrait.head import Head
from expportrait.store import Store
from expportrait.transfer.data import FittedClips
from expportrait.transfer.drive import transferred
from expportrait.transfer.model import Transfer, TransferConfig
from expportrait.transfer.motion import motion
from expportrait.transfer.train import MILLIMETRE, mean_free, train

SIZES = {"encoder_width": 64, "code": 32, "vertex_width": 128, "steps": 1500, "clips": 6}


def main() -> None:
    """Train, drive, print."""
    torch.set_num_threads(1)
    results, head = Path(tempfile.mkdtemp()), Head.load(subdivisions=0)
    names = [f"p{i}-1" for i in range(24)]
    for name in names:
        make.proxy_store(results, head, name)
    paths = {name: results / "proxy" / f"{name}.zarr" for name in names}
    clips = FittedClips({name: paths[name] for name in names[:20]}, head)
    settings = make.config(results, transfer=SIZES).transfer
    torch.manual_seed(0)
    sizes = settings.encoder_width, settings.code, settings.vertex_width
    features = clips.features(names[0]).shape[1]
    model = Transfer(TransferConfig(head.n_expression, features, *sizes, clips.scale()))
    start = time.process_time()
    train(model, clips, settings, results / "work", "cpu")
    print(f"trained in {time.process_time() - start:.0f} CPU s")
    errors: dict[str, list[float]] = {"none": [], "copy": [], "transfer": []}
    for target in (load_proxy(Store(paths[name]), head) for name in names[20:]):
        for driver in (load_proxy(Store(paths[name]), head) for name in names[:20:5]):
            truth = mean_free(make.rule(head, target.neutral(), driver.expression))
            made = {
                "none": torch.zeros_like(truth),
                "copy": driver.dynamic[:],
                "transfer": transferred(target, motion(driver), model)[:],
            }
            for name, offsets in made.items():
                errors[name].append(float((mean_free(offsets) - truth).abs().mean()) / MILLIMETRE)
    for name, values in errors.items():
        print(f"{name:9} {sum(values) / len(values):.4f} mm")


if __name__ == "__main__":
    main()
