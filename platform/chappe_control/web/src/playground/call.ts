// One streamed chat call from this browser to the regional gateway.

import { EventReader } from "./events";
import type { Counts } from "./money";
import { type Portal, PortalAway, SessionOver } from "./portal";
import type { ChatCall } from "./snippets";

/** Why a call failed, as far as a visitor can do something about it. The page has words for each. */
export type Reason =
  | "session"
  | "funds"
  | "denied"
  | "model"
  | "request"
  | "length"
  | "region"
  | "limit"
  | "unavailable"
  | "busy"
  | "network"
  | "portal"
  | "broken";

export class CallFailed extends Error {
  readonly reason: Reason;
  /** The gateway's stable code, for support. */
  readonly code: string | undefined;
  /** The gateway's own words, in English. */
  readonly detail: string | undefined;
  readonly retryAfterS: number | undefined;

  constructor(reason: Reason, more: { code?: string | null; detail?: string; retryAfterS?: number } = {}) {
    super(reason);
    this.reason = reason;
    this.code = more.code ?? undefined;
    this.detail = more.detail;
    this.retryAfterS = more.retryAfterS;
  }
}

export interface Listener {
  /** The request is sent: from here on it takes time. */
  onSent(): void;
  /** The head of the answer is here, of an error too. */
  onHead(requestId: string | undefined, region: string | undefined): void;
  /** One token's text. */
  onText(text: string): void;
}

interface ErrorBody {
  readonly error?: { readonly message?: string; readonly code?: string | null };
}

interface Chunk extends ErrorBody {
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number };
  } | null;
}

const DONE = "[DONE]";
const UNAUTHORIZED = 401;

/**
 * Streams the answer to `listener` and returns the counts that are charged. Throws `CallFailed`, and an `AbortError`
 * once `signal` is aborted.
 */
export async function streamChat(portal: Portal, call: ChatCall, listener: Listener, signal: AbortSignal): Promise<Counts> {
  try {
    const response = await send(portal, call, listener, signal);
    listener.onHead(response.headers.get("x-request-id") ?? undefined, response.headers.get("x-chappe-region") ?? undefined);
    if (!response.ok || response.body === null) throw await refusal(response);
    return await readAnswer(response.body, listener);
  } catch (error) {
    throw signal.aborted ? signal.reason : named(error);
  }
}

/** A token that has ended is replaced once; nothing of an answer was seen by then. */
async function send(portal: Portal, call: ChatCall, listener: Listener, signal: AbortSignal): Promise<Response> {
  const token = await portal.token();
  signal.throwIfAborted();
  listener.onSent();
  const response = await sendOnce(call, token, signal);
  if (response.status !== UNAUTHORIZED) return response;
  portal.forgetToken(token);
  const fresh = await portal.token();
  signal.throwIfAborted();
  listener.onSent();
  return sendOnce(call, fresh, signal);
}

async function sendOnce(call: ChatCall, token: string, signal: AbortSignal): Promise<Response> {
  return fetch(`${call.gatewayUrl}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      "x-chappe-region": call.region,
    },
    body: JSON.stringify(call.body),
    signal,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    referrerPolicy: "no-referrer",
  });
}

async function readAnswer(body: ReadableStream<Uint8Array>, listener: Listener): Promise<Counts> {
  const events = new EventReader();
  const reader = body.getReader();
  let counts: Counts | undefined;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new CallFailed("broken");
      for (const data of events.feed(value)) {
        if (data === DONE && counts) return counts;
        counts = readChunk(data, listener) ?? counts;
      }
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

function readChunk(data: string, listener: Listener): Counts | undefined {
  let chunk: Chunk;
  try {
    chunk = JSON.parse(data) as Chunk;
  } catch {
    throw new CallFailed("broken");
  }
  if (chunk.error) throw new CallFailed("broken", { code: chunk.error.code ?? null });
  const text = chunk.choices?.[0]?.delta?.content;
  if (text) listener.onText(text);
  if (!chunk.usage) return undefined;
  return {
    prompt: chunk.usage.prompt_tokens,
    cached: chunk.usage.prompt_tokens_details?.cached_tokens ?? 0,
    completion: chunk.usage.completion_tokens,
  };
}

async function refusal(response: Response): Promise<CallFailed> {
  let error: ErrorBody["error"];
  try {
    error = ((await response.json()) as ErrorBody).error;
  } catch {
    // A proxy in front of the gateway may answer in another form: the status says enough.
  }
  const retryAfterS = Number(response.headers.get("retry-after")) || undefined;
  return new CallFailed(reasonOf(response.status, error?.code), {
    ...(error?.code ? { code: error.code } : {}),
    ...(error?.message ? { detail: error.message } : {}),
    ...(retryAfterS ? { retryAfterS } : {}),
  });
}

function reasonOf(status: number, code: string | null | undefined): Reason {
  if (code === "context_length_exceeded" || status === 413) return "length";
  if (code === "overloaded" || code === "budget_unavailable") return "busy";
  switch (status) {
    case UNAUTHORIZED:
      return "session";
    case 402:
      return "funds";
    case 403:
      return "denied";
    case 404:
      return "model";
    case 421:
      return "region";
    case 429:
      return "limit";
    default:
      return status < 500 ? "request" : "unavailable";
  }
}

function named(error: unknown): CallFailed {
  if (error instanceof CallFailed) return error;
  if (error instanceof SessionOver) return new CallFailed("session");
  if (error instanceof PortalAway) return new CallFailed("portal");
  return new CallFailed("network");
}
