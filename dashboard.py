"""The page: run a job, watch its log, see what ran when. `streamlit run dashboard.py`

It knows the API's address and nothing else of ours. Two fragments, which timers in the browser
rerun: the list's goes on, the log's stops once the job shown has ended. A third does errands, which
need the visitor's token. What is drawn is drawn by the modules in static/, which also fetch and
follow logs themselves, by a ticket for reading logs.
In this file: asking the API, what decides (no Streamlit there), the components, the page, and the
server that refuses other sites' pages.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

import streamlit as st
from starlette.middleware import Middleware

from tailboard.page.client import (
    ERRANDS,
    ApiClient,
    ApiError,
    Refused,
    describe_error,
    job_path,
    load_failed_today,
    load_listing,
    load_previous_runs,
    load_saved,
    load_tail,
    load_ticket,
    load_workers,
    saved_path,
)
from tailboard.page.components import load_components, read_static
from tailboard.page.forms import (
    SAVED_FIELDS,
    SAVED_NAME,
    SAVED_NAMES,
    changed_command,
    command_of_job,
    form_errors,
    form_values,
    is_same_job,
    parse_form,
    saved_form_errors,
)
from tailboard.page.guard import OriginGuard, locate_visitor
from tailboard.page.rows import (
    FILTERS,
    INTERVALS,
    STATUSES,
    Job,
    count_slots,
    is_list_to_send,
    job_details,
    list_changes,
    log_interval,
    machines_summary,
)
from tailboard.page.settings import PUBLIC_API

DEFAULT_INTERVAL = "5 s"
components = load_components()


def set_up_session() -> None:
    state = st.session_state
    state.setdefault("token", "")
    state.setdefault("refused", 0)  # the API's 401 or 403
    state.setdefault("etag_cache", {})
    state.setdefault("listing", {"rows": [], "counts": {}, "next": None, "more": False})
    state.setdefault("sent_list", {"number": "", "filters": None, "rows": []})
    state.setdefault("answer", None)  # to the last thing that the visitor wanted
    state.setdefault("saved", None)  # the saved commands, since somebody has looked at them
    state.setdefault("saved_error", "")
    state.setdefault("saved_answer", None)  # to the last thing that was wanted of one
    state.setdefault("shown_job", None)  # the job whose log is shown, as last heard
    state.setdefault("shown_error", "")
    state.setdefault("unsure", {})  # the last submit, while it is not known to have arrived
    state.setdefault("told", {})  # what came of the last errand
    state.setdefault("revealed", {})  # values of a job's environment that were asked for


def api_client() -> ApiClient:
    """The API, as whoever sits before this browser may use it."""
    state = st.session_state
    visitor = locate_visitor(st.context.headers, st.context.ip_address)
    return ApiClient(state["token"], visitor, state["etag_cache"])


def component_state(component: str, name: str, fallback: Any) -> Any:
    """What a component has set, or sent with the event that is being handled."""
    value = st.session_state.get(component, {}).get(name)
    return fallback if value is None else value


def chosen_interval() -> str:
    chosen = component_state("page_header", "interval", DEFAULT_INTERVAL)
    return chosen if chosen in INTERVALS else DEFAULT_INTERVAL


def chosen_filters() -> dict[str, str]:
    address = {name: st.query_params.get(name, "") for name in FILTERS}
    found: dict[str, str] = component_state("job_list", "filters", address)
    return found


def wanted_log() -> dict[str, Any]:
    address = {"job": st.query_params.get("job", ""), "tail": False, "stamped": False}
    found: dict[str, Any] = component_state("log_pane", "wanted", address)
    return found


def submit_form() -> None:
    """Submit what the form holds; or keep it and say what is wrong."""
    sent = component_state("page_header", "submit", {})
    body, wrong = parse_form(sent.get("values", {}))
    if wrong:
        set_answer(wrong=wrong)
        return
    try:
        set_answer(job=submit_job(api_client(), body, sent.get("source", "")), submitted=True)
    except ApiError as error:
        set_answer(wrong=form_errors(error))


def set_answer(**answer: Any) -> None:
    """Tell the header, which takes each answer once, by its number."""
    last = st.session_state["answer"]
    st.session_state["answer"] = answer | {"number": last["number"] + 1 if last else 1}


def submit_job(client: ApiClient, body: Job, source: str) -> str:
    """The ID of the new job, which is a rerun where the form was filled and not changed."""
    if source and is_same_job(body, client.get_json(job_path(source), "id")):
        return rerun_job(client, source)
    return post_once(client, "/jobs", body)


def rerun_job(client: ApiClient, job_id: str) -> str:
    return post_once(client, f"{job_path(job_id)}/rerun", {})


def post_once(client: ApiClient, path: str, body: Job) -> str:
    """The ID of the new job. Until it is known to have arrived, whoever asks for the same again
    does so under the same key, so that a slow API and a second click make one job."""
    submission = {"path": path, "body": body}
    unsure = st.session_state["unsure"]
    if unsure.get("asked") != submission:
        unsure = {"asked": submission, "key": uuid4().hex}
    st.session_state["unsure"] = unsure
    job_id = str(client.post_json(path, body, "id", key=unsure["key"])["id"])
    st.session_state["unsure"] = {}
    return job_id


def on_rerun() -> None:
    try:
        set_answer(job=rerun_job(api_client(), component_state("page_header", "rerun", "")))
    except ApiError as error:
        set_answer(notice=str(error))


def on_edit() -> None:
    """Fill the form from a job, to be changed."""
    job_id = component_state("page_header", "edit", "")
    try:
        values = form_values(api_client().get_json(job_path(job_id), "id", "command"))
        set_answer(edit=values, source=job_id)
    except ApiError as error:
        set_answer(notice=str(error))


def on_cancel() -> None:
    change("POST", f"{job_path(component_state('page_header', 'cancel', ''))}/cancel")


def on_delete() -> None:
    change("DELETE", job_path(component_state("page_header", "delete", "")))


def change(method: str, path: str) -> None:
    try:
        api_client().request(method, path, body={})
    except ApiError as error:
        set_answer(notice=str(error))


def on_saved_run() -> None:
    """Run a saved command with the values that stand in its fields."""
    event = component_state("saved_commands", "run", {})
    name, values = str(event.get("name", "")), event.get("values", {})
    try:
        job_id = post_once(api_client(), f"{saved_path(name)}/run", values)
        answer_saved("run", name, job=job_id)
    except ApiError as error:
        fields = [param["name"] for param in params_of(name)]
        answer_saved("run", name, wrong=saved_form_errors(error, fields))


def params_of(name: str) -> list[Job]:
    """The params of a saved command that the page shows."""
    shown = st.session_state["saved"] or []
    return [param for command in shown if command["saved"] == name for param in command["params"]]


def on_saved_save() -> None:
    """Keep what a job ran under a name."""
    event = component_state("saved_commands", "save", {})
    name = str(event.get("name", ""))
    if not SAVED_NAME.fullmatch(name):
        answer_saved("save", name, wrong={"name": SAVED_NAMES})
        return
    try:
        client = api_client()
        job = client.get_json(job_path(event.get("job", "")), "id", "command")
        client.request("PUT", saved_path(name), body=command_of_job(job, event))
        answer_saved("save", name)
    except ApiError as error:
        answer_saved("save", name, wrong=saved_form_errors(error, SAVED_FIELDS))


def on_saved_change() -> None:
    change_saved("change", component_state("saved_commands", "change", {}), SAVED_FIELDS)


def on_saved_pause() -> None:
    change_saved("pause", component_state("saved_commands", "pause", {}), ())


def change_saved(to: str, changes: Mapping[str, Any], fields: Iterable[str]) -> None:
    """Change the times of a saved command, or defaults of its params; all else of it stays."""
    name = str(changes.get("name", ""))
    try:
        client = api_client()
        command = client.get_json(saved_path(name), "saved", "params")
        client.request("PUT", saved_path(name), body=changed_command(command, changes))
        answer_saved(to, name)
    except ApiError as error:
        answer_saved(to, name, wrong=saved_form_errors(error, fields))


def on_saved_delete() -> None:
    name = str(component_state("saved_commands", "delete", ""))
    try:
        api_client().request("DELETE", saved_path(name))
        answer_saved("delete", name)
    except ApiError as error:
        answer_saved("delete", name, wrong={"": str(error)})


def answer_saved(to: str, name: str, **answer: Any) -> None:
    """Tell the component of the saved commands, which takes each answer once, by its number."""
    last = st.session_state["saved_answer"]
    number = last["number"] + 1 if last else 1
    st.session_state["saved_answer"] = answer | {"to": to, "name": name, "number": number}


def on_reveal() -> None:
    """Show one value of the environment of the job shown."""
    job_id = wanted_log()["job"]
    name = component_state("log_pane", "reveal", "")
    with suppress(ApiError):
        job = api_client().get_json(job_path(job_id), "env")
        values = st.session_state["revealed"].get(job_id, {})
        st.session_state["revealed"] = {job_id: values | {name: job["env"].get(name, "")}}


def on_ask() -> None:
    """Do an errand, and tell what came of it, or why nothing did."""
    errand = component_state("errands", "ask", {})
    try:
        result = ERRANDS[errand["errand"]](api_client(), errand)
    except ApiError as error:
        result = describe_error(error)
    st.session_state["told"] = result | {"number": errand["number"]}


def refresh_only() -> None:
    """The event says that something has changed: the fragment's rerun is the answer."""


def show_list(every: float | None) -> None:
    """The header and the list, which a timer draws again and again."""
    state = st.session_state
    client, filters = api_client(), chosen_filters()
    problem = ""
    try:
        state["listing"] = load_listing(client, filters)
    except Refused as error:
        ask_for_token(error)
    except ApiError as error:
        problem = str(error)
    show_header(client, problem, what_changed(state["listing"], filters))
    sent = state["sent_list"]
    data = {"number": sent["number"], "rows": sent["rows"]}
    components.job_list(key="job_list", data=data, on_filters_change=refresh_only)
    show_saved(client, problem)
    if INTERVALS[chosen_interval()] != every:
        st.rerun()


def what_changed(listing: Mapping[str, Any], filters: dict[str, str]) -> dict[str, Any]:
    """How the list differs from the one that the job list has been given, which is another where
    too much differs. Since that one, and not since the last refresh: so it does not matter whether
    a browser has missed some. What is given again unchanged Streamlit does not send again."""
    state = st.session_state
    rows = listing["rows"]
    changes = list_changes(rows, state["sent_list"]["rows"])
    if is_list_to_send(changes, filters, state["sent_list"]):
        state["sent_list"] = {"number": uuid4().hex, "filters": filters, "rows": rows}
        changes = list_changes(rows, rows)
    totals = {name: listing[name] for name in ("next", "counts", "more")}
    return changes | totals | {"since": state["sent_list"]["number"], "filters": filters}


def show_header(client: ApiClient, problem: str, changes: dict[str, Any]) -> None:
    """The header; its data is another at each refresh, and so tells that there was one. It brings
    what has changed in the list, too."""
    state = st.session_state
    data = {
        "statuses": STATUSES,
        "problem": problem,
        "refreshed": time.time(),
        "api": PUBLIC_API,
        "intervals": list(INTERVALS),
        "interval": chosen_interval(),
        "answer": state["answer"],
        "changes": changes,
    }
    components.page_header(
        key="page_header",
        data=data | load_totals(client, problem),
        on_submit_change=submit_form,
        on_rerun_change=on_rerun,
        on_edit_change=on_edit,
        on_cancel_change=on_cancel,
        on_delete_change=on_delete,
        on_refresh_change=refresh_only,
        on_interval_change=refresh_only,
    )


def show_saved(client: ApiClient, problem: str) -> None:
    """The saved commands, which are asked for while somebody looks at them."""
    state = st.session_state
    is_wanted = component_state("saved_commands", "wanted", "saved" in st.query_params)
    if is_wanted and not problem:
        try:
            state["saved"], state["saved_error"] = load_saved(client), ""
        except ApiError as error:
            state["saved_error"] = str(error)
    components.saved_commands(
        key="saved_commands",
        data={
            "wanted": is_wanted,
            "commands": state["saved"],
            "error": state["saved_error"],
            "answer": state["saved_answer"],
        },
        on_wanted_change=refresh_only,
        on_run_change=on_saved_run,
        on_save_change=on_saved_save,
        on_change_change=on_saved_change,
        on_pause_change=on_saved_pause,
        on_delete_change=on_saved_delete,
    )


def load_totals(client: ApiClient, problem: str) -> dict[str, Any]:
    """How many jobs and workers there are, and the ticket; as last heard while the API is away."""
    state = st.session_state
    if not problem:
        with suppress(ApiError):
            counts = state["etag_cache"]["list"].json()["counts"]
            found = load_workers(client, counts)
            state["totals"] = {
                "counts": counts,
                "paused": state["etag_cache"]["list"].json().get("paused", []),
                "workers": found["workers"],
                "machines": machines_summary(found.get("machines", []), found.get("storage", {})),
                "slots": count_slots(found["workers"]),
                "failed_today": load_failed_today(client, counts, st.context.timezone),
                "ticket": load_ticket(client),
            }
    nothing = {"counts": {}, "workers": [], "machines": "", "failed_today": "", "ticket": ""}
    nothing |= {"paused": [], "slots": count_slots([])}
    totals: dict[str, Any] = state.get("totals", nothing)
    return totals


def show_log(every: float | None) -> None:
    """The pane with a log, which a timer draws again until its job has ended."""
    state = st.session_state
    wanted = wanted_log()
    data: dict[str, Any] = {"id": wanted["job"], "wanted": wanted, "job": None, "tail": None}
    state["shown_job"], state["shown_error"], previous = None, "", []
    if wanted["job"]:
        try:
            state["shown_job"], data["tail"] = load_log(api_client(), wanted)
            previous = load_previous_runs(api_client(), state["shown_job"])
        except ApiError as error:
            state["shown_error"] = str(error)
    if state["shown_job"]:
        data["job"] = job_details(state["shown_job"])
    data |= {"past": previous, "error": state["shown_error"], "every": INTERVALS[chosen_interval()]}
    data["revealed"] = state["revealed"].get(wanted["job"], {})
    components.log_pane(
        key="log_pane",
        data=data,
        on_wanted_change=refresh_only,
        on_ended_change=refresh_only,
        on_reveal_change=on_reveal,
    )
    if shown_interval() != every:
        st.rerun()


def show_errands() -> None:
    """What the browser asks for and waits for, in a fragment of its own: its answers may be large,
    and are sent once."""
    components.errands(key="errands", data=st.session_state["told"], on_ask_change=on_ask)


def load_log(client: ApiClient, wanted: Mapping[str, Any]) -> tuple[Job, dict[str, Any] | None]:
    """The job, and the end of its log where the browser does not get that by itself."""
    job = client.get_json(job_path(wanted["job"]), "id", "status")
    tail = load_tail(client, wanted["job"], wanted["stamped"]) if wanted["tail"] else None
    return job, tail


def shown_interval() -> float | None:
    state = st.session_state
    return log_interval(chosen_interval(), state["shown_job"], state["shown_error"])


def ask_for_token(error: Refused) -> None:
    st.session_state["refused"] = error.status
    st.rerun()


def show_token_form() -> None:
    """Ask for the token, and show nothing else."""
    state = st.session_state
    with st.container(key="token"):
        if state["refused"] == 403:
            st.error(
                "This page is open to other machines only with a token: "
                "set TAILBOARD_TOKEN or TAILBOARD_TOKENS."
            )
        elif state["token"]:
            st.error("That is not the token.")
        with st.form("door"):
            token = st.text_input("Token", type="password")
            if st.form_submit_button("Open"):
                state["token"], state["refused"] = token, 0
                st.rerun()


def main() -> None:
    st.set_page_config("Tailboard", "📋", layout="wide")
    st.html(f"<style>{read_static('page.css')}</style>")
    set_up_session()
    if st.session_state["refused"]:
        show_token_form()
        return
    list_interval = INTERVALS[chosen_interval()]
    st.fragment(show_list, run_every=list_interval)(list_interval)
    interval = shown_interval()
    st.fragment(show_log, run_every=interval)(interval)
    st.fragment(show_errands)()


if __name__ == "__main__":
    main()  # Streamlit runs this file for each visit
else:
    # `streamlit run` finds this name in the source, imports the file once and serves what it holds.
    app = st.App(__file__, middleware=[Middleware(OriginGuard)])
