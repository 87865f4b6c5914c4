/* Who is signed in, and signing out: a part of the page's menu. */

import { roleText } from "./access.js";
import { page } from "./page_state.js";
import { forgetSession } from "./stored_session.js";

export class Account {
  /** `find(name)` returns a node of the header by its class. */
  constructor(find) {
    this.find = find;
    find("sign-out").addEventListener("click", () => signOut());
  }

  draw({ name, signed_in: isSignedIn, by_proxy: isByProxy }) {
    this.find("account").hidden = !isSignedIn;
    this.find("sign-out").hidden = isByProxy; // the proxy keeps people signed in
    const who = name ? `Signed in as ${name}` : "Signed in";
    const limits = roleText();
    this.find("account-name").textContent = limits ? `${name || who} · ${limits}` : who;
  }
}

function signOut() {
  forgetSession(); // first: the page's server may be away
  page.act("sign_out", Date.now());
}
