// What the playground asks of the portal: a token, the offers, what a request came to. Never a prompt.

// No answer runs longer than its grant lets it (180 s), nor than its token: one that begins now shall reach its end.
const RENEW_BEFORE_MS = 200_000;

/** Nobody is signed in any more. */
export class SessionOver extends Error {}

/** The portal does not answer, or cannot do it now. */
export class PortalAway extends Error {}

export interface PriceStep {
  readonly id: string;
  readonly starts_in_s: number;
  readonly input_nano: string;
  readonly cached_input_nano: string;
  readonly output_nano: string;
  readonly request_nano: string;
}

export interface Place {
  readonly region: string;
  readonly jurisdiction: string;
  readonly gateway_url: string;
  readonly prices: readonly PriceStep[];
}

export interface ChatModel {
  readonly name: string;
  readonly publisher: string;
  readonly currency: string;
  readonly default_output_tokens: number;
  readonly max_output_tokens: number;
  readonly places: readonly Place[];
}

export interface Offers {
  readonly models: readonly ChatModel[];
}

export interface Settled {
  readonly settled: boolean;
  readonly outcome: "completed" | "disconnected" | "failed" | null;
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly completion_tokens: number;
  readonly amount_nano: string;
}

export class Portal {
  readonly #csrfToken: string;
  #token: string | undefined;
  #renewAt = 0;
  #asking: Promise<string> | undefined;

  constructor(csrfToken: string) {
    this.#csrfToken = csrfToken;
  }

  /** A token that lives a while longer. It is kept here and nowhere else. Throws `SessionOver`, `PortalAway`. */
  async token(): Promise<string> {
    if (this.#token !== undefined && performance.now() < this.#renewAt) return this.#token;
    this.#asking ??= this.#askToken().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** The gateway does not take it: ask for another one next time. */
  forgetToken(token: string): void {
    if (this.#token === token) this.#token = undefined;
  }

  async offers(): Promise<Offers> {
    return this.#ask<Offers>("/playground/offers");
  }

  async settled(requestId: string): Promise<Settled> {
    return this.#ask<Settled>(`/playground/requests/${encodeURIComponent(requestId)}`);
  }

  async #askToken(): Promise<string> {
    const askedAt = performance.now();
    const issued = await this.#ask<{ token: string; expires_in_s: number }>("/playground/token", "POST");
    this.#token = issued.token;
    this.#renewAt = askedAt + Math.max(issued.expires_in_s * 1000 - RENEW_BEFORE_MS, 0);
    return issued.token;
  }

  async #ask<T>(path: string, method: "GET" | "POST" = "GET"): Promise<T> {
    const headers: Record<string, string> = { accept: "application/json" };
    if (method === "POST") headers["x-csrftoken"] = this.#csrfToken;
    let response: Response;
    try {
      // The sign-in page, where it would lead to without a session, is no answer to a script.
      response = await fetch(path, { method, headers, cache: "no-store", redirect: "manual" });
    } catch {
      throw new PortalAway();
    }
    if (response.type === "opaqueredirect" || response.status === 401 || response.status === 403) throw new SessionOver();
    if (!response.ok) throw new PortalAway();
    return (await response.json()) as T;
  }
}
