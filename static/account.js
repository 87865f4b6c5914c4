/* Who is signed in, and signing out: a part of the page's menu. */

import { page } from "./page_state.js";
import { forgetSession } from "./stored_session.js";

export class Account {
  /** `find(name)` returns a node of the header by its class. */
  constructor(find) {
    this.find = find;
    find("sign-out").addEventListener("click", () => signOut());
  }

  draw({ name, signed_in: isSignedIn }) {
    this.find("account").hidden = !isSignedIn;
    this.find("account-name").textContent = name ? `Signed in as ${name}` : "Signed in";
  }
}

function signOut() {
  forgetSession(); // first: the page's server may be away
  page.act("sign_out", Date.now());
}
