"""What schemathesis is told beside the service's own document; it imports this by SCHEMATHESIS_HOOKS.

FUZZ_TASKS: what the service answers to GET /v1/tasks. FUZZ_KEY_ID: the access key that all calls are made with.
"""

import json
import os
import re
from typing import Any, Final
from uuid import uuid4

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext

RIGHT: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "RejectedPositiveData": (
        # a schema of `args`, which are any JSON, has no words for it
        (".*", r"the text has the character U\+0000"),
        # another case of the same run has used it
        ("POST /v1/jobs", "the idempotency key .* was submitted with another body"),
        # a cursor is made by the service, and nobody else can say which text is one
        ("GET /v1/jobs", r"\?cursor: this is no cursor of this list"),
        # each question has parameters of its own, which the list of the questions tells
        (r"GET /v1/audit/\{name\}", r"\?\w+: '.*' is not "),
        # `format: date-time` has no bounds
        # which texts are a cron or a zone, and whether a due time is left, no schema can say
        (r"PUT /v1/schedules/\{name\}", "/(cron|zone|ends_at): "),
        (r"PUT /v1/schedules/\{name\}", "/(starts|ends)_at: (write a time|in UTC this is not within)"),
        # which fields go together, and which names are in a template
        ("POST /v1/(jobs|batches).*", "/(on_duplicate|delay|max_delay|unique_key|after): "),
        ("POST /v1/jobs", "Idempotency-Key:: this job has a unique key"),
        # which URLs are called, and what a secret is
        (r"PUT /v1/webhooks/\{name\}", "/(url|tasks/\\d+): "),
        (r"POST /v1/webhooks/\{name\}/rotate", "/secret: a secret is"),
        ("POST /v1/(jobs|batches).*", "/callback_url: "),
        # whose names are Jobtrail's own
        ("(POST|PUT) /v1/(jobs|batches|schedules).*", "/(task|queue): names that begin with"),
        # which jobs there are
        ("POST /v1/(jobs|batches).*", r"/after/\d+: no job has the id"),
        (r"POST /v1/schedules/\{name\}/backfill", "/(from|until): "),
        ("POST /v1/jobs/bulk", "/created_(after|before): in UTC this is not within"),
        ("(POST|PATCH) /v1/(jobs|batches).*", "/run_at: (write a time (that is not|from)|in UTC this is not within)"),
        # whether a time is past depends on when it is asked
        ("POST /v1/keys", "/expires_at: write a time that is to come"),
    ),
    "AcceptedNegativeData": (
        # it is refused before it is read
        (".*", "the body is longer than the limit"),
    ),
    "UseAfterFree": (
        # this cancels: the row stays until its TTL has passed
        (".*", "deleted with `DELETE /v1/jobs/"),
    ),
}
"""Failures that are none: of which kind, of which call, and what was said with them, as regular expressions."""


RECEIVER: Final = "https://127.0.0.1:1/"
"""Nobody listens there, and nothing goes out of this machine."""


@schemathesis.hook
def before_load_schema(_context: HookContext, raw_schema: dict[str, Any]) -> None:
    """The tasks are no part of the document, since they are the host's; without them nearly no submit is taken."""
    tasks = {each["name"]: each["args"] for each in json.loads(os.environ["FUZZ_TASKS"])["items"]}
    for name in ("JobtrailSubmission", "JobtrailScheduleSpec"):
        said = raw_schema["components"]["schemas"][name]["properties"]
        said["task"]["enum"] = sorted(tasks)
        said["args"] = next(iter(tasks.values()))
    for name, field in (("JobtrailSubmission", "callback_url"), ("JobtrailWebhookBody", "url")):
        raw_schema["components"]["schemas"][name]["properties"][field]["enum"] = [RECEIVER]


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    """The list of keys tells the one that the calls are made with, and whoever revokes that one ends the run."""
    if (case.path_parameters or {}).get("key_id") == os.environ["FUZZ_KEY_ID"]:
        case.path_parameters["key_id"] = str(uuid4())


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    said = f"{failure.message}\n{_detail(response)}"
    known = RIGHT.get(type(failure).__name__, ())
    return not any(re.fullmatch(call, case.operation.label) and re.search(words, said) for call, words in known)


def _detail(response: Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return ""
