"""The current values of a feed as a table of pandas or polars, then again every second.

    python table.py http://127.0.0.1:8080 'quote.*' --rounds 3

Needs pandas or polars; without either it says so and ends.
"""

import argparse
import importlib
import time
from typing import Any

import fanline.sync


def library() -> Any:
    """pandas, polars or None."""
    for name in ("pandas", "polars"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def rows(client: fanline.sync.Client) -> "list[dict[str, Any]]":
    """A row for each topic: what the feed says of it, and whether that is current."""
    found: list[dict[str, Any]] = []
    for topic in sorted(client.topics):
        frame = client.latest(topic)
        if frame and isinstance(frame.data, dict):
            found.append({**frame.data, "topic": topic, "current": client.is_current(topic)})
    return found


def main() -> None:
    """A table each second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("patterns", nargs="+")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    frames = library()
    if frames is None:
        print("SKIPPED: neither pandas nor polars is installed")
        return
    with fanline.sync.connect(options.url) as client:
        subscription = client.subscribe(options.patterns, lambda frame: None)
        client.wait_open()
        for _ in range(options.rounds):
            time.sleep(1)
            print(frames.DataFrame(rows(client)))
        subscription.unsubscribe()


if __name__ == "__main__":
    main()
