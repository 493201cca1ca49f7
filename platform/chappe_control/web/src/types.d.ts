// Alpine's CSP build ships no types; this is what we call.
declare module "@alpinejs/csp" {
  export interface Alpine {
    data(name: string, factory: () => object): void;
    start(): void;
    initTree(root: Element): void;
  }
  const alpine: Alpine;
  export default alpine;
}

// Neither does the tool that cuts the font.
declare module "subset-font" {
  interface Options {
    targetFormat: "woff2";
    variationAxes: Record<string, { min: number; max: number }>;
  }
  export default function subsetFont(font: Uint8Array, characters: string, options: Options): Promise<Uint8Array>;
}
