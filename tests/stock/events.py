"""Reads so many frames of a stream of events with `urllib3`, and resumes it by `Last-Event-ID`; prints the data."""

import sys

import urllib3

url, count = sys.argv[1], int(sys.argv[2])
pool, last_id, frames = urllib3.PoolManager(), None, []
while len(frames) < count:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    with pool.request("GET", url, headers=headers, preload_content=False, timeout=30) as answer:
        assert answer.status == 200, answer.status
        pending = b""
        while len(frames) < count:
            part = answer.read1(65536)
            if not part:
                break
            *events, pending = (pending + part).split(b"\n\n")
            for event in events:
                fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
                last_id = fields.get("id", last_id)
                if "event" not in fields and "data" in fields:
                    frames.append(fields["data"])
print("\n".join(frames[:count]))
