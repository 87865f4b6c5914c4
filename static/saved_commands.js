/* The component that receives the saved commands and sends the visitor's actions on them. It shows
   the form of a saved command. */

import { closeWhenRemoved } from "./dom.js";
import { SaveDialog } from "./saved_editor.js";
import { saved } from "./saved_state.js";

export default function mountSavedCommands(component) {
  const root = component.parentElement;
  root.saveDialog ??= new SaveDialog(root);
  saved.receive(component);
  return closeWhenRemoved(root, root.saveDialog);
}
