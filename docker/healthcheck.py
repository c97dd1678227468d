"""Exit with 0 if the server in this container is ready, else with 1; the HEALTHCHECK of the Dockerfile."""

from __future__ import annotations

import os
import sys
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 6


def main() -> int:
    """Request ``/readyz`` once and return the exit status."""
    url = f"http://127.0.0.1:{os.environ.get('RENORM_PORT', '8000')}/readyz"
    try:
        # Without the proxies of the environment, which cannot reach this container's loopback.
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S) as answer:
            print(answer.read().decode())
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
