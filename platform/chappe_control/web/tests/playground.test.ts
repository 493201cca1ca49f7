// The playground's rules without a browser: `node --test tests/`. Random cases come from a seed that failures show.
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { EventReader } from "../src/playground/events.ts";
import { Figures } from "../src/playground/figures.ts";
import { cost, decimal, formatAmount, formatPerMillion, priceInForce } from "../src/playground/money.ts";
import { asCurl, asJavaScript, asPython, quoteForShell, type ChatCall } from "../src/playground/snippets.ts";

const SPLITS = 2000;
const PRICE = { input: 60n, cachedInput: 15n, output: 210n, request: 7n };

/** mulberry32: the same numbers from the same seed, everywhere. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function pieces(bytes: Uint8Array, random: (below: number) => number): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = random(4) === 0 ? 0 : 1 + random(random(3) === 0 ? bytes.length : 5);
    found.push(bytes.subarray(at, at + size));
    at += size;
  }
  return found;
}

function read(parts: Uint8Array[]): string[] {
  const reader = new EventReader();
  return parts.flatMap((part) => reader.feed(part));
}

describe("a stream of events", () => {
  const events = ['{"a":"é 😀 \\n"}', "two\nlines", "", " leading blank", "last\u2028one", "[DONE]"];
  for (const end of ["\n", "\r\n", "\r"]) {
    it(`reads the same whatever its pieces, with lines that end in ${JSON.stringify(end)}`, () => {
      const text = events
        .map((data) => [`: comment${end}`, `event: x${end}`, ...data.split("\n").map((line) => `data: ${line}${end}`)].join("") + end)
        .join("");
      const bytes = new TextEncoder().encode(text);
      assert.deepEqual(read([bytes]), events);
      for (let seed = 0; seed < SPLITS; seed += 1) {
        assert.deepEqual(read(pieces(bytes, randomFrom(seed))), events, `seed ${seed}`);
      }
      assert.deepEqual(read([...bytes].map((byte) => Uint8Array.of(byte))), events);
    });
  }

  it("mixes line ends as the standard allows", () => {
    const bytes = new TextEncoder().encode("data: a\rdata: b\r\n\ndata:c\n\r\n");
    for (let seed = 0; seed < SPLITS; seed += 1) {
      assert.deepEqual(read(pieces(bytes, randomFrom(seed))), ["a\nb", "c"], `seed ${seed}`);
    }
  });

  it("gives nothing for an event that is not finished, for other fields and for a byte order mark", () => {
    const encode = (text: string): Uint8Array[] => [new TextEncoder().encode(text)];
    assert.deepEqual(read(encode("data: a")), []);
    assert.deepEqual(read(encode("data: a\n")), []);
    assert.deepEqual(read(encode("id: 1\nretry: 5\ndatum: x\n\n")), []);
    assert.deepEqual(read(encode("\ufeffdata: a\n\n")), ["a"]);
    assert.deepEqual(read(encode("data\n\n")), [""]);
  });
});

describe("money", () => {
  it("costs what the rating says", () => {
    assert.equal(cost(PRICE, { prompt: 100, cached: 40, completion: 10 }), 60n * 60n + 40n * 15n + 10n * 210n + 7n);
    assert.equal(cost(PRICE, { prompt: 0, cached: 0, completion: 0 }), 7n);
  });

  it("is exact where a double is not", () => {
    const price = { ...PRICE, output: 9_007_199_254_740_993n };
    assert.equal(cost(price, { prompt: 0, cached: 0, completion: 3 }), 27_021_597_764_222_986n);
    assert.equal(formatAmount(9_007_199_254_740_993n, "EUR", "en-GB"), "€9,007,199.254740993");
  });

  it("is written as the locale does, with two to nine decimals", () => {
    const spaced = (text: string): string => text.replaceAll(/\s/g, " ");
    assert.equal(spaced(formatAmount(3_360n, "EUR", "fr-FR")), "0,00000336 €");
    assert.equal(spaced(formatAmount(1_234_500_000_000n, "EUR", "de-DE")), "1.234,50 €");
    assert.equal(formatAmount(0n, "EUR", "en-GB"), "€0.00");
    assert.equal(formatAmount(1n, "EUR", "en-GB"), "€0.000000001");
    assert.equal(formatPerMillion(60n, "EUR", "en-GB"), "€0.06");
  });

  it("survives the way to a decimal and back", () => {
    const random = randomFrom(7);
    for (let round = 0; round < 1000; round += 1) {
      const nano = BigInt(random(2 ** 31)) ** BigInt(1 + random(3)) * (random(2) === 0 ? 1n : -1n);
      const [whole = "", fraction = ""] = decimal(nano).replace("-", "").split(".");
      assert.equal(fraction.length, 9);
      assert.equal((nano < 0n ? -1n : 1n) * (BigInt(whole) * 10n ** 9n + BigInt(fraction)), nano);
    }
  });

  it("is under the last price that has started", () => {
    const prices = [{ startsInS: -100 }, { startsInS: 30 }, { startsInS: 60 }];
    assert.equal(priceInForce(prices, 0), prices[0]);
    assert.equal(priceInForce(prices, 29.9), prices[0]);
    assert.equal(priceInForce(prices, 30), prices[1]);
    assert.equal(priceInForce(prices, 1000), prices[2]);
    assert.equal(priceInForce([{ startsInS: 5 }], 0), undefined);
  });
});

describe("figures", () => {
  it("counts time to the first token apart from the speed after it", () => {
    const figures = new Figures(1000);
    assert.deepEqual([figures.ttftMs, figures.tokensPerS, figures.elapsedMs(1200)], [undefined, undefined, 200]);
    figures.addToken(1250);
    assert.deepEqual([figures.ttftMs, figures.tokensPerS, figures.tokens], [250, undefined, 1]);
    figures.addToken(1350);
    figures.addToken(1450);
    figures.end(1500);
    figures.end(9000);
    assert.deepEqual([figures.ttftMs, figures.tokensPerS, figures.elapsedMs(9999)], [250, 10, 500]);
  });

  it("has no speed for tokens that came at once", () => {
    const figures = new Figures(0);
    figures.addToken(5);
    figures.addToken(5);
    assert.equal(figures.tokensPerS, undefined);
  });
});

describe("code", () => {
  const call: ChatCall = {
    gatewayUrl: "http://127.0.0.1:8411",
    region: "fr-par",
    body: {
      model: "m",
      messages: [{ role: "user", content: `it's "$HOME" \`x\` \\ !\n\ttab é 😀 ${"\u2028"}` }],
      temperature: 0.7,
      stream: true,
      stream_options: { include_usage: true },
    },
  };

  it("quotes any text as one word", () => {
    assert.equal(quoteForShell("it's"), `'it'\\''s'`);
    assert.equal(quoteForShell(""), "''");
  });

  it("has the whole call, and no key", () => {
    for (const text of [asCurl(call), asPython(call), asJavaScript(call)]) {
      assert.match(text, /http:\/\/127\.0\.0\.1:8411\/v1/);
      assert.match(text, /x-chappe-region/);
      assert.match(text, /fr-par/);
      assert.match(text, /temperature/);
      assert.match(text, /CHAPPE_API_KEY/);
      assert.doesNotMatch(text, /top_p|max_tokens|ck_/);
    }
  });
});
