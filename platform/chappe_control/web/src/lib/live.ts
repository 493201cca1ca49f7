// `data-live="/overview/live" data-live-every="3"`: the element's content is fetched again while somebody looks.
import htmx from "htmx.org";

type State = "live" | "paused" | "lost";

const DEFAULT_EVERY_S = 3;
// A control plane that is away gets fewer calls the longer it is.
const MAX_WAIT_S = 30;

/** The button in the page's header: says the state, and stops and starts the updates (WCAG 2.2.2). */
class LiveNote {
  stopped = false;
  readonly #button = document.getElementById("live-note");

  constructor(onStart: () => void) {
    if (!this.#button) return;
    this.#button.hidden = false;
    this.#button.addEventListener("click", () => {
      this.stopped = !this.stopped;
      this.show(this.stopped ? "paused" : "live");
      if (!this.stopped) onStart();
    });
    this.show("live");
  }

  show(state: State): void {
    const button = this.#button;
    if (!button || button.dataset["state"] === state) return;
    button.dataset["state"] = state;
    button.textContent = button.dataset[`text${state[0]?.toUpperCase()}${state.slice(1)}`] ?? "";
    button.setAttribute("aria-pressed", String(state === "paused"));
  }
}

class LiveRegion {
  #failures = 0;
  #timer = 0;

  constructor(
    readonly element: HTMLElement,
    readonly note: LiveNote,
  ) {
    this.#plan();
  }

  async refresh(): Promise<void> {
    clearTimeout(this.#timer);
    if (!this.element.isConnected) return;
    if (this.#mayRefresh()) {
      const isFresh = await this.#fetch();
      this.#failures = isFresh ? 0 : this.#failures + 1;
      // One missed answer is a hiccup that the next one mends.
      if (!this.note.stopped) this.note.show(this.#failures > 1 ? "lost" : "live");
    }
    this.#plan();
  }

  #plan(): void {
    const everyS = Number(this.element.dataset["liveEvery"]) || DEFAULT_EVERY_S;
    const waitS = Math.min(everyS * 2 ** Math.min(this.#failures, 4), Math.max(everyS, MAX_WAIT_S));
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => void this.refresh(), waitS * 1000);
  }

  #mayRefresh(): boolean {
    if (this.note.stopped || document.visibilityState !== "visible") return false;
    // Nothing moves under a dialog or under text that is being selected.
    return !this.element.querySelector("dialog[open]") && !this.#holdsSelection();
  }

  #holdsSelection(): boolean {
    const selection = getSelection();
    return selection !== null && !selection.isCollapsed && this.element.contains(selection.anchorNode);
  }

  async #fetch(): Promise<boolean> {
    let isFresh = false;
    const note = (): void => {
      isFresh = true;
    };
    this.element.addEventListener("htmx:afterSwap", note);
    try {
      const url = this.element.dataset["live"] ?? "";
      await htmx.ajax("get", url, { source: this.element, target: this.element, swap: "morph" });
    } catch {
      isFresh = false;
    } finally {
      this.element.removeEventListener("htmx:afterSwap", note);
    }
    return isFresh;
  }
}

export function startLive(): void {
  const elements = [...document.querySelectorAll<HTMLElement>("[data-live]")];
  if (elements.length === 0) return;
  const regions: LiveRegion[] = [];
  const refreshAll = (): void => regions.forEach((region) => void region.refresh());
  const note = new LiveNote(refreshAll);
  regions.push(...elements.map((element) => new LiveRegion(element, note)));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") refreshAll();
  });
}
