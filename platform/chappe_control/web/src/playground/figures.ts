/** What one answer looks like while it grows. Instants are `performance.now()`, in milliseconds. */
export class Figures {
  readonly startedAt: number;
  tokens = 0;
  #firstAt: number | undefined;
  #lastAt: number | undefined;
  #endedAt: number | undefined;

  constructor(startedAt: number) {
    this.startedAt = startedAt;
  }

  /** One chunk of text is one token; what the usage says at the end counts instead. */
  addToken(now: number): void {
    this.tokens += 1;
    this.#firstAt ??= now;
    this.#lastAt = now;
  }

  end(now: number): void {
    this.#endedAt ??= now;
  }

  elapsedMs(now: number): number {
    return (this.#endedAt ?? now) - this.startedAt;
  }

  get ttftMs(): number | undefined {
    return this.#firstAt === undefined ? undefined : this.#firstAt - this.startedAt;
  }

  /** Between the first token and the last: what came before the first is the TTFT's. */
  get tokensPerS(): number | undefined {
    if (this.#firstAt === undefined || this.#lastAt === undefined || this.#lastAt <= this.#firstAt) return undefined;
    return ((this.tokens - 1) * 1000) / (this.#lastAt - this.#firstAt);
  }
}
