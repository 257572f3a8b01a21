"""Which losses a step of the fit goes down and what it moves: stages, unknowns and terms. Solvers ask nowhere else.

A term has one name: of its energy and rows in this folder, of what the store records of it, and of its weight in the
settings (``proxy.weights``), where a step has no other one for it.
"""

from dataclasses import dataclass

from expportrait.settings.sections import Weights

DATA = ("landmark", "normal", "depth", "outline", "silhouette")
OF_EXPRESSION = ("expression", "activation", "blendshapes")
PRIORS = ("shape", *OF_EXPRESSION, "neck", "torso", "torso_motion", "jaw", "eyes", "shoulders", "focal")
TEMPORAL = ("temporal_expression", "temporal_pose", "temporal_place")
OF_STATIC = ("static_magnitude", "static_tangent", "static_laplacian", "strain")
OF_DYNAMIC = ("dynamic_magnitude", "dynamic_tangent", "dynamic_laplacian", "dynamic_strain")
TERMS = {  # in the order in which the store has them, by group
    "sum": ("total",),
    "data": DATA,
    "priors": (*PRIORS, "normal_bias"),
    "smoothness": (*TEMPORAL, "temporal_offset"),
    "offsets": (*OF_STATIC, *OF_DYNAMIC),
}


@dataclass(frozen=True)
class StepTerms:
    """A kind of step: the ``stages`` that take it, the unknowns that it ``moves``, its ``terms``, and those of them
    whose weight in the settings is ``called`` otherwise; ``fixed``: those of weight 1."""

    stages: tuple[str, ...]
    moves: tuple[str, ...]
    terms: tuple[str, ...]
    called: tuple[tuple[str, str], ...] = ()
    fixed: tuple[str, ...] = ()

    def weights(self, s: Weights) -> dict[str, float]:
        """The weight of every term."""
        called = dict(self.called)
        return {name: 1.0 if name in self.fixed else getattr(s, called.get(name, name)) for name in self.terms}


RIGID_HEAD = ("place", "log_scale", "rotation")
FREE_HEAD = (*RIGID_HEAD, "shape", "expression", "log_focal")
HEAD = (*FREE_HEAD, "shoulders")
COARSE = tuple((name, f"{name}_coarse") for name in ("landmark", "depth", "expression", "focal"))

RIGID = StepTerms(("rigid",), RIGID_HEAD, ("landmark", *TEMPORAL), fixed=("landmark",))
LANDMARKS = StepTerms(("landmarks",), FREE_HEAD, ("landmark", *PRIORS, *TEMPORAL), fixed=("landmark",))
# The bare head has no outline to compare, and what it lacks would pass for the estimator's error.
BARE = StepTerms(("coarse",), HEAD, ("landmark", "normal", "depth", *PRIORS, *TEMPORAL), COARSE)
DRESSED = StepTerms(("static",), (*HEAD, "bias"), (*BARE.terms, "outline", "normal_bias"), COARSE)
STATIC = StepTerms(
    ("static", "dynamic"),
    ("static", "bias"),
    ("landmark", "normal", "depth", "outline", "normal_bias", *OF_STATIC),
)
DYNAMIC = StepTerms(("dynamic",), ("dynamic",), ("normal", "depth", *OF_DYNAMIC))  # D_t is not drawn to the outline
FINAL = StepTerms(
    ("final",),
    ("static", "dynamic"),
    ("landmark", "normal", "depth", "silhouette", *OF_STATIC, *OF_DYNAMIC, "temporal_offset"),
)
STEPS = {
    "rigid": RIGID,
    "landmarks": LANDMARKS,
    "bare": BARE,
    "dressed": DRESSED,
    "static": STATIC,
    "dynamic": DYNAMIC,
    "final": FINAL,
}
