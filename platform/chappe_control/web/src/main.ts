// The script of every page. Without it pages still read and forms still post; it adds what needs a browser.
import "./assets/favicon.svg";
import "./styles/main.scss";

import Alpine from "@alpinejs/csp";

import { registerChoice } from "./lib/choice";
import { registerCopy } from "./lib/copy";
import { startDialogs } from "./lib/dialogs";
import { startFocus } from "./lib/focus";
import { startLive } from "./lib/live";
import { startMorph } from "./lib/morph";
import { registerTabs } from "./lib/tabs";
import { registerToast } from "./lib/toast";

startMorph();
registerChoice(Alpine);
registerCopy(Alpine);
registerTabs(Alpine);
registerToast(Alpine);
Alpine.start();
startDialogs();
startFocus();
startLive();

/** Only pages with a chart load what draws them; a live update may bring the first one. */
function drawCharts(): void {
  if (document.querySelector("[data-chart]")) void import("./lib/charts").then((charts) => charts.drawCharts());
}

drawCharts();
document.addEventListener("htmx:afterSettle", drawCharts);
