"""Which topics the server has called stale.

The feed's state and a topic's own are apart: what is live again as a feed may still be silent as a topic.
"""

from collections.abc import Callable, Iterable

from .pattern import matches


class Staleness:
    """What the server has said of the feed, and of single topics."""

    def __init__(self) -> None:
        self._notices: list[tuple[str, bool]] = []  # of the feed: the newest that matches a topic decides
        self._topics: set[str] = set()  # stale or refused by themselves

    def note(self, patterns: Iterable[str], stale: bool) -> None:
        """A `stale` or a `live` message of the feed has come."""
        new = list(patterns)

        # What a new pattern covers as a whole is superseded: only so does the list stay as short as the server's own.
        def is_covered(old: str) -> bool:
            return any(matches(it, old) and (it.endswith(">") or not old.endswith(">")) for it in new)

        self._notices = [notice for notice in self._notices if not is_covered(notice[0])]
        self._notices += [(pattern, stale) for pattern in new]
        if not any(was_stale for _, was_stale in self._notices):
            self.clear()

    def tell(self, topic: str, stale: bool) -> None:
        """A message about one topic has come that says how it is doing, or a frame of it."""
        if stale:
            self._topics.add(topic)
        else:
            self._topics.discard(topic)

    def covers(self, topic: str) -> bool:
        """Whether values of the topic may be outdated."""
        if topic in self._topics:
            return True
        return next((stale for pattern, stale in reversed(self._notices) if matches(pattern, topic)), False)

    @property
    def is_feed_stale(self) -> bool:
        """Whether the newest that was said of the whole feed is that it is stale."""
        return next((stale for pattern, stale in reversed(self._notices) if pattern == ">"), False)

    def clear(self) -> None:
        """The feed's state is to be told anew."""
        self._notices = []

    def retain(self, kept: Callable[[str], bool]) -> None:
        """Nothing is known any more of topics that are not kept."""
        self._topics = {topic for topic in self._topics if kept(topic)}
