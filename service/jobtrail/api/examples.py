"""Bodies that the documentation shows."""

from typing import Final

from fastapi.openapi.models import Example

_LEAST: Final = {"task": "send_email", "args": {"to": "ann@example.org"}}

SUBMISSIONS: Final[dict[str, Example]] = {
    "least": {"summary": "A task and its arguments", "value": _LEAST},
    "all": {
        "summary": "Everything that can be said",
        "value": {
            **_LEAST,
            "queue": "mail",
            "priority": 7,
            "tags": ["customer:42"],
            "run_at": "2030-01-31T12:00:00Z",
            "ttl": 86400,
            "timeout": 30,
            "max_attempts": 5,
        },
    },
}

BATCHES: Final[dict[str, Example]] = {
    "two": {"summary": "Two jobs, both or none", "value": {"jobs": [_LEAST, {**_LEAST, "priority": 9}]}}
}

PAUSES: Final[dict[str, Example]] = {"why": {"summary": "With a reason", "value": {"reason": "the provider is down"}}}

AMENDMENTS: Final[dict[str, Example]] = {
    "keep": {"summary": "Keep the row for ever", "value": {"ttl": None}},
    "later": {"summary": "Not before a time", "value": {"run_at": "2030-01-31T12:00:00Z"}},
}

BULKS: Final[dict[str, Example]] = {
    "count": {
        "summary": "How many would be retried",
        "value": {"action": "retry", "filter": {"status": ["failed"], "task": ["send_email"]}, "dry_run": True},
    },
    "cancel": {
        "summary": "Cancel what waits in a queue",
        "value": {"action": "cancel", "filter": {"status": ["pending"], "queue": ["mail"]}, "reason": "sent by hand"},
    },
}
