"""The bust as plain arrays in one .npz file, for programs without torch (docs/artifacts.md)."""

from pathlib import Path

import numpy as np

from expportrait.head.model import JOINTS, PARENT, Head


def write_bust(file: Path, head: Head) -> Path:
    """Write the dense bust: all that eqs. (3) and (4) need besides a proxy store."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **bust_arrays(head))
    return file if file.suffix == ".npz" else file.with_name(file.name + ".npz")  # numpy adds it


def bust_arrays(head: Head) -> dict[str, np.ndarray]:
    """Metres; n vertices of the dense mesh, J = 10 joints, S shape and E expression components: template (n,3), faces
    (F,3), shape_basis (n,3,S), expression_basis (n,3,E), pose_basis (n,3,81) where there is one, weights (n,J), joints
    (J,3) with joint_shape (J,3,S) and joint_expression (J,3,E), parents (J,), joint_names, sha256 of the model's file,
    and, where the landmarks are known, regions (n,) with region_names and m_d as dynamic_mask (n,)."""
    dense, count = head.dense, len(JOINTS)
    arrays = {
        "template": dense.template.numpy(),
        "faces": head.dense_faces.numpy().astype(np.int32),
        "shape_basis": dense.shape_basis.numpy(),
        "expression_basis": dense.expression_basis.numpy(),
        "weights": dense.weights.numpy(),
        "joints": head.joint_template[:count].numpy(),
        "joint_shape": head.joint_shape[:count].numpy(),
        "joint_expression": head.joint_expression[:count].numpy(),
        "parents": np.array(PARENT),
        "joint_names": np.array(JOINTS),
        "sha256": np.array(head.sha256),
    }
    if dense.pose_basis is not None:
        arrays["pose_basis"] = dense.pose_basis.numpy()
    if head.regions is not None:
        arrays |= {"regions": head.regions.numpy(), "region_names": np.array(head.REGIONS),
                   "dynamic_mask": head.dynamic_mask.numpy()}  # fmt: skip
    return arrays
