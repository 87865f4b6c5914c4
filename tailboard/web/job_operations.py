"""The operations of the API on jobs, their logs and their files. operations.py adds the others."""

from __future__ import annotations

from tailboard.access_role import Role
from tailboard.audit import Action
from tailboard.web.models import (
    Attention,
    Bulk,
    DiffQuery,
    ExplainQuery,
    FileQuery,
    FilesQuery,
    Grep,
    JobQuery,
    Listing,
    LogQuery,
    RerunRequest,
    Submission,
    SubmitQuery,
    TicketRequest,
    UsageQuery,
)
from tailboard.web.operation import Access, Operation

LOG_HEADERS = (
    "ETag",
    "X-Log-Offset",
    "X-Log-Next",
    "X-Log-Size",
    "X-Log-Start",
    "X-Log-Line",
    "X-Log-Lines",
    "X-Log-Complete",
    "X-Job-Status",
)
TICKET_USE = (
    "For `GET /jobs/{job_id}/logs?ticket=…` and the job's files. Pages of the `origin` may read "
    "these responses too, unless TAILBOARD_DASHBOARD lists the allowed origins."
)
SKIP = (
    "200 if `if_busy` is `skip` and another job has the key: nothing was queued, and the response "
    "is that job."
)
RUN_ROLE = "The role `run` allows this only for jobs that came from a saved command."


JOB_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/jobs"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listJobs",
        tag="jobs",
        summary="List jobs, newest first",
        answers={"200": "Jobs", "304": ""},
        description=(
            "A page can be short and still have a `next`, because at most 2,000 jobs are read for "
            "it. With `id`: the jobs whose ID starts or ends with this text. Only `limit` and "
            "`before` can be used with it."
        ),
        query=Listing,
    ),
    ("post", "/jobs"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="submitJob",
        audit=Action.SUBMIT,
        tag="jobs",
        summary="Submit a job",
        answers={"201": "Job", "200": "Job"},
        description=(
            "With an Idempotency-Key that was used before, the response is the job that was "
            f"submitted then. {SKIP}"
        ),
        query=SubmitQuery,
        body=Submission,
        keyed=True,
        headers=["Location", "Tailboard-Skipped"],
    ),
    ("get", "/jobs/{job_id}"): Operation(
        Access.TOKEN,
        Role.READ,
        id="getJob",
        tag="jobs",
        summary="Show a job, or wait for its end",
        answers={"200": "Job"},
        description=(
            "With `wait`, the response comes as soon as the job has ended, but after that many "
            "seconds at the latest. White space precedes the JSON. The client counts as a follower "
            "of a log: 503 if TAILBOARD_FOLLOWERS clients follow or wait."
        ),
        query=JobQuery,
    ),
    ("delete", "/jobs/{job_id}"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="deleteJob",
        audit=Action.DELETE,
        tag="jobs",
        summary="Delete a job that has ended",
        answers={"204": ""},
        errors=(409,),
    ),
    ("post", "/jobs/{job_id}/cancel"): Operation(
        Access.TOKEN,
        Role.RUN,
        id="cancelJob",
        audit=Action.CANCEL,
        tag="jobs",
        summary="Cancel a job",
        answers={"202": "Job"},
        description=(
            "A queued job is cancelled at once. The response still shows a running job as "
            f"running; its worker then ends all of its processes. {RUN_ROLE}"
        ),
        errors=(409,),
    ),
    ("post", "/jobs/{job_id}/rerun"): Operation(
        Access.TOKEN,
        Role.RUN,
        id="rerunJob",
        audit=Action.RERUN,
        tag="jobs",
        summary="Submit a job like this one",
        answers={"201": "Job", "200": "Job"},
        description=(
            "`rerun_of` of the new job is the ID of this one. The new job waits for no others. "
            "With `with_after`, the jobs that were cancelled because of this one are submitted "
            "again, too, and wait for the new jobs; 409 if there are more than 1,000, or if one of "
            f"them also waits for a job that was deleted. {SKIP} {RUN_ROLE}"
        ),
        body=RerunRequest,
        keyed=True,
        headers=["Location", "Tailboard-Skipped"],
        needs_body=False,
        errors=(409,),
    ),
    ("post", "/jobs/{job_id}/urgent"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="makeJobUrgent",
        audit=Action.URGENT,
        tag="jobs",
        summary="Let a queued job start before the others",
        answers={"200": "Job"},
        description="It starts before all jobs that are not urgent, whatever their queue.",
        errors=(409,),
    ),
    ("delete", "/jobs/{job_id}/urgent"): Operation(
        Access.TOKEN,
        Role.ALL,
        id="makeJobOrdinary",
        audit=Action.ORDINARY,
        tag="jobs",
        summary="Let an urgent job start in its turn",
        answers={"200": "Job"},
        errors=(409,),
    ),
    ("get", "/bulk"): Operation(
        Access.TOKEN,
        Role.READ,
        id="chooseJobs",
        tag="jobs",
        summary="List the jobs to rerun, cancel or delete",
        answers={"200": "Chosen"},
        description=(
            "This does not change the jobs: send one request per ID, in the order of `ids`. "
            "The response lists at most 2,000 jobs, and those that are found in 2 s. With `all=1` "
            "it lists all jobs: white space precedes the JSON until they are found, and the client "
            "counts as a follower of a log. With the role `run`, only jobs that came from a saved "
            "command are listed."
        ),
        query=Bulk,
    ),
    ("get", "/prune"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listPrunable",
        tag="jobs",
        summary="List the jobs that would be deleted now",
        answers={"200": "Prunable"},
        description=(
            "The ended jobs that the worker will delete, by its settings and the rules "
            "of jobs and saved commands, the oldest first. This deletes nothing: send one request "
            "per job. If `complete` is false, repeat the request: the search continues."
        ),
    ),
    ("get", "/names"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listNames",
        tag="jobs",
        summary="List the last runs of each name",
        answers={"200": "Names", "304": ""},
        description=(
            "The jobs of the last 14 days that have ended, 20,000 at most, by the name of their "
            "saved command or else their title. The name with the newest run comes first."
        ),
    ),
    ("get", "/attention"): Operation(
        Access.TOKEN,
        Role.READ,
        id="listFailures",
        tag="jobs",
        summary="List recent failures by name",
        answers={"200": "Attention", "304": ""},
        description=(
            "The jobs of the last 14 days that failed, timed out or were lost, the newest first; "
            "with `since`, only those that ended after it."
        ),
        query=Attention,
    ),
    ("get", "/jobs/{job_id}/logs"): Operation(
        Access.TICKET_OR_TOKEN,
        Role.READ,
        id="readLog",
        tag="logs",
        summary="Read, follow, search or download a log",
        answers={
            "200": "text/plain LogSearch text/event-stream",
            "206": "text/plain",
            "304": "",
        },
        description=(
            "At most one of `tail`, `offset`, `line`, `since` and `q`. With `q` the response is "
            "JSON. With `follow=1` it ends when the job does; with `Accept: text/event-stream` it "
            "consists of events. A `ticket` replaces the token."
        ),
        query=LogQuery,
        headers=LOG_HEADERS,
        errors=(416,),
    ),
    ("get", "/jobs/{job_id}/explain"): Operation(
        Access.ALL_LOGS,
        Role.READ,
        id="explainJob",
        tag="logs",
        summary="Explain a job by its log and by its earlier runs",
        answers={"200": "Explanation", "304": ""},
        description=(
            "Each part works for 200 ms at most. If `partial` is true, repeat the request: it "
            "continues. A part that does not apply to the job is null."
        ),
        query=ExplainQuery,
    ),
    ("get", "/jobs/{job_id}/diff"): Operation(
        Access.ALL_LOGS,
        Role.READ,
        id="compareJobs",
        tag="logs",
        summary="Compare a job's log with that of another job, line by line",
        answers={"200": "Comparison", "304": ""},
        description=(
            "The other job is `with`, by default the last earlier success of the same command; 404 "
            "if there is none. Numbers, times, hashes and temporary paths do not count. If "
            "`partial` is true, repeat the request: it continues. If `more` is true, the next "
            "request has `from`, the number of hunks so far."
        ),
        query=DiffQuery,
    ),
    ("get", "/jobs/{job_id}/usage"): Operation(
        Access.TICKET_OR_TOKEN,
        Role.READ,
        id="readUsage",
        tag="jobs",
        summary="Read what a job used over time",
        answers={"200": "Samples", "304": ""},
        description=(
            "The samples of all attempts, oldest first. If there are more than 1,000, samples are "
            "left out evenly; with `limit`, the newest ones are complete."
        ),
        query=UsageQuery,
    ),
    ("get", "/jobs/{job_id}/files"): Operation(
        Access.TICKET_OR_TOKEN,
        Role.READ,
        id="listFiles",
        tag="files",
        summary="List the files of a job",
        answers={"200": "Files", "304": ""},
        description=(
            "Files, folders, links and the like, sorted by path; at most 10,000, those nearest to "
            "the top. `url` always leads to the file: `path` cannot if it is not UTF-8. 409 if the "
            "files are only on the machine that runs or ran the job."
        ),
        query=FilesQuery,
        errors=(409,),
    ),
    ("get", "/jobs/{job_id}/files/{path}"): Operation(
        Access.TICKET_OR_TOKEN,
        Role.READ,
        id="readFile",
        tag="files",
        summary="Read or download a file of a job",
        answers={
            "200": "application/octet-stream */*",
            "206": "application/octet-stream */*",
            "304": "",
        },
        description=(
            "The type follows from the end of the name; with `download=1`, or if the type is "
            "unknown, browsers save the file. With `render=1` a Markdown file becomes HTML. A "
            "browser shows the response without scripts and requests. 409 if the path is a folder, "
            "a link or the like, or if the file is only on the machine that runs or ran the job."
        ),
        query=FileQuery,
        headers=("ETag", "Content-Disposition"),
        errors=(409, 416),
    ),
    ("get", "/jobs/{job_id}/files.zip"): Operation(
        Access.TICKET_OR_TOKEN,
        Role.READ,
        id="downloadFiles",
        tag="files",
        summary="Download all listed files of a job as a ZIP archive",
        answers={"200": "application/zip"},
        description=(
            "In names, an underscore replaces each character that some system does not allow. The "
            "archive's comment says what is missing. The client counts as a follower of a log."
        ),
        query=FilesQuery,
        headers=("Content-Disposition",),
        errors=(409,),
    ),
    ("get", "/logs"): Operation(
        Access.TOKEN,
        Role.READ,
        id="searchLogs",
        tag="logs",
        summary="Find lines in all logs, newest jobs first",
        answers={"200": "Hits"},
        description=(
            "If `next` is not null, the search is not complete: repeat it with that value as "
            "`before`."
        ),
        query=Grep,
    ),
    ("post", "/jobs/{job_id}/ticket"): Operation(
        Access.TOKEN,
        Role.READ,
        id="createLogTicket",
        audit=Action.NOTHING,
        tag="logs",
        summary="Create a ticket for the log of one job",
        answers={"201": "Ticket"},
        description=TICKET_USE,
        body=TicketRequest,
        needs_body=False,
    ),
    ("post", "/ticket"): Operation(
        Access.TOKEN,
        Role.READ,
        id="createTicket",
        audit=Action.NOTHING,
        tag="logs",
        summary="Create a ticket for the log of any job",
        answers={"201": "Ticket"},
        description=TICKET_USE,
        body=TicketRequest,
        needs_body=False,
    ),
}
