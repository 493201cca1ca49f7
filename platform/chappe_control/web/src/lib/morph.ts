// htmx, and how a fragment replaces what is shown: nodes that stay the same stay themselves, with focus and state.
import htmx from "htmx.org";
import { Idiomorph } from "idiomorph";

// What a visitor did to an element is not the server's to undo.
const VISITORS = new Map<string, Set<string>>([
  ["DETAILS", new Set(["open"])],
  ["DIALOG", new Set(["open"])],
]);

/** Attributes that Alpine set (`:hidden`, `x-show`) and those that a visitor changes keep their present value. */
function isOurs(attribute: string, node: Node): boolean {
  if (!(node instanceof Element)) return false;
  if (attribute === "x-cloak" || (attribute === "style" && node.hasAttribute("x-show"))) return true;
  return node.hasAttribute(`:${attribute}`) || (VISITORS.get(node.tagName)?.has(attribute) ?? false);
}

/** Whether an element is drawn by a script and filled again by it. */
function isDrawn(node: Node): boolean {
  return node instanceof HTMLElement && node.dataset["drawn"] !== undefined;
}

export function startMorph(): void {
  htmx.config.allowEval = false;
  htmx.config.allowScriptTags = false;
  htmx.config.includeIndicatorStyles = false;
  htmx.config.selfRequestsOnly = true;
  // Pages hold a tenant's figures: none of them is kept in the browser's storage.
  htmx.config.historyEnabled = false;
  htmx.config.historyCacheSize = 0;

  htmx.defineExtension("morph", {
    isInlineSwap: (swapStyle) => swapStyle === "morph",
    handleSwap: (swapStyle, target, fragment) => {
      if (swapStyle !== "morph" || !(target instanceof Element)) return false;
      const nodes = fragment instanceof Document ? fragment.body.childNodes : fragment.childNodes;
      return Idiomorph.morph(target, [...nodes], {
        morphStyle: "innerHTML",
        ignoreActiveValue: true,
        restoreFocus: true,
        callbacks: {
          beforeAttributeUpdated: (attribute: string, node: Node) => !isOurs(attribute, node),
          beforeNodeMorphed: (node: Node) => !isDrawn(node),
        },
      }) as Node[];
    },
  });
}
