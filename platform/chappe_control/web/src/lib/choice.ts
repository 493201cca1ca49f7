import type { Alpine } from "@alpinejs/csp";

interface Choice {
  chosen: string;
  $el: HTMLElement;
  $root: HTMLElement;
}

/** `x-data="choice"`: a `<select @change="choose">`, and elements with `data-choice` of which only the chosen shows. */
export function registerChoice(alpine: Alpine): void {
  alpine.data("choice", () => ({
    chosen: "",
    init(this: Choice): void {
      // A browser that goes back to the page may have kept another choice.
      this.chosen = this.$root.querySelector("select")?.value ?? "";
    },
    choose(this: Choice): void {
      if (this.$el instanceof HTMLSelectElement) this.chosen = this.$el.value;
    },
    isHidden(this: Choice): boolean {
      return this.$el.dataset["choice"] !== this.chosen;
    },
  }));
}
