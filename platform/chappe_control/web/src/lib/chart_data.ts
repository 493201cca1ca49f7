/** What a chart draws: read from the table beside it, which is the one source for eyes, screen readers and script. */
export interface ChartData {
  labels: string[];
  /** Seconds since 1970 when `isTime`, else the categories' indices. */
  xs: number[];
  categories: string[];
  isTime: boolean;
  values: (number | null)[][];
  texts: string[][];
}

export function readTable(table: HTMLTableElement): ChartData {
  const labels = [...table.querySelectorAll("thead th")].slice(1).map((cell) => cell.textContent?.trim() ?? "");
  const rows = [...table.querySelectorAll("tbody tr")].map((row) => [...row.children] as HTMLElement[]);
  const isTime = rows.some((row) => row[0]?.querySelector("time"));
  return {
    labels,
    isTime,
    xs: rows.map((row, index) => (isTime ? Number(row[0]?.dataset["value"]) : index)),
    categories: rows.map((row) => row[0]?.textContent?.trim() ?? ""),
    values: labels.map((_, series) => rows.map((row) => toNumber(row[series + 1]?.dataset["value"]))),
    texts: labels.map((_, series) => rows.map((row) => row[series + 1]?.textContent?.trim() ?? "")),
  };
}

/** Sums from the first series up, so that stacked bars stand on each other. */
export function stack(values: (number | null)[][]): number[][] {
  const sums: number[][] = [];
  values.forEach((series, index) => {
    sums.push(series.map((value, place) => (value ?? 0) + (sums[index - 1]?.[place] ?? 0)));
  });
  return sums;
}

function toNumber(text: string | undefined): number | null {
  return text ? Number(text) : null;
}
