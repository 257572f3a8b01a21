"""What the estimators of geometry are at. Whoever changes the maps of one bumps it here: clips that it estimated are
made again, others stay. The first version is left out of keys (``engine.stage.Stage.later``).

Apart from the registry, for a plan needs these numbers and loads no estimator.
"""

VERSIONS = {"david": 1, "sapiens": 1, "embedded": 8}
