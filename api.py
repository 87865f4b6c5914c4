"""The API: jobs and their logs over HTTP.

A route parses, asks the storage once, and answers; errors rise to one handler for each kind and
leave as problem details (RFC 9457). It imports nothing of ours but storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, jsonify, request, url_for
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from werkzeug.exceptions import BadRequest, HTTPException

from storage import (
    ID,
    QUEUE,
    Job,
    JobNotFound,
    Status,
    StoragePort,
    WrongState,
    open_storage,
)

MAX_BODY = 1 << 20  # bytes
RETRY_AFTER = "5"  # seconds

routes = Blueprint("tailboard", __name__)


# --- What may come in ---------------------------------------------------------------------------

# Arguments of a program: no NUL, and below the kernel's 128 KiB (MAX_ARG_STRLEN in execve(2)).
Text = Annotated[str, StringConstraints(max_length=30_000, pattern=r"^[^\x00]*$")]
Line = Annotated[str, StringConstraints(max_length=30_000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Label = Annotated[Line, StringConstraints(max_length=200)]
QueueName = Annotated[str, StringConstraints(pattern=f"^{QUEUE.pattern}$")]
Variable = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00=]+$")]


def own_names(env: dict[str, str]) -> dict[str, str]:
    if any(name.startswith(("TAILBOARD_", "JOB_ID", "JOB_ATTEMPT")) for name in env):
        raise ValueError
    return env


class Submission(BaseModel):
    """The body of POST /jobs. A description says what is allowed: it ends the error's sentence."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: Line | Annotated[list[Text], Field(min_length=1, max_length=1_000)] = Field(
        description="a shell line, or a list of a program and its arguments, "
        "not empty, of up to 30,000 characters each"
    )
    name: Label | None = Field(None, description="text of 1 to 200 characters")
    queue: QueueName = Field("default", description="1 to 32 of the characters a-z 0-9 _ -")
    cwd: Annotated[Line, StringConstraints(max_length=4_000, pattern="^/")] | None = Field(
        None, description="an absolute path"
    )
    env: Annotated[dict[Variable, Text], AfterValidator(own_names)] = Field(
        {}, description="an object of texts, with names other than JOB_… and TAILBOARD_…"
    )
    timeout: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        None, description="a number of seconds above 0 and up to 1,000,000,000"
    )
    retries: int = Field(0, ge=0, le=100, description="a whole number from 0 to 100")
    submitted_by: Label | None = Field(None, description="text of 1 to 200 characters")


class Listing(BaseModel):
    """The parameters of GET /jobs."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = Field(None, description=f"one of {', '.join(Status)}")
    queue: QueueName | None = Field(None, description="1 to 32 of the characters a-z 0-9 _ -")
    q: str = Field("", max_length=200, description="text of up to 200 characters")
    limit: int = Field(50, ge=1, le=500, description="a whole number from 1 to 500")
    before: str | None = Field(None, pattern=f"^{ID.pattern}$", description="the ID of a job")


class LogQuery(BaseModel):
    """The parameters of GET /jobs/ID/logs."""

    model_config = ConfigDict(extra="forbid")

    tail: int = Field(1000, ge=0, le=1_000_000, description="a whole number from 0 to 1,000,000")


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], data: object) -> Model:
    """The data as the model; 400 with a sentence that names the field and what is allowed."""
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        return model.model_validate({k: v for k, v in data.items() if v is not None})
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        if field in model.model_fields:
            raise BadRequest(f"{field} must be {model.model_fields[field].description}") from None
        known = ", ".join(model.model_fields)
        raise BadRequest(f"there is no field {field!r}; the fields are {known}") from None


# --- Errors -------------------------------------------------------------------------------------


def problem(status: int, title: str, detail: str | None) -> Response:
    """An error as problem details (RFC 9457)."""
    response = jsonify(type="about:blank", title=title, status=status, detail=detail or title)
    response.status_code = status
    response.content_type = "application/problem+json"
    return response


@routes.app_errorhandler(HTTPException)
def http_error(error: HTTPException) -> Response:
    response = problem(error.code or 500, error.name, error.description)
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


@routes.app_errorhandler(JobNotFound)
def not_found(error: JobNotFound) -> Response:
    return problem(404, "Not Found", str(error))


@routes.app_errorhandler(WrongState)
def conflict(error: WrongState) -> Response:
    return problem(409, "Conflict", str(error))


@routes.app_errorhandler(RecursionError)
def too_deep(_: RecursionError) -> Response:
    return problem(400, "Bad Request", "the body is nested too deeply")


@routes.app_errorhandler(OSError)
def unavailable(error: OSError) -> Response:
    current_app.logger.error("storage: %s", error)
    detail = f"the storage cannot do that now: {error.strerror or 'it failed'}"
    response = problem(503, "Service Unavailable", detail)
    response.headers["Retry-After"] = RETRY_AFTER
    return response


# --- Routes -------------------------------------------------------------------------------------


def storage() -> StoragePort:
    found: StoragePort = current_app.extensions["storage"]
    return found


@routes.post("/jobs")
def submit() -> tuple[dict[str, Any], int, dict[str, str]]:
    job = Job(**check(Submission, request.get_json()).model_dump())
    key = request.headers.get("Idempotency-Key")
    return created(storage().submit(job, key))


def created(job: Job) -> tuple[dict[str, Any], int, dict[str, str]]:
    return job.as_dict(), 201, {"Location": url_for("tailboard.show", job_id=job.id)}


@routes.get("/jobs")
def index() -> dict[str, Any]:
    asked = check(Listing, request.args.to_dict())
    jobs, following = storage().list(asked.status, asked.queue, asked.q, asked.limit, asked.before)
    counts = storage().counts()
    return {"jobs": [job.as_dict() for job in jobs], "next": following, "counts": counts}


@routes.get("/jobs/<job_id>")
def show(job_id: str) -> dict[str, Any]:
    return storage().get(job_id).as_dict()


@routes.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    return storage().cancel(job_id, "cancelled through the API").as_dict(), 202


@routes.post("/jobs/<job_id>/rerun")
def rerun(job_id: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    old = storage().get(job_id)
    asked = {name: getattr(old, name) for name in Submission.model_fields}
    job = Job(**check(Submission, asked).model_dump(), rerun_of=old.id)
    return created(storage().submit(job))


@routes.delete("/jobs/<job_id>")
def delete(job_id: str) -> tuple[str, int]:
    storage().delete(job_id)
    return "", 204


@routes.get("/jobs/<job_id>/logs")
def logs(job_id: str) -> Response:
    asked = check(LogQuery, request.args.to_dict())
    storage().get(job_id)
    try:
        text = storage().load_logs(job_id, asked.tail)
    except FileNotFoundError:  # known, and nothing logged yet
        text = ""
    return Response(text, mimetype="text/plain")


@routes.get("/workers")
def workers() -> dict[str, Any]:
    return {"workers": [asdict(info) for info in storage().workers()]}


@routes.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. `config` may hold STORAGE, a folder (default: TAILBOARD_STORAGE)."""
    app = Flask(__name__)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY)
    app.config.update(config or {})
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["storage"] = open_storage(app.config.get("STORAGE"))
    app.register_blueprint(routes)
    return app


def __getattr__(name: str) -> Flask:
    """`app`, for `flask run` and gunicorn; made on use, so that an import makes no folder."""
    if name == "app":
        app = globals()["app"] = create_app()
        return app
    raise AttributeError(name)
