"""The estimators of geometry by the names that the setting ``geometry.estimator`` knows them by."""

from expportrait.errors import UserError
from expportrait.estimators.geometry.base import GeometryEstimator
from expportrait.estimators.geometry.david import DavidEstimator
from expportrait.estimators.geometry.embedded.estimator import EmbeddedEstimator
from expportrait.estimators.geometry.sapiens import SapiensEstimator
from expportrait.settings.config import GeometrySettings, HeadSettings

ESTIMATORS: dict[str, type[GeometryEstimator]] = {
    "david": DavidEstimator,
    "sapiens": SapiensEstimator,
    "embedded": EmbeddedEstimator,
}


def load_estimator(name: str, head: HeadSettings, settings: GeometrySettings, device: str) -> GeometryEstimator:
    """The estimator of that name. Raises UserError where there is none, or where its files are not as it needs them."""
    if name not in ESTIMATORS:
        raise UserError(f"geometry.estimator: no estimator is called {name!r}, only {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name].load(head, settings, device)
