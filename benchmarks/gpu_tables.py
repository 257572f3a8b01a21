"""Tables for README.md from what benchmarks/gpu.sh wrote.

python benchmarks/gpu_tables.py FOLDER
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

Part = dict[str, object]


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    head = [*head]
    yield from ("| " + " | ".join(head) + " |", "|" + " --- |" * len(head))
    for row in rows:
        yield "| " + " | ".join(number(cell) for cell in row) + " |"
    yield ""


def number(value: object) -> str:
    """Three digits of a number that is no count."""
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else " ".join(str(value).split())


def of_machine(part: Part) -> Iterator[str]:
    machine = part["machine"]
    card = f"{machine['name']}, {machine['memory_gib']} GiB" if "name" in machine else "no GPU"
    named = ", ".join(f"{name} {version or 'missing'}" for name, version in machine["versions"].items())
    yield f"{card}; Python {machine['python']}; {named}{'; TINY SIZES: figures mean nothing' if part['tiny'] else ''}."
    yield ""


def of_device(part: Part) -> Iterator[str]:
    for name, why in part["not_loaded"].items():
        yield f"- not loaded: `{name}`: {why}"
    yield ""
    yield from table(("operation", "off the CPU's, as a part of its values"), part["operations"].items())


def of_fit(part: Part) -> Iterator[str]:
    stages = part["seconds_per_frame_by_stage"]
    row = part["seconds_per_frame"], *stages.values(), part["peak_gib"]
    yield from table(("s a frame", *stages, "peak GiB"), [row])
    rest = {name: part[name] for name in ("kernels_per_frame", "busy_seconds_per_frame") if name in part}
    rest |= part["errors"]
    for name, value in part.get("static_off_the_cpus_mm", {}).items():
        rest[f"D_s off the CPU's, mm, {name}"] = value
    yield from table(rest, [rest.values()])


def of_generator(part: Part) -> Iterator[str]:
    columns = {"frames": "frames", "attention": "attention", "compiled": "compiled", "checkpointing": "recomputed",
               "tokens": "tokens", "seconds": "s a step", "tflops": "TFLOP/s", "times_the_floor": "times the floor",
               "peak_gib": "peak GiB", "planned_gib": "planned GiB", "waiting": "waiting",
               "other": "not the transformer", "first_step_seconds": "first step s", "error": "error"}  # fmt: skip
    yield from table(columns.values(), [[row.get(name) for name in columns] for row in part["steps"]])


def of_raster(part: Part) -> Iterator[str]:
    sizes = [name for name in part if name.isdigit()]
    rows = [(name, *(part[size][name] for size in sizes)) for name in part[sizes[0]]]
    yield from table((f"{part['faces']} faces, ms", *sizes), rows)


def of_sampling(part: Part) -> Iterator[str]:
    rows = [(name, part[name]["seconds"], part[name]["peak_gib"]) for name in ("plain", "guided") if name in part]
    yield from table((f"a window of {part['frames']} frames, {part['steps']} steps", "s", "peak GiB"), rows)


def of_tests(part: Part) -> Iterator[str]:
    rows = [(one["name"], one["outcome"], one.get("difference"), one["seconds"], one["why"]) for one in part["tests"]]
    yield from table(("test", "outcome", "difference", "s", "why"), rows)


MAKERS = {"device": of_device, "fit": of_fit, "generator": of_generator, "raster": of_raster, "sampling": of_sampling,
          "tests": of_tests}  # fmt: skip


def report(folder: Path) -> Iterator[str]:
    parts = {name: json.loads(file.read_text("utf-8")) for name in MAKERS if (file := folder / f"{name}.json").exists()}
    for first in [*parts.values()][:1]:
        yield from of_machine(first)
    for name, part in parts.items():
        yield f"### {name}, {part.get('whole_seconds', '?')} s\n"
        if "error" in part:
            yield f"Failed:\n\n```\n{part['error']}\n```\n"
        try:
            yield from MAKERS[name](part)
        except KeyError as missing:  # of a part that failed
            yield f"No more was found ({missing}).\n"


if __name__ == "__main__":
    print("\n".join(report(Path(sys.argv[1]))))
