"""Frames on their way to an iterator that may read more slowly than they come. Each queue is bounded."""

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from .frame import Frame

# Deltas of one topic that wait for a slow reader; beyond, the topic waits for its next snapshot.
DELTAS_MAX = 1000


@dataclass(frozen=True)
class All:
    """Every frame in order, up to `frames_max` unread ones. Then the oldest are left out, and `Frame.skipped` counts them."""

    frames_max: int = 10_000


@dataclass(frozen=True)
class Block:
    """Every frame in order, up to `frames_max` unread ones. From then on until all are read, the newest of each topic."""

    frames_max: int = 10_000


QueuePolicy = Literal["latest"] | All | Block
"""`latest` keeps the newest frame of each topic (of topics with deltas: the newest snapshot and the deltas after it)."""


class FrameQueue(Protocol):
    """Takes every frame, and gives those that the policy keeps."""

    def put(self, frame: Frame) -> None: ...
    def get(self) -> "Frame | None": ...
    def __len__(self) -> int: ...


def queue_of(policy: QueuePolicy) -> FrameQueue:
    """The queue of a policy."""
    if isinstance(policy, (All, Block)):
        if policy.frames_max < 1:
            raise ValueError(f"expected frames_max of at least 1, found {policy.frames_max}")
        return AllQueue(policy.frames_max) if isinstance(policy, All) else BlockQueue(policy.frames_max)
    if policy != "latest":
        raise ValueError(f"expected a queue of `latest`, All(n) or Block(n), found {policy!r}")
    return LatestQueue()


class AllQueue:
    """Keeps the newest frames."""

    def __init__(self, frames_max: int) -> None:
        self._frames: deque[Frame] = deque(maxlen=frames_max)
        self._skipped = 0

    def put(self, frame: Frame) -> None:
        if len(self._frames) == self._frames.maxlen:
            self._skipped += 1
        self._frames.append(frame)

    def get(self) -> "Frame | None":
        if not self._frames:
            return None
        skipped, self._skipped = self._skipped, 0
        return _after(self._frames.popleft(), skipped)

    def __len__(self) -> int:
        return len(self._frames)


@dataclass(slots=True)
class _Waiting:
    frames: "deque[Frame]"
    skipped: int = 0


class LatestQueue:
    """Keeps what is current of each topic, in the order in which topics became unread."""

    def __init__(self) -> None:
        self._topics: OrderedDict[str, _Waiting] = OrderedDict()
        self._broken: dict[str, int] = {}  # topics whose deltas are left out until a snapshot, and how many were
        self._size = 0

    def put(self, frame: Frame) -> None:
        lost = self._broken.get(frame.topic)
        if frame.kind == "delta" and lost is not None:
            self._broken[frame.topic] = lost + 1
            return
        waiting = self._topics.setdefault(frame.topic, _Waiting(deque(), self._broken.pop(frame.topic, 0)))
        if frame.kind != "delta":
            self._forget(waiting)
        elif len(waiting.frames) >= DELTAS_MAX:
            self._forget(waiting)
            self._broken[frame.topic] = waiting.skipped + 1
            del self._topics[frame.topic]
            return
        waiting.frames.append(frame)
        self._size += 1

    def _forget(self, waiting: _Waiting) -> None:
        waiting.skipped += len(waiting.frames)
        self._size -= len(waiting.frames)
        waiting.frames.clear()

    def get(self) -> "Frame | None":
        if not self._topics:
            return None
        topic, waiting = next(iter(self._topics.items()))
        frame, skipped = waiting.frames.popleft(), waiting.skipped
        waiting.skipped = 0
        self._size -= 1
        if not waiting.frames:
            del self._topics[topic]
        return _after(frame, skipped)

    def __len__(self) -> int:
        return self._size


class BlockQueue:
    """Keeps all, and the latest once there are too many."""

    def __init__(self, frames_max: int) -> None:
        self._frames_max = frames_max
        self._all = AllQueue(frames_max)
        self._latest = LatestQueue()

    def put(self, frame: Frame) -> None:
        if len(self._latest) or len(self._all) >= self._frames_max:
            self._latest.put(frame)
        else:
            self._all.put(frame)

    def get(self) -> "Frame | None":
        return self._all.get() or self._latest.get()

    def __len__(self) -> int:
        return len(self._all) + len(self._latest)


def _after(frame: Frame, skipped: int) -> Frame:
    return replace(frame, skipped=frame.skipped + skipped) if skipped else frame
