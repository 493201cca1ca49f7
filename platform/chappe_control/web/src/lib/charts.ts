// Charts, drawn by uPlot from the tables beside them. Loaded by pages that have one.
import "uplot/dist/uPlot.min.css";

import uPlot from "uplot";

import { readTable, stack, type ChartData } from "./chart_data";
import { DASHES, fillOf, Palette } from "./chart_paint";

const HEIGHT = 210;
const DAY_S = 24 * 3600;
const BAR_WIDTH = 0.62;
const MAX_BAR = 56;
/** Of the y axis, in pixels: room for a short number, so that charts beside each other begin alike. */
const LEAST_LABEL = 38;
const AXIS_MARGIN = 14;
const MIN_TICK_DISTANCE = 70;
// Of the axis' font, in px.
const LABEL_CHARACTER = 7;
const LABEL_GAP = 6;
const WHOLE_STEPS = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

const drawn = new WeakMap<Element, Chart>();

/** Draw every chart of the page, and draw those again whose tables a live update changed. */
export function drawCharts(): void {
  for (const figure of document.querySelectorAll<HTMLElement>("[data-chart]")) {
    const known = drawn.get(figure);
    if (known) known.update();
    else drawn.set(figure, new Chart(figure));
  }
}

class Chart {
  readonly #plotElement: HTMLElement;
  readonly #table: HTMLTableElement;
  readonly #isBars: boolean;
  #plot: uPlot | undefined;
  #seen = "";

  constructor(readonly figure: HTMLElement) {
    const plotElement = figure.querySelector<HTMLElement>("[data-drawn]");
    const table = figure.querySelector("table");
    if (!plotElement || !table) throw new Error(`the chart ${figure.id} has no table`);
    this.#plotElement = plotElement;
    this.#table = table;
    this.#isBars = figure.dataset["chart"] === "bars";
    this.update();
    new ResizeObserver(() => this.#resize()).observe(plotElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw(readTable(this.#table)));
  }

  update(): void {
    const content = this.#table.textContent ?? "";
    if (content === this.#seen) return;
    this.#seen = content;
    this.#draw(readTable(this.#table));
  }

  #resize(): void {
    const width = this.#plotElement.clientWidth;
    if (this.#plot && width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #draw(data: ChartData): void {
    this.#plot?.destroy();
    const palette = new Palette(this.#plotElement, data.labels.length);
    const reading = document.createElement("p");
    reading.className = "chart-reading";
    const head = document.createElement("div");
    head.className = "chart-head";
    head.append(this.#legend(data), reading);
    this.#plotElement.replaceChildren(head);
    // Upper bars first, so that the lower ones are drawn over their feet.
    const order = data.labels.map((_, index) => (this.#isBars ? data.labels.length - 1 - index : index));
    const values = this.#isBars ? stack(data.values) : data.values;
    this.#plot = new uPlot(
      {
        width: Math.max(this.#plotElement.clientWidth, 160),
        height: HEIGHT,
        // Half of the last label of the x axis stands out on the right.
        padding: [8, 20, 0, 0],
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { show: !this.#isBars } },
        scales: { x: { time: data.isTime, range: this.#xRange(data) }, y: { range: (_plot, _low, high) => [0, niceTop(high)] } },
        axes: [this.#xAxis(data, palette), yAxis(data, palette)],
        series: [{}, ...order.map((index) => this.#series(index, palette))],
        hooks: { setCursor: [(plot) => (reading.textContent = this.#read(data, plot.cursor.idx))] },
      },
      [data.xs, ...order.map((index) => values[index] ?? [])],
      this.#plotElement,
    );
    reading.textContent = this.#read(data, null);
  }

  #series(index: number, palette: Palette): uPlot.Series {
    const colour = palette.series(index);
    if (this.#isBars) {
      const paths = uPlot.paths.bars?.({ size: [BAR_WIDTH, MAX_BAR] });
      return { stroke: colour, width: 1, fill: () => fillOf(index, colour, palette.ground), points: { show: false }, ...(paths && { paths }) };
    }
    return { stroke: colour, width: 2, dash: DASHES[index % DASHES.length] ?? [], fill: `${palette.faint(index)}`, points: { show: false } };
  }

  #xRange(data: ChartData): uPlot.Range.Function {
    return (_plot, low, high) => {
      if (!data.isTime) return [-0.5, Math.max(data.xs.length - 0.5, 0.5)];
      if (!this.#isBars) return [low, high];
      const half = data.xs.length > 1 ? (high - low) / (data.xs.length - 1) / 2 : 30;
      return [low - half, high + half];
    };
  }

  #xAxis(data: ChartData, palette: Palette): uPlot.Axis {
    const look = { ...axisLook(palette), grid: { show: false }, space: MIN_TICK_DISTANCE, size: 28 };
    if (!data.isTime) {
      // uPlot spaces only what it splits itself.
      const most = Math.max(...data.categories.map((label) => label.length)) * LABEL_CHARACTER + LABEL_GAP;
      return {
        ...look,
        splits: (plot) => {
          const each = Math.ceil((most * data.xs.length * devicePixelRatio) / Math.max(plot.bbox.width, 1));
          return data.xs.filter((_, index) => index % each === 0);
        },
        values: (_plot, splits) => splits.map((at) => data.categories[at] ?? ""),
      };
    }
    const spanS = (data.xs.at(-1) ?? 0) - (data.xs[0] ?? 0);
    const shape: Intl.DateTimeFormatOptions =
      spanS > 2 * DAY_S ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" };
    const format = new Intl.DateTimeFormat(language(), { ...shape, hourCycle: "h23", timeZone: "UTC" });
    return { ...look, values: (_plot, splits) => splits.map((at) => format.format(at * 1000)) };
  }

  #read(data: ChartData, index: number | null | undefined): string {
    const unit = this.figure.dataset["unit"] ?? "";
    if (index === null || index === undefined) return unit;
    const parts = data.labels.map((label, series) => `${label} ${data.texts[series]?.[index] ?? ""}`);
    return [data.categories[index], ...parts].join("  ·  ");
  }

  #legend(data: ChartData): HTMLElement {
    const list = document.createElement("ul");
    list.className = "chart-legend";
    data.labels.forEach((label, index) => {
      const item = document.createElement("li");
      item.append(swatch(index, this.#isBars), label);
      list.append(item);
    });
    list.hidden = data.labels.length < 2;
    return list;
  }
}

function swatch(index: number, isBar: boolean): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 12");
  svg.setAttribute("class", `series-${(index % 6) + 1}`);
  const add = (d: string, attributes: Record<string, string>): void => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    for (const [name, value] of Object.entries({ d, stroke: "currentColor", fill: "none", ...attributes })) path.setAttribute(name, value);
    svg.append(path);
  };
  if (!isBar) {
    add("M0 6H24", { "stroke-width": "2.5", "stroke-dasharray": (DASHES[index % DASHES.length] ?? []).join(" ") });
  } else if (index === 0) {
    add("M4 0H20V12H4Z", { fill: "currentColor" });
  } else {
    add("M4.500 .5H19.500V11.500H4.500Z", {});
    add(index % 2 === 1 ? "M5 8 12 1M5 11.500 16 .5M10 11.500 19.500 2M15.500 11.500 19.500 7.500" : "M7 3h2M12 3h2M17 3h1M7 8h2M12 8h2M17 8h1", { "stroke-width": "1.5" });
  }
  return svg;
}

/** How wide the widest label is, in CSS pixels: the first hours of a small tenant are millionths, and must not be cut. */
function widthOf(plot: uPlot, labels: string[], font: string): number {
  plot.ctx.save();
  plot.ctx.font = font;
  const widest = Math.max(LEAST_LABEL, ...labels.map((label) => plot.ctx.measureText(label).width));
  plot.ctx.restore();
  return Math.ceil(widest);
}

function yAxis(data: ChartData, palette: Palette): uPlot.Axis {
  const format = new Intl.NumberFormat(language(), { notation: "compact", maximumSignificantDigits: 3 });
  return {
    ...axisLook(palette),
    grid: { stroke: palette.grid, width: 1 },
    size: (plot, labels) => widthOf(plot, labels ?? [], palette.font) + AXIS_MARGIN,
    // Half a request is nothing that anybody sent.
    ...(data.values.flat().every((value) => Number.isInteger(value ?? 0)) && { incrs: WHOLE_STEPS }),
    values: (_plot, splits) => splits.map((value) => format.format(value)),
  };
}

function axisLook(palette: Palette): uPlot.Axis {
  return { stroke: palette.text, font: palette.font, ticks: { show: false }, gap: 6 };
}

/** A little room above the highest value, and a scale even when everything is zero. */
function niceTop(high: number | null): number {
  return high && high > 0 ? high * 1.08 : 1;
}

function language(): string {
  return document.documentElement.lang || "en";
}
