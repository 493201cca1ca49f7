import type { Alpine } from "@alpinejs/csp";

/** `x-data="toast"`: a message that stays until it is dismissed, since not everybody reads within seconds. */
export function registerToast(alpine: Alpine): void {
  alpine.data("toast", () => ({
    dismiss(this: { $root: HTMLElement }): void {
      this.$root.remove();
    },
  }));
}
