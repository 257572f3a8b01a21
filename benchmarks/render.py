"""What rendering costs a step of the fit: forward and backward of an L1 loss on normals and depth of a dense mesh.

    python benchmarks/render.py [--divisions 46] [--rounds 15] [--compile]

Variants run in turn, round by round, so that a busy machine slows all of them alike; trust the ratios more than the
milliseconds (of CPU time, or of wall time on CUDA).
"""

import argparse
import time

import torch

from expportrait.render import Camera, face_ids, fragments, raster_nvdiffrast, render
from expportrait.render.primitives import bumpy_head
from expportrait.render.raster import FacePlanes, covered
from expportrait.render.shade import _normals_and_depth


def variants(vertices, faces, size, device, compiled):
    """Name -> a function that runs one step."""
    camera = Camera(2.2 * size, size / 2, size / 2, size, size)
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn(size * size, 3, generator=generator).to(device)
    depth = torch.rand(size * size, generator=generator).to(device)
    mask = torch.rand(1, size, size, generator=generator).to(device)
    leaf = vertices[None].clone().requires_grad_()

    def step(loss):
        leaf.grad = None
        loss.backward()

    def sparse(backend, cull=False, edges=False):
        found = fragments(leaf, faces, camera, backend, cull, edges)
        loss = (found.normals - normals.index_select(0, found.index)).abs().mean()
        loss = loss + (found.depth - depth.index_select(0, found.index)).abs().mean()
        step(loss + (found.coverage - mask).square().mean() if edges else loss)

    def dense(backend, edges=False):
        maps = render(leaf, faces, camera, edges=edges, backend=backend)
        loss = (maps.normals.view(-1, 3) - normals).abs().mean() + (maps.depth.view(-1) - depth).abs().mean()
        step(loss + (maps.coverage - mask).square().mean() if edges else loss)

    table = {
        "fragments": lambda: sparse("torch"),
        "fragments, back faces culled": lambda: sparse("torch", cull=True),
        "fragments + mask with edges": lambda: sparse("torch", edges=True),
        "dense images": lambda: dense("torch"),
        "dense images + mask with edges": lambda: dense("torch", edges=True),
        "rasteriser alone": lambda: face_ids(camera.clip(leaf.detach()), faces, (size, size), "torch"),
        "rasteriser alone, culled": lambda: face_ids(
            camera.clip(leaf.detach()), faces, (size, size), "torch", cull=True
        ),
    }
    if device == "cuda" and raster_nvdiffrast.available():
        table["fragments, nvdiffrast"] = lambda: sparse("nvdiffrast")
        table["dense images, nvdiffrast"] = lambda: dense("nvdiffrast")
        table["rasteriser alone, nvdiffrast"] = lambda: face_ids(
            camera.clip(leaf.detach()), faces, (size, size), "nvdiffrast"
        )
    if compiled:
        index, seen = covered(face_ids(camera.clip(leaf.detach()), faces, (size, size), "torch").flip(1), len(faces))

        def shade(vertices, pos, seen, index):
            return _normals_and_depth(FacePlanes(pos, faces, seen, index, (size, size)), vertices, faces)

        def shading(function):
            n, d = function(leaf, camera.clip(leaf), seen, index)
            step((n - normals.index_select(0, index)).abs().mean() + (d - depth.index_select(0, index)).abs().mean())

        torch._dynamo.config.capture_dynamic_output_shape_ops = True
        fused = torch.compile(shade, dynamic=True)
        table["shading alone"] = lambda: shading(shade)
        table["shading alone, torch.compile"] = lambda: shading(fused)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--divisions", type=int, default=46, help="20 n^2 faces")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--compile", action="store_true", help="also time torch.compile on the shading; needs a C++ compiler, minutes"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vertices, faces = (t.to(device) for t in bumpy_head(options.divisions))
    vertices = vertices + torch.tensor([0, 0, -0.8], device=device)
    print(f"{len(vertices)} vertices, {len(faces)} faces, {device}, one thread")
    clock = time.perf_counter if device == "cuda" else time.process_time  # the CPU may be shared
    baseline = None
    for size in (512, 256):
        table = variants(vertices, faces, size, device, options.compile)
        times = {name: [] for name in table}
        for _ in range(options.rounds + 2):
            for name, function in table.items():
                start = clock()
                function()
                if device == "cuda":
                    torch.cuda.synchronize()
                times[name].append(1e3 * (clock() - start))
        print(f"\n{size}x{size:<28}   min ms  median ms  / fragments at 512")
        for name, values in times.items():
            values = sorted(values[2:])
            middle = values[len(values) // 2]
            baseline = baseline or middle
            print(f"{name:32} {values[0]:8.1f} {middle:10.1f} {middle / baseline:10.2f}")


if __name__ == "__main__":
    main()
