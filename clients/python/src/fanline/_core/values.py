"""The newest frames of the topics that are subscribed to, for `latest` and for late subscriptions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .frame import Frame

# Deltas of one topic that are kept for late subscriptions; beyond, those wait for the next snapshot.
DELTAS_MAX = 1000


@dataclass(slots=True)
class Known:
    """What is known of one topic."""

    frame: Frame
    connection: int
    """The connection that confirmed it last."""
    told: "list[Frame]" = field(default_factory=list[Frame])
    """What a late subscription receives: the newest frame, or the snapshot and the deltas since."""


class Values:
    """By topic."""

    def __init__(self) -> None:
        self._topics: dict[str, Known] = {}

    def get(self, topic: str) -> "Known | None":
        return self._topics.get(topic)

    def names(self) -> "list[str]":
        return list(self._topics)

    def told(self) -> "Iterator[list[Frame]]":
        return iter([known.told for known in self._topics.values()])

    def take(self, frame: Frame, connection: int) -> bool:
        """Whether the frame is new."""
        known = self._topics.get(frame.topic)
        if known is None:
            self._topics[frame.topic] = Known(frame, connection, [] if frame.kind == "delta" else [frame])
            return True
        known.connection = connection  # Sent again after a reconnect: nothing new, but now confirmed.
        if known.frame.offset >= frame.offset:
            return False
        known.frame = frame
        if frame.kind != "delta":
            known.told = [frame]
        elif known.told and known.told[0].kind == "snapshot" and len(known.told) <= DELTAS_MAX:
            known.told.append(frame)
        else:
            known.told = []
        return True

    def overflow(self, topic: str, offset: int) -> None:
        """What is known stands for frames that will not come: a snapshot and its deltas."""
        known = self._topics.get(topic)
        if known and known.frame.offset < offset:
            known.told = []

    def retain(self, kept: "Callable[[str], bool]") -> None:
        self._topics = {topic: known for topic, known in self._topics.items() if kept(topic)}

    def clear(self) -> None:
        self._topics.clear()
