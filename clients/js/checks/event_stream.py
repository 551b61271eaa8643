"""Reads a stream of events with urllib3, and resumes it by `Last-Event-ID` whenever it ends; prints the data of each event."""

import sys

import urllib3
from urllib3.exceptions import HTTPError

pool, last_id = urllib3.PoolManager(), None
while True:
    headers = {"Accept-Encoding": "gzip"} | ({"Last-Event-ID": last_id} if last_id else {})
    try:
        with pool.request("GET", sys.argv[1], headers=headers, preload_content=False, timeout=30, retries=False) as answer:
            pending = b""
            while part := answer.read1(65536):
                *events, pending = (pending + part).split(b"\n\n")
                for event in events:
                    fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
                    last_id = fields.get("id", last_id)
                    if "data" in fields:
                        print(fields["data"])
                sys.stdout.flush()
    except HTTPError:
        pass  # It was cut.
