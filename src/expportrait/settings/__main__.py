"""``python -m expportrait.settings``: write config.yaml and docs/settings.md anew, or compare them."""

import sys

from expportrait.settings.docs import main

sys.exit(main())
