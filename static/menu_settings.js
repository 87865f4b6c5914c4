/* The settings in the page's menu, which this browser stores: the theme and single-key
   shortcuts. */

import { setHtml } from "./dom.js";
import { areSingleKeysOn, setSingleKeys } from "./shortcuts.js";
import { chosenTheme, setTheme, THEMES } from "./theme.js";

export class MenuSettings {
  /** `find(name)` returns a node of the header by its class. */
  constructor(find) {
    this.find = find;
    find("page-menu").addEventListener("beforetoggle", () => this.draw());
    find("themes").addEventListener("change", (event) => setTheme(event.target.value));
    find("single-keys").addEventListener("change", (event) => setSingleKeys(event.target.checked));
  }

  draw() {
    const choices = Object.entries(THEMES).map(([theme, label]) => {
      const checked = theme === chosenTheme() ? "checked" : "";
      return `<label><input type="radio" name="theme" value="${theme}" ${checked}>${label}</label>`;
    });
    setHtml(this.find("themes"), `<legend>Theme</legend>${choices.join("")}`);
    this.find("single-keys").checked = areSingleKeysOn();
  }
}
