"""The page: run a job, watch its log, see what ran and when. Start: `streamlit run dashboard.py`

It imports nothing of the API, the worker and the storage: it knows only the API's address.
Streamlit runs this file for each visit and draws three fragments. The list and the log are drawn
again at intervals that a timer in the browser counts; the log's timer stops when the job has ended.
The third fragment answers errands: requests from the browser that need the visitor's token. If the
API refuses the visitor, the component sign_in covers the page until the visitor is signed in. The
JavaScript in static/ draws everything; it also loads and follows logs itself, with a ticket that
allows reading logs and nothing else.

In this file, from top to bottom: the visitor, the events of each component, the fragments, `main`,
and the ASGI application.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Unpack
from uuid import uuid4

import streamlit as st
from starlette.middleware import Middleware

from tailboard.client_http import job_path, saved_path
from tailboard.page.client import (
    ApiClient,
    ApiError,
    Refused,
    describe_problem,
)
from tailboard.page.cold_frame import ColdFrame
from tailboard.page.components import load_components, read_static
from tailboard.page.errands import (
    ERRANDS,
    describe_error,
    find_origin,
    load_origin,
    put_saved,
    with_like,
)
from tailboard.page.forms import form_errors, form_values, is_same_job, kept_options, parse_form
from tailboard.page.guard import OriginGuard, ProxyGuard, locate_visitor
from tailboard.page.loads import (
    load_listing,
    load_log,
    load_previous_runs,
    load_saved,
    load_totals,
    read_new_job,
)
from tailboard.page.notify_forms import notify_errors
from tailboard.page.rows import (
    FILTERS,
    INTERVALS,
    STATUSES,
    job_details,
    log_interval,
    must_send_list,
    row_changes,
)
from tailboard.page.saved_forms import (
    as_sentence,
    conflict_errors,
    param_names,
    parse_saved_form,
    run_errors,
    saved_form_errors,
    values_to_start,
)
from tailboard.page.session import replace_session, session
from tailboard.page.settings import PUBLIC_API
from tailboard.page.shapes import (
    Errand,
    Filters,
    HeaderAnswer,
    HeaderResult,
    Job,
    ListChanges,
    Listing,
    NewJob,
    SavedAnswer,
    SavedChange,
    SavedForm,
    SavedResult,
    SavedStart,
    SignInEvent,
    SubmitEvent,
    WantedLog,
)
from tailboard.page.sign_in import refuse, resume, sign_in, sign_in_data, sign_out
from tailboard.page.static_cache import StaticCache

DEFAULT_INTERVAL = "5 s"
JOB_NOT_FOUND = "Job not found. It may have been deleted (jobs are kept for 30 days by default)."
components = load_components()


# --- The visitor ----------------------------------------------------------------------------------


def api_client() -> ApiClient:
    """The API, with the token and from the address of this visitor."""
    return client_with(session().token)


def client_with(token: str) -> ApiClient:
    visitor = locate_visitor(st.context.headers, st.context.ip_address)
    return ApiClient(token, visitor, session().etag_cache)


def component_state(component: str, name: str, fallback: Any) -> Any:
    """A value that a component has set, or that it has sent with the event that is being
    handled."""
    value = st.session_state.get(component, {}).get(name)
    return fallback if value is None else value


def chosen_interval() -> str:
    chosen = component_state("page_header", "interval", DEFAULT_INTERVAL)
    return chosen if chosen in INTERVALS else DEFAULT_INTERVAL


def chosen_filters() -> Filters:
    """The filters of the job list, or those of the page's address until the list has set any."""
    address = {name: st.query_params.get(name, "") for name in FILTERS}
    filters: Filters = component_state("job_list", "filters", address)
    return filters


def wanted_log() -> WantedLog:
    """The log that the pane wants, or that of the page's address until the pane has asked."""
    address = WantedLog(job=st.query_params.get("job", ""), tail=False, stamped=False)
    wanted: WantedLog = component_state("log_pane", "wanted", address)
    return wanted


# --- Events of the header -------------------------------------------------------------------------


def on_submit() -> None:
    """Submit the job that the run form describes, or report what is wrong with the form."""
    event: SubmitEvent = component_state("page_header", "submit", {})
    try:
        client = api_client()
        source = find_origin(client, {"job": event.get("source", "")})
        body, wrong = parse_form(event.get("values", {}), source.get("env"))
        if wrong:
            answer_header(wrong=wrong)
            return
        answer_header(**submit_job(client, body, source), submitted=True)
    except ApiError as error:
        answer_header(wrong=form_errors(error))


def answer_header(**result: Unpack[HeaderResult]) -> None:
    """Set the answer to the last click. Its number tells the header that it is a new one."""
    last = session().answer
    number = last["number"] + 1 if last else 1
    session().answer = HeaderAnswer(number=number, **result)


def submit_job(client: ApiClient, body: Job, source: Job) -> NewJob:
    """Submit a job. If the form was filled from the job `source` and not changed, the new job is a
    rerun of that job; otherwise it has that job's options for which the form has no fields."""
    if source and is_same_job(body, source):
        return rerun_job(client, source["id"])
    kept = kept_options(source)
    path = with_like("/jobs", source["id"]) if kept.get("notify") else "/jobs"
    return post_once(client, path, body | kept)


def rerun_job(client: ApiClient, job_id: str) -> NewJob:
    return post_once(client, f"{job_path(job_id)}/rerun", {})


def post_once(client: ApiClient, path: str, body: Job) -> NewJob:
    """Submit a job. Until the API has answered, the same request is always sent with the same key.
    So a slow API and a second click submit only one job."""
    last = session().unconfirmed
    # A digest, since the body can contain secret values; with a key, since those could be guessed.
    content = json.dumps([path, body], sort_keys=True).encode()
    digest = blake2b(content, key=session().digest_key).hexdigest()
    if last is None or last["digest"] != digest:
        last = {"digest": digest, "key": uuid4().hex}
    session().unconfirmed = last
    new = read_new_job(client.request("POST", path, body=body, key=last["key"]))
    session().unconfirmed = None
    return new


def on_rerun() -> None:
    job_id = component_state("page_header", "rerun", "")
    try:
        answer_header(**rerun_job(api_client(), job_id))
    except ApiError as error:
        answer_failed_rerun(job_id, error)


def answer_failed_rerun(job_id: str, error: ApiError) -> None:
    """Say why the API has not run a job again. If it had secret values, open the form of its saved
    command instead, for the visitor to type them."""
    job: Job = {}
    if error.status == 409:
        with suppress(ApiError):
            job = find_origin(api_client(), {"job": job_id})
    if job.get("secret_params"):
        open_saved_form(job)
    else:
        answer_header(notice=str(error))


def open_saved_form(job: Job) -> None:
    """Open the form of the job's saved command, with the values that are not secret."""
    answer_header(start=SavedStart(name=job["saved"], values=values_to_start(job)))


def on_rerun_after() -> None:
    """Run a job again, and the jobs that were cancelled because of it."""
    job_id = component_state("page_header", "rerun_after", "")
    try:
        path = f"{job_path(job_id)}/rerun"
        answer_header(**post_once(api_client(), path, {"with_after": True}))
    except ApiError as error:
        answer_failed_rerun(job_id, error)


def on_edit() -> None:
    """Fill the run form from a job, for the visitor to change."""
    job_id = component_state("page_header", "edit", "")
    try:
        job = api_client().get_json(job_path(job_id), "id", "command")
        if job.get("secret_params"):  # only a run of its saved command can be given their values
            open_saved_form(job)
        else:
            answer_header(edit=form_values(job), source=job_id)
    except ApiError as error:
        answer_header(notice=str(error))


def on_cancel() -> None:
    job_id = component_state("page_header", "cancel", "")
    try:
        api_client().request("POST", f"{job_path(job_id)}/cancel", body={})
        answer_header(cancelling=job_id)
    except ApiError as error:
        answer_header(notice=str(error))


def on_delete() -> None:
    job_id = component_state("page_header", "delete", "")
    try:
        api_client().request("DELETE", job_path(job_id))
        answer_header(deleted=job_id)
    except ApiError as error:
        answer_header(notice=str(error))


# --- Events of the saved commands -----------------------------------------------------------------


def on_saved_run() -> None:
    """Run a saved command with the values that the visitor has typed."""
    event: SavedChange = component_state("saved_commands", "run", {})
    name, values = str(event.get("name", "")), event.get("values", {})
    try:
        new = post_once(api_client(), f"{saved_path(name)}/run", values)
        answer_saved("run", name, **new)
    except ApiError as error:
        answer_saved("run", name, wrong=run_errors(error, params_of(name)))


def params_of(name: str) -> list[str]:
    """The names of the params of a saved command that the page shows."""
    shown = session().saved or []
    return [each for command in shown if command["saved"] == name for each in param_names(command)]


def on_saved_save() -> None:
    """Save what the form of a saved command describes, or report what is wrong with it."""
    form: SavedForm = component_state("saved_commands", "save", {})
    name, seen = form["saved"], form["seen"]
    try:
        client = api_client()
        body, wrong = parse_saved_form(form, find_origin(client, form["origin"]))
        if wrong:
            answer_saved("save", name, wrong=wrong)
            return
        if put_saved(client, name, body, seen, form["origin"]):
            answer_saved("save", name)
        else:
            answer_saved("save", name, wrong=conflict_errors(name, is_new=not seen), conflict=True)
    except ApiError as error:
        wrong = saved_form_errors(error, param_names(form))
        answer_saved("save", name, wrong=notify_errors(wrong, form["notify"]["rules"]))


def on_saved_pause() -> None:
    """Pause or resume the schedule of a saved command."""
    change: SavedChange = component_state("saved_commands", "pause", {})
    name = str(change.get("name", ""))
    try:
        client = api_client()
        command, seen = load_origin(client, {"saved": name})
        body = command | {"paused": bool(change.get("paused"))}
        client.request("PUT", saved_path(name), body=body, seen=seen)
        answer_saved("pause", name)
    except ApiError as error:
        answer_saved("pause", name, wrong={"": as_sentence(str(error))})


def on_saved_delete() -> None:
    name = str(component_state("saved_commands", "delete", ""))
    try:
        api_client().request("DELETE", saved_path(name))
        answer_saved("delete", name)
    except ApiError as error:
        answer_saved("delete", name, wrong={"": as_sentence(str(error))})


def answer_saved(to: str, name: str, **result: Unpack[SavedResult]) -> None:
    """Set the answer to the last click. Its number tells the component that it is a new one."""
    last = session().saved_answer
    number = last["number"] + 1 if last else 1
    session().saved_answer = SavedAnswer(to=to, name=name, number=number, **result)


# --- Events of the other components ---------------------------------------------------------------


def on_reveal() -> None:
    """Show the value of one environment variable of the job whose log is shown."""
    job_id = wanted_log()["job"]
    name = component_state("log_pane", "reveal", "")
    with suppress(ApiError):
        job = api_client().get_json(job_path(job_id), "env")
        values = session().revealed.get(job_id, {})
        session().revealed = {job_id: values | {name: job["env"].get(name, "")}}


def on_ask() -> None:
    """Do an errand. The answer is its result, or why it failed. The browser sends an errand again
    if the answer takes long."""
    errand: Errand = component_state("errands", "ask", {})
    if session().errand_answer.get("number") == errand["number"]:
        return
    try:
        result = ERRANDS[errand["errand"]](api_client(), errand)
    except ApiError as error:
        result = describe_error(error)
    session().errand_answer = {**result, "number": errand["number"]}


def on_sign_in() -> None:
    """Sign in with the token that the visitor has typed."""
    event: SignInEvent = component_state("sign_in", "sign_in", {})
    sign_in(session(), client_with(str(event.get("token", ""))), bool(event.get("keep")))


def on_resume() -> None:
    """Use the session key that the browser has stored."""
    resume(session(), str(component_state("sign_in", "resume", "")))


def on_sign_out() -> None:
    replace_session(sign_out(session(), api_client()))


def on_leave() -> None:
    """The visitor has signed out in another tab, which had this session's key or no key."""
    if session().token == component_state("sign_in", "leave", ""):
        on_sign_out()


def refresh_only() -> None:
    """For events that need nothing but the refresh that follows every event."""


# --- The list -------------------------------------------------------------------------------------


def show_list(every: float | None) -> None:
    """The header, the job list and the saved commands. Streamlit draws this fragment again every
    `every` seconds."""
    if session().refused:  # the visitor has signed out
        st.rerun()
    state = session()
    client, filters = api_client(), chosen_filters()
    problem = ""
    try:
        state.listing = load_listing(client, filters)
    except Refused as error:
        ask_for_token(error)
    except ApiError as error:
        problem = describe_problem(error)
    update_totals(client, problem)
    show_header(problem, update_sent_list(state.listing, filters))
    show_job_list()
    show_saved(client, problem)
    if INTERVALS[chosen_interval()] != every:
        st.rerun()


def update_totals(client: ApiClient, problem: str) -> None:
    """Load the totals. They stay as they are while the API does not answer."""
    state = session()
    if not problem:
        with suppress(ApiError):
            state.totals = load_totals(client, state.listing, st.context.timezone)


def update_sent_list(listing: Listing, filters: Filters) -> ListChanges:
    """How the listing differs from the list that the job list has received. If it differs too much,
    the job list receives the whole listing.

    The changes refer to that list and not to the last refresh, so it does not matter if a browser
    has missed some of them. Streamlit does not send an unchanged list again.
    """
    state = session()
    rows = listing["rows"]
    changes = row_changes(rows, state.sent_list["rows"])
    if must_send_list(changes, filters, state.sent_list):
        state.sent_list = {"number": uuid4().hex, "filters": filters, "rows": rows}
        changes = row_changes(rows, rows)
    return {
        "rows": changes["rows"],
        "gone": changes["gone"],
        "next": listing["next"],
        "skipped": listing["skipped"],
        "searched": listing["searched"],
        "counts": listing["counts"],
        "more": listing["more"],
        "since": state.sent_list["number"],
        "filters": filters,
    }


def show_header(problem: str, changes: ListChanges) -> None:
    """The header. It also receives the changes of the job list, because its data differs at each
    refresh and is therefore sent each time."""
    state = session()
    data = {
        "statuses": STATUSES,
        "problem": problem,
        "refreshed": time.time(),
        "api": PUBLIC_API,
        "intervals": list(INTERVALS),
        "interval": chosen_interval(),
        "answer": state.answer,
        "changes": changes,
        **state.totals,
    }
    components.page_header(
        key="page_header",
        data=data,
        on_submit_change=on_submit,
        on_rerun_change=on_rerun,
        on_rerun_after_change=on_rerun_after,
        on_edit_change=on_edit,
        on_cancel_change=on_cancel,
        on_delete_change=on_delete,
        on_sign_out_change=on_sign_out,
        on_refresh_change=refresh_only,
        on_interval_change=refresh_only,
    )


def show_job_list() -> None:
    sent = session().sent_list
    components.job_list(
        key="job_list",
        data={"number": sent["number"], "rows": sent["rows"]},
        on_filters_change=refresh_only,
    )


def show_saved(client: ApiClient, problem: str) -> None:
    """The saved commands. The page loads them only while the visitor looks at them."""
    state = session()
    is_wanted = component_state("saved_commands", "wanted", "saved" in st.query_params)
    if is_wanted and not problem:
        try:
            state.saved, state.saved_error = load_saved(client), ""
        except ApiError as error:
            state.saved_error = describe_problem(error)
    components.saved_commands(
        key="saved_commands",
        data={
            "wanted": is_wanted,
            "commands": state.saved,
            "error": state.saved_error,
            "answer": state.saved_answer,
        },
        on_wanted_change=refresh_only,
        on_run_change=on_saved_run,
        on_save_change=on_saved_save,
        on_pause_change=on_saved_pause,
        on_delete_change=on_saved_delete,
    )


# --- The log --------------------------------------------------------------------------------------


def show_log(every: float | None) -> None:
    """The pane with a job and its log. Streamlit draws this fragment again every `every` seconds,
    until the job has ended."""
    state = session()
    wanted = wanted_log()
    tail, previous = None, []
    state.shown_job, state.shown_error = None, ""
    if wanted["job"]:
        client = api_client()
        try:
            state.shown_job, tail = load_log(client, wanted)
            previous = load_previous_runs(client, state.shown_job)
        except ApiError as error:
            state.shown_error = JOB_NOT_FOUND if error.status == 404 else describe_problem(error)
    components.log_pane(
        key="log_pane",
        data={
            "id": wanted["job"],
            "wanted": wanted,
            "job": job_details(state.shown_job) if state.shown_job else None,
            "tail": tail,
            "past": previous,
            "error": state.shown_error,
            "every": INTERVALS[chosen_interval()],
            "revealed": state.revealed.get(wanted["job"], {}),
        },
        on_wanted_change=refresh_only,
        on_ended_change=refresh_only,
        on_reveal_change=on_reveal,
    )
    if shown_interval() != every:
        st.rerun()


def shown_interval() -> float | None:
    """Seconds between refreshes of the log that is shown; None: it is not refreshed."""
    return log_interval(chosen_interval(), session().shown_job, session().shown_error)


# --- The errands, and signing in ------------------------------------------------------------------


def show_errands() -> None:
    """The answer to the last errand. It has a fragment of its own, because it can be large and must
    be sent only once."""
    components.errands(key="errands", data=session().errand_answer, on_ask_change=on_ask)


def ask_for_token(error: Refused) -> None:
    """Draw the page again, with nothing but the component that asks for the token."""
    replace_session(refuse(session(), error.status, str(error)))
    st.rerun()


def show_sign_in() -> None:
    """The component that asks for the token. It covers the page until the visitor is signed in."""
    components.sign_in(
        key="sign_in",
        data=sign_in_data(session()),
        on_sign_in_change=on_sign_in,
        on_resume_change=on_resume,
        on_leave_change=on_leave,
    )


def main() -> None:
    st.set_page_config("Tailboard", "📋", layout="wide")
    st.html(f"<style>{read_static('theme.css')}{read_static('page.css')}</style>")
    show_sign_in()
    if session().refused:
        return
    # The errands come first. The other fragments can end this run by st.rerun, and the browser then
    # removes what was not drawn in it, if an event of another fragment replaces the next run.
    st.fragment(show_errands)()
    list_interval = INTERVALS[chosen_interval()]
    st.fragment(show_list, run_every=list_interval)(list_interval)
    interval = shown_interval()
    st.fragment(show_log, run_every=interval)(interval)


if __name__ == "__main__":
    main()  # Streamlit runs this file for each visit
else:
    # `streamlit run` looks for this name in the source, imports the file once and serves the app.
    app = st.App(
        __file__,
        middleware=[Middleware(each) for each in (ProxyGuard, OriginGuard, ColdFrame, StaticCache)],
    )
