import type { Alpine } from "@alpinejs/csp";

interface Tabs {
  selected: string;
  $el: HTMLElement;
  $root: HTMLElement;
}

const STEPS = new Map([
  ["ArrowRight", 1],
  ["ArrowLeft", -1],
]);

/** The ARIA pattern: arrows, Home and End move among the tabs, and only the selected one is in the tab order. */
export function registerTabs(alpine: Alpine): void {
  alpine.data("tabs", () => ({
    selected: "",
    init(this: Tabs): void {
      this.selected = this.$root.querySelector('[role="tab"][aria-selected="true"]')?.id ?? "";
    },
    select(this: Tabs): void {
      this.selected = this.$el.id;
    },
    isSelected(this: Tabs): string {
      return String(this.selected === this.$el.id);
    },
    order(this: Tabs): string {
      return this.selected === this.$el.id ? "0" : "-1";
    },
    isHidden(this: Tabs): boolean {
      return this.selected !== this.$el.getAttribute("aria-labelledby");
    },
    move(this: Tabs, event: KeyboardEvent): void {
      const tabs = [...this.$root.querySelectorAll<HTMLElement>('[role="tab"]')];
      const present = tabs.findIndex((tab) => tab.id === this.selected);
      const step = STEPS.get(event.key);
      let next: HTMLElement | undefined;
      if (step !== undefined) next = tabs[(present + step + tabs.length) % tabs.length];
      if (event.key === "Home") next = tabs[0];
      if (event.key === "End") next = tabs.at(-1);
      if (!next) return;
      event.preventDefault();
      this.selected = next.id;
      next.focus();
    },
  }));
}
