/* A press of a pointer on a part of the page. The part must not be drawn again until the click has
   arrived: a browser drops the click if its target is replaced. */

export class Press {
  /** Calls `onEnd` after each press on this node, and after its click. */
  constructor(node, onEnd) {
    this.isHeld = false; // drawing must wait
    let hasBegun = false;
    node.addEventListener("pointerdown", () => {
      this.isHeld = true;
      hasBegun = true;
    });
    const end = () => {
      if (hasBegun) {
        hasBegun = false;
        this.isHeld = false;
        onEnd();
      }
    };
    this.onPointerUp = () => setTimeout(end, 0); // after the click
    addEventListener("pointerup", this.onPointerUp);
    addEventListener("pointercancel", this.onPointerUp);
  }

  close() {
    removeEventListener("pointerup", this.onPointerUp);
    removeEventListener("pointercancel", this.onPointerUp);
  }
}
