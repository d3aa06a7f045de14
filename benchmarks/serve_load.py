"""Clients that ask one after the other, in a closed loop, made by Locust; run with `uv run --with locust`.

Knows nothing of the project. Reads its task as JSON from stdin and writes what it saw to the file `out`. After
`seconds` no request is begun; those that run may end until `drain_s` later, then they are given up and their age is
kept. A request is what a user wants: a busy server is asked again when it says so, a job is waited for, its target
fetched, and the time counts from the first try.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, task
from locust.env import Environment
from locust.exception import StopUser

GIVEN: dict[str, Any] = {}
RECORDS: list[dict[str, Any]] = []
ANSWERS: dict[str, dict[str, str]] = {}
RUNNING: dict[int, float] = {}
STATE = {"next": 0, "busy": 0, "until": 0.0, "begun": 0.0}
POLL_S = 0.5


class RefusedError(Exception):
    """The server did not do what was asked."""


class Client(FastHttpUser):
    """One user."""

    wait_time = constant(0)
    connection_timeout = network_timeout = 900.0
    max_retries = 0

    @task
    def ask(self) -> None:
        """One request."""
        if time.monotonic() >= STATE["until"]:
            raise StopUser
        case = GIVEN["cases"][int(STATE["next"]) % len(GIVEN["cases"])]
        STATE["next"] += 1
        begun = RUNNING[id(self)] = time.monotonic()
        error = ""
        try:
            found = WAYS[GIVEN["system"], GIVEN["mix"]](self, case)
            ANSWERS.setdefault(case["case"], found)
        except RefusedError as refused:
            error = str(refused)
            gevent.sleep(0.2)  # a server that is gone should not be asked a thousand times a second
        del RUNNING[id(self)]
        RECORDS.append({"begun": begun - STATE["begun"], "seconds": time.monotonic() - begun, "error": error})

    def send(self, method: str, path: str, accepted: tuple[int, ...] = (200,), **options: Any) -> Any:
        """One HTTP request, again while the server says that it is busy."""
        while True:
            with self.client.request(method, path, catch_response=True, **options) as answer:
                answer.success()  # counted by us
            if answer.status_code in accepted:
                return answer
            if answer.status_code != 503:
                raise RefusedError(f"{path.split('?')[0][:16]}: {answer.status_code or type(answer.error).__name__}")
            STATE["busy"] += 1
            gevent.sleep(float(answer.headers.get("Retry-After") or 1))


def our_texts(user: Client, case: dict[str, str]) -> dict[str, str]:
    """Summary and plan."""
    found = user.send("POST", "/v1/plan", json={"note": case["note"]}, headers=auth()).json()
    return {name: found[name] for name in ("summary", "plan_text")}


def our_pipeline(user: Client, case: dict[str, str]) -> dict[str, str]:
    """A job by reference, waited for; its target fetched."""
    body = {"note": case["note"], "ct_path": case["ct_path"]}
    found = user.send("POST", "/v1/pipeline", (200, 202), json=body, headers={**auth(), "Prefer": "wait=300"}).json()
    while found["state"] in ("queued", "running"):
        gevent.sleep(POLL_S)
        found = user.send("GET", f"/v1/jobs/{found['job_id']}", headers=auth()).json()
    if found["state"] != "done":
        raise RefusedError(f"job {found['state']}: {(found['error'] or {}).get('status')}")
    target = user.send("GET", found["files"]["target.nii.gz"], headers=auth()).content
    texts = {name: found["findings"][name] for name in ("summary", "plan_text")}
    return {**texts, "target": base64.b64encode(target).decode()}


def plain_texts(user: Client, case: dict[str, str]) -> dict[str, str]:
    """Summary and plan of the peer."""
    found: dict[str, str] = user.send("POST", "/plan", json={"note": case["note"]}).json()
    return found


def plain_pipeline(user: Client, case: dict[str, str]) -> dict[str, str]:
    """Texts and target of the peer, in one answer."""
    body = {"note": case["note"], "ct_path": case["ct_path"]}
    found: dict[str, str] = user.send("POST", "/pipeline", json=body).json()
    return found


WAYS = {
    ("ours", "text"): our_texts,
    ("ours", "pipeline"): our_pipeline,
    ("peer", "text"): plain_texts,
    ("peer", "pipeline"): plain_pipeline,
}


def auth() -> dict[str, str]:
    """The key."""
    return {"Authorization": f"Bearer {GIVEN['key']}"}


def main() -> None:
    """Run the users."""
    GIVEN.update(json.load(sys.stdin))
    Client.host = GIVEN["url"]
    environment = Environment(user_classes=[Client])
    runner = environment.create_local_runner()
    STATE["begun"] = time.monotonic()
    STATE["until"] = STATE["begun"] + GIVEN["seconds"]
    runner.start(GIVEN["clients"], spawn_rate=GIVEN["clients"])
    while time.monotonic() < STATE["until"] or (RUNNING and time.monotonic() < STATE["until"] + GIVEN["drain_s"]):
        gevent.sleep(0.05)
    now = time.monotonic()
    given_up = [{"begun": begun - STATE["begun"], "seconds": now - begun} for begun in RUNNING.values()]
    found = {"done": RECORDS, "given_up": given_up, "answers": ANSWERS, "busy": STATE["busy"]}
    Path(GIVEN["out"]).write_text(json.dumps(found))
    sys.stdout.flush()
    runner.quit()


if __name__ == "__main__":
    main()
