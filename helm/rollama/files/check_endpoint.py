"""Ask the endpoint and the dashboard without a key, with a wrong one and with their own; exit 1 for a wrong answer.

Usage: check_endpoint.py http://SERVE:8000 http://HEAD:8265 [folder of Secrets]. Needs Python alone.
"""

import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PATIENCE_S = 120


def status(url, key=None):
    """HTTP status of a GET; 0 when nobody answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def main(endpoint, dashboard, secrets="/secrets"):
    """Number of wrong answers, each printed."""
    deadline = time.monotonic() + PATIENCE_S
    while status(f"{endpoint}/readyz") != 200 and time.monotonic() < deadline:
        time.sleep(2)
    checks = [
        ("the endpoint is ready", f"{endpoint}/readyz", None, {200}),
        ("the endpoint without a key", f"{endpoint}/openapi.json", None, {401}),
        ("the endpoint with a wrong key", f"{endpoint}/openapi.json", "x" * 32, {401}),
        ("the dashboard without the token", f"{dashboard}/api/version", None, {401}),
        ("the dashboard with a wrong token", f"{dashboard}/api/version", "x" * 32, {401, 403}),
        ("the dashboard with the token", f"{dashboard}/api/version", read(secrets, "token/auth_token"), {200}),
    ]
    key = read(secrets, "api-key/api-key")
    if key:
        checks.append(("the endpoint with its key", f"{endpoint}/openapi.json", key, {200}))
    wrong = 0
    for what, url, value, accepted in checks:
        found = status(url, value)
        wrong += found not in accepted
        print(f"{'ok  ' if found in accepted else 'FAIL'} {what}: {found}, expected {sorted(accepted)}", flush=True)
    return wrong


def read(folder, name):
    """A Secret's text; none where it is not mounted."""
    path = Path(folder) / name
    return path.read_text().strip() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:]) else 0)
