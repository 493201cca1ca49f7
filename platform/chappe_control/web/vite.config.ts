import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import subsetFont from "subset-font";
import { defineConfig, type Plugin } from "vite";

// Where the control plane serves the files from; see chappe_control/pages/assets.py.
const BASE = "/static/";
const OUT = process.env["CHAPPE_STATIC_DIR"] ?? "../static";
// Every page loads `main`; the others are loaded by the page that they are named after.
const ENTRIES = ["main", "playground"].map((name) => `src/${name}.ts`).filter(existsSync);
const COMPRESSIBLE = /\.(js|css|svg)$/;

/** Compress once, here and as well as possible, so that the server never does it for a request. */
function precompress(): Plugin {
  return {
    name: "chappe-precompress",
    apply: "build",
    closeBundle() {
      for (const name of readdirSync(OUT)) {
        if (!COMPRESSIBLE.test(name)) continue;
        const file = join(OUT, name);
        const content = readFileSync(file);
        const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
        writeFileSync(`${file}.br`, brotliCompressSync(content, { params }));
        writeFileSync(`${file}.gz`, gzipSync(content, { level: constants.Z_BEST_COMPRESSION }));
      }
    },
  };
}

/** Cut Inter to Latin-1 and what typographers of our languages use, and to the two weights between which we vary. */
function subsetInter(): Plugin {
  const range = (first: number, last: number) =>
    Array.from({ length: last - first + 1 }, (_, index) => String.fromCodePoint(first + index)).join("");
  const characters = range(0x20, 0x7e) + range(0xa0, 0xff) + "ŒœŸ€–—‘’‚“”„…•·→←↑↓−×≤≥‹›\u2009\u202f";
  return {
    name: "chappe-subset-inter",
    async buildStart() {
      const whole = readFileSync("node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2");
      const variationAxes = { wght: { min: 400, max: 600 } };
      mkdirSync(".cache", { recursive: true });
      writeFileSync(".cache/inter.woff2", await subsetFont(whole, characters, { targetFormat: "woff2", variationAxes }));
    },
  };
}

/** The licences of what is inside the built files, beside them. */
function licences(): Plugin {
  const names = ["@alpinejs/csp", "@fontsource-variable/inter", "@tabler/core", "htmx.org", "idiomorph", "uplot"];
  return {
    name: "chappe-licences",
    generateBundle() {
      const texts = names.map((name) => `${name}\n\n${licenceOf(name)}`);
      this.emitFile({ type: "asset", fileName: "licences.txt", source: texts.join(`\n${"-".repeat(80)}\n`) });
    },
  };
}

function licenceOf(name: string): string {
  const folder = join("node_modules", name);
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (file) return readFileSync(join(folder, file), "utf8");
  const { license, homepage } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Record<string, string>;
  return `${license}${homepage ? `, ${homepage}` : ""}\n`;
}

/** Take htmx's one `eval` out: the policy forbids it, our settings switch it off, and it keeps names from being cut. */
function withoutEval(): Plugin {
  return {
    name: "chappe-without-eval",
    transform(code, id) {
      if (!id.endsWith("/htmx.esm.js")) return null;
      const parts = code.split("return eval(str)");
      if (parts.length !== 2) throw new Error("htmx changed: look where it evaluates text now");
      return { code: parts.join("return undefined"), map: null };
    },
  };
}

export default defineConfig({
  base: BASE,
  publicDir: false,
  plugins: [subsetInter(), withoutEval(), licences(), precompress()],
  css: {
    preprocessorOptions: { scss: { quietDeps: true } },
  },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    manifest: "manifest.json",
    assetsDir: "",
    // data: URLs would be allowed for images only, and a hashed file is cached for good.
    assetsInlineLimit: 0,
    // The first versions with light-dark(), which the themes are made of.
    target: ["chrome123", "firefox120", "safari17.5"],
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: { input: ENTRIES },
  },
});
