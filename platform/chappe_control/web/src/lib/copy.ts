import type { Alpine } from "@alpinejs/csp";

const SHOWN_MS = 2000;

interface Copy {
  copied: boolean;
  $root: HTMLElement;
}

/** `x-data="copy"` on a button: copies the text of the element named by `data-copies`. */
export function registerCopy(alpine: Alpine): void {
  alpine.data("copy", () => ({
    copied: false,
    get idle(): boolean {
      return !(this as unknown as Copy).copied;
    },
    async copy(this: Copy): Promise<void> {
      const source = document.getElementById(this.$root.dataset["copies"] ?? "");
      if (!source) return;
      const text = source instanceof HTMLInputElement ? source.value : (source.textContent ?? "");
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // Without the permission the visitor copies by hand: the text is selected already.
        getSelection()?.selectAllChildren(source);
        return;
      }
      this.copied = true;
      setTimeout(() => (this.copied = false), SHOWN_MS);
    },
  }));
}
