// Amounts are whole nanos (1 EUR = 10⁹) in a BigInt, as everywhere in Chappe: no float ever touches them.

const NANO_DECIMALS = 9;
const NANO_PER_UNIT = 10n ** 9n;
const TOKENS_PER_PRICE = 1_000_000n;

/** Nanos per unit. */
export interface Price {
  readonly input: bigint;
  readonly cachedInput: bigint;
  readonly output: bigint;
  readonly request: bigint;
}

/** `cached` tokens are a part of `prompt`. */
export interface Counts {
  readonly prompt: number;
  readonly cached: number;
  readonly completion: number;
}

/** The exact price of one request: the same sum as `chappe_kernel.rating.rate`. */
export function cost(price: Price, counts: Counts): bigint {
  return (
    BigInt(counts.prompt - counts.cached) * price.input +
    BigInt(counts.cached) * price.cachedInput +
    BigInt(counts.completion) * price.output +
    price.request
  );
}

/** The last price that has started; `prices` ascend by their start. */
export function priceInForce<P extends { readonly startsInS: number }>(prices: readonly P[], elapsedS: number): P | undefined {
  return prices.findLast((price) => price.startsInS <= elapsedS);
}

/** `0.000003360`: exact, with nine decimals. */
export function decimal(nano: bigint): `${number}` {
  const sign = nano < 0n ? "-" : "";
  const size = nano < 0n ? -nano : nano;
  const fraction = String(size % NANO_PER_UNIT).padStart(NANO_DECIMALS, "0");
  return `${sign}${size / NANO_PER_UNIT}.${fraction}` as `${number}`;
}

/** As the portal's pages show amounts: at least two decimals, as many as it takes, at most nine. */
export function formatAmount(nano: bigint, currency: string, locale: string): string {
  const format = new Intl.NumberFormat(locale, {
    style: "currency",
    currency,
    minimumFractionDigits: 2,
    maximumFractionDigits: NANO_DECIMALS,
  });
  // As text: its digits are taken as they stand, where a number would be rounded to a double first.
  return format.format(decimal(nano));
}

export function formatPerMillion(nanoPerToken: bigint, currency: string, locale: string): string {
  return formatAmount(nanoPerToken * TOKENS_PER_PRICE, currency, locale);
}
