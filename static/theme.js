/* The theme that this browser has chosen: the system's, light or dark. It is an attribute of the
   document, which the style sheets read. cold_frame.html sets it before anything is drawn. */

import { readSetting, writeSetting } from "./page_state.js";

const SETTING = "theme";
export const THEMES = { system: "System", light: "Light", dark: "Dark" }; // with their labels

export function chosenTheme() {
  const theme = readSetting(SETTING, "system");
  return theme in THEMES ? theme : "system";
}

export function setTheme(theme) {
  writeSetting(SETTING, theme);
  applyTheme();
}

function applyTheme() {
  document.documentElement.dataset.theme = chosenTheme();
}

applyTheme();
addEventListener("storage", applyTheme); // another tab has changed it
