"""``python -m expportrait.settings``: write config.yaml, config.schema.json and docs/settings.md anew, or
with ``--check`` compare them."""

import sys

from expportrait.settings.docs import main

sys.exit(main())
