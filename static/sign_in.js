/* Signing in. While the visitor is not signed in, this component covers the page: it first offers
   the session key that the browser has stored, and shows a form if there is none or the API refuses
   it. While the visitor is signed in, it draws nothing. */

import { removeFrame } from "./cold_frame.js";
import { closeWhenRemoved } from "./dom.js";
import { page, readSetting, writeSetting } from "./page_state.js";
import { forgetSession, onSessionChange, storedSession, storeSession } from "./stored_session.js";

const TOKEN_ENDED = "Your token no longer works.";
const SESSION_EXPIRED = "You were signed in for 30 days. Sign in again.";
const WRONG = "sign-in-wrong"; // a setting of this tab: the error to show after a reload

class SignIn {
  constructor(root) {
    this.root = root;
    this.data = null;
    this.offered = ""; // the stored key that the server is trying; none is offered twice
    this.reason = ""; // why another tab has ended the session
    this.answered = null; // number of the last answer that was handled; Streamlit repeats it
    this.find("sign-in-form").addEventListener("submit", (event) => this.submit(event));
    this.find("sign-in-token").addEventListener("input", () => this.showWrong(""));
    onSessionChange((old, now, reason) => this.onOtherTab(old, now, reason));
  }

  find(name) {
    return this.root.querySelector(`.${name}`);
  }

  update(component) {
    this.component = component;
    this.data = component.data;
    if (this.data.number === this.answered) {
      return;
    }
    this.answered = this.data.number;
    this.find("sign-in-submit").textContent = "Sign in";
    if (this.data.asks) {
      this.ask();
      return;
    }
    this.offered = "";
    this.find("sign-in").hidden = true;
    this.find("sign-in-token").value = "";
    if (this.data.keep) {
      storeSession(this.data.keep);
    }
  }

  /** Offers the stored key, or else shows the form. */
  ask() {
    const stored = storedSession();
    const isUsable = this.data.can_sign_in && stored?.key !== this.data.rejected;
    if (stored && isUsable && stored.key !== this.offered) {
      this.offer(stored);
      return;
    }
    let wrong = this.data.wrong || this.reason;
    if (stored && stored.key === this.data.rejected) {
      wrong = describeEnd(stored);
      forgetSession(wrong);
    }
    if (page.listed !== null) {
      reload(wrong);
    } else {
      this.showForm(wrong || takeWrong());
    }
  }

  offer({ key }) {
    this.offered = key;
    this.component.setTriggerValue("resume", key);
  }

  showForm(wrong) {
    removeFrame();
    const { message, can_sign_in: canSignIn } = this.data;
    this.find("sign-in-message").textContent = message;
    this.find("sign-in-fields").hidden = !canSignIn;
    this.find("sign-in").hidden = false;
    this.showWrong(wrong);
    this.find("sign-in-token").focus();
    this.find("sign-in-token").select();
  }

  showWrong(wrong) {
    this.find("sign-in-wrong").textContent = wrong;
    this.find("sign-in-token").setAttribute("aria-invalid", String(wrong !== ""));
  }

  submit(event) {
    event.preventDefault();
    const token = this.find("sign-in-token").value.trim();
    if (!token) {
      this.showWrong("Enter your token.");
      return;
    }
    this.reason = "";
    this.showWrong("");
    this.find("sign-in-submit").textContent = "Signing in…";
    const keep = this.find("sign-in-keep").checked;
    this.component.setTriggerValue("sign_in", { token, keep });
  }

  /** Another tab has signed in or out: this one does the same. */
  onOtherTab(old, now, reason) {
    if (!this.root.isConnected || !this.data) {
      return;
    }
    if (this.data.asks && now) {
      this.ask();
    } else if (!this.data.asks && old && !now) {
      this.reason = reason;
      this.component.setTriggerValue("leave", old.key);
    }
  }

  close() {
    this.data = null;
  }
}

/** Why the API refuses a stored session. */
function describeEnd({ expires_at: end }) {
  return Date.parse(end) <= Date.now() ? SESSION_EXPIRED : TOKEN_ENDED;
}

/** Loads the page again, so that nothing is left in it of what the visitor has seen. */
function reload(wrong) {
  writeSetting(WRONG, wrong, "sessionStorage");
  location.reload();
}

/** The error that the page had before it was loaded again. */
function takeWrong() {
  const wrong = readSetting(WRONG, "", "sessionStorage");
  writeSetting(WRONG, "", "sessionStorage");
  return wrong;
}

export default function mountSignIn(component) {
  const root = component.parentElement;
  root.signIn ??= new SignIn(root);
  root.signIn.update(component);
  return closeWhenRemoved(root, root.signIn);
}
