/** Colours as the page's theme has them now, and what tells series apart without colour: dashes and patterns. */
export const DASHES: number[][] = [[], [7, 4], [2, 3], [10, 3, 2, 3], [14, 4], [4, 2]];

const SERIES = 6;
const TILE = 8;

export class Palette {
  readonly text: string;
  readonly grid: string;
  readonly ground: string;
  readonly font: string;
  readonly #series: string[];

  constructor(near: HTMLElement, count: number) {
    // A probe has the browser resolve light-dark() and custom properties: what it computes are plain colours.
    const probe = document.createElement("span");
    probe.hidden = true;
    near.append(probe);
    const colourOf = (className: string): string => {
      probe.className = className;
      return getComputedStyle(probe).color;
    };
    this.text = colourOf("chart-text");
    this.grid = colourOf("chart-grid");
    this.ground = colourOf("chart-ground");
    this.#series = Array.from({ length: count }, (_, index) => colourOf(`series-${(index % SERIES) + 1}`));
    this.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    probe.remove();
  }

  series(index: number): string {
    return this.#series[index] ?? this.text;
  }

  faint(index: number): string {
    return this.series(index).replace(/^rgb\((.*)\)$/, "rgba($1, 0.1)");
  }
}

/** Series 1 is solid, the others are hatched or dotted over the card's ground. */
export function fillOf(index: number, colour: string, ground: string): CanvasPattern | string {
  if (index === 0) return colour;
  const tile = document.createElement("canvas");
  tile.width = tile.height = TILE * devicePixelRatio;
  const context = tile.getContext("2d");
  if (!context) return colour;
  context.scale(devicePixelRatio, devicePixelRatio);
  context.fillStyle = ground;
  context.fillRect(0, 0, TILE, TILE);
  context.strokeStyle = context.fillStyle = colour;
  if (index % 2 === 1) hatch(context);
  else context.fillRect(2, 2, 3, 3);
  return context.createPattern(tile, "repeat") ?? colour;
}

function hatch(context: CanvasRenderingContext2D): void {
  context.lineWidth = 2;
  for (const shift of [-TILE, 0, TILE]) {
    context.beginPath();
    context.moveTo(shift, TILE);
    context.lineTo(shift + TILE, 0);
    context.stroke();
  }
}
