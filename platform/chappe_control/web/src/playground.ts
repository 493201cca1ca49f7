// The script of /playground. Loaded by that page alone.
import "./styles/playground.scss";

import { CallFailed, type Listener, streamChat } from "./playground/call";
import { type AnswerTurn, Conversation } from "./playground/conversation";
import { Figures } from "./playground/figures";
import { type Counts, cost, formatAmount, type Price } from "./playground/money";
import { type Offers, Portal, type Settled } from "./playground/portal";
import { type Choice, element, Settings } from "./playground/settings";
import { asCurl, asJavaScript, asPython, type ChatCall, type Message } from "./playground/snippets";

const SHOW_EVERY_MS = 100;
const SETTLED_EVERY_MS = 500;
const SETTLED_WITHIN_MS = 60_000;
const DEFAULT_RETRY_S = 60;
// After these the page's idea of what is offered may be wrong.
const STALE_AFTER = new Set(["model", "region", "unavailable", "denied"]);

/** One call under way. */
interface Running {
  readonly abort: AbortController;
  readonly question: HTMLElement;
  readonly answer: AnswerTurn;
  readonly draft: string;
  readonly choice: Choice;
  readonly price: Price;
  figures: Figures;
  isFinal?: boolean;
  requestId?: string | undefined;
  region?: string | undefined;
}

class Playground {
  readonly #root: HTMLElement;
  readonly #locale: string;
  readonly #portal: Portal;
  readonly #settings: Settings;
  readonly #conversation: Conversation;
  readonly #message = element("playground-message", HTMLTextAreaElement);
  readonly #send = element("playground-send", HTMLButtonElement);
  readonly #stop = element("playground-stop", HTMLButtonElement);
  readonly #clear = element("playground-clear", HTMLButtonElement);
  readonly #error = element("playground-error", HTMLElement);
  readonly #status = element("playground-status", HTMLElement);
  #running: Running | undefined;
  #shown: Running | undefined;
  #codeIsOld = false;

  constructor(root: HTMLElement) {
    this.#root = root;
    this.#locale = this.#data("locale");
    this.#portal = new Portal(this.#data("csrfToken"));
    const offers = JSON.parse(this.#data("offers")) as Offers;
    this.#settings = new Settings(offers, this.#locale, this.#data("textWrongNumber"));
    this.#conversation = new Conversation(element("playground-log", HTMLElement), element("playground-empty", HTMLElement));
    this.#listen();
    this.#showCode();
  }

  #listen(): void {
    this.#send.addEventListener("click", () => void this.#ask());
    this.#stop.addEventListener("click", () => this.#running?.abort.abort());
    this.#clear.addEventListener("click", () => this.#startOver());
    this.#message.addEventListener("keydown", (event) => {
      // While a word is being composed, Enter picks it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      void this.#ask();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing) this.#running?.abort.abort();
    });
    // The token is there by the time that the message is written. If not, sending says why.
    this.#message.addEventListener("input", () => void this.#portal.token().catch(() => undefined), { once: true });
    for (const type of ["input", "change"]) this.#root.addEventListener(type, () => this.#planCode());
    // A price that was published may come into force while the page is open.
    setInterval(() => this.#settings.showPrice(), 1000);
  }

  async #ask(): Promise<void> {
    const draft = this.#message.value.trim();
    const choice = this.#settings.choice;
    if (this.#running || !choice || !this.#settings.check()) return;
    if (draft === "") {
      this.#message.focus();
      return;
    }
    const running: Running = {
      abort: new AbortController(),
      draft,
      choice,
      price: this.#settings.price(choice),
      figures: new Figures(performance.now()),
      ...this.#conversation.ask(draft, choice.model.name),
    };
    const call = this.#call(choice, this.#conversation.messages);
    this.#begin(running);
    try {
      const counts = await streamChat(this.#portal, call, this.#listener(running), running.abort.signal);
      this.#complete(running, counts);
    } catch (error) {
      this.#breakOff(running, error);
    } finally {
      this.#end(running);
    }
  }

  #begin(running: Running): void {
    this.#running = this.#shown = running;
    this.#message.value = "";
    this.#message.focus();
    this.#send.hidden = true;
    this.#stop.hidden = false;
    this.#clear.hidden = true;
    this.#error.hidden = true;
    this.#say("textGenerating");
    this.#showFigures(running);
    this.#planCode();
    const timer = setInterval(() => {
      if (this.#running === running) this.#showFigures(running);
      else clearInterval(timer);
    }, SHOW_EVERY_MS);
  }

  #listener(running: Running): Listener {
    return {
      onSent: () => {
        running.figures = new Figures(performance.now());
      },
      onHead: (requestId, region) => {
        running.requestId = requestId;
        running.region = region;
      },
      onText: (text) => {
        running.figures.addToken(performance.now());
        this.#conversation.followed(() => running.answer.append(text));
      },
    };
  }

  #complete(running: Running, counts: Counts): void {
    running.answer.end();
    this.#conversation.keep(running.answer);
    this.#say("textComplete");
    running.figures.end(performance.now());
    this.#showFinal(running, counts, cost(running.price, counts), "textCostFinal");
    void this.#awaitSettled(running, false);
  }

  #breakOff(running: Running, error: unknown): void {
    running.figures.end(performance.now());
    const isStopped = running.abort.signal.aborted;
    if (running.answer.text === "") {
      // As if it had not been sent: the message is there again, unless another one was begun meanwhile.
      if (this.#message.value === "") this.#message.value = running.draft;
      this.#conversation.takeBack(running.question, running.answer);
    } else {
      running.answer.end(this.#data(isStopped ? "textStopped" : "textBrokenOff"));
      this.#conversation.keep(running.answer);
      void this.#awaitSettled(running, true);
    }
    this.#say(isStopped ? (running.answer.text === "" ? "textStoppedEarly" : "textStopped") : undefined);
    if (!isStopped) this.#showError(error instanceof CallFailed ? error : new CallFailed("network"));
  }

  #end(running: Running): void {
    this.#running = undefined;
    this.#showFigures(running);
    if (document.activeElement === this.#stop) this.#message.focus();
    this.#stop.hidden = true;
    this.#send.hidden = false;
    this.#clear.hidden = this.#conversation.messages.length === 0;
    this.#planCode();
  }

  #showError(error: CallFailed): void {
    const seconds = String(error.retryAfterS ?? DEFAULT_RETRY_S);
    const name = `reason${error.reason[0]?.toUpperCase()}${error.reason.slice(1)}`;
    element("playground-error-text", HTMLElement).textContent = this.#data(name).replace("{seconds}", seconds);
    const detail = element("playground-error-detail", HTMLElement);
    // The gateway's own words say which parameter is wrong; for all else the page has better ones.
    detail.textContent = error.reason === "request" || error.reason === "length" ? (error.detail ?? "") : "";
    detail.hidden = detail.textContent === "";
    element("playground-error-sign-in", HTMLElement).hidden = error.reason !== "session";
    this.#error.hidden = false;
    if (STALE_AFTER.has(error.reason)) void this.#refreshOffers();
  }

  async #refreshOffers(): Promise<void> {
    try {
      this.#settings.refresh(await this.#portal.offers());
      this.#planCode();
    } catch {
      // The choice stays as it was: the next call says what is wrong with it.
    }
  }

  /** What was charged is known when the gateway's record is posted, a second or so later. */
  async #awaitSettled(running: Running, isUnknown: boolean): Promise<void> {
    const { requestId } = running;
    if (requestId === undefined) return;
    for (const until = performance.now() + SETTLED_WITHIN_MS; performance.now() < until; ) {
      await new Promise((resolve) => setTimeout(resolve, SETTLED_EVERY_MS));
      const settled = await this.#portal.settled(requestId).catch(() => undefined);
      if (!settled?.settled) continue;
      this.#conversation.followed(() => {
        if (isUnknown) this.#showFinal(running, countsOf(settled), BigInt(settled.amount_nano), "textCostSettled");
        running.answer.showRequest(`${this.#data("requestsPath")}${encodeURIComponent(requestId)}`);
      });
      return;
    }
  }

  #showFinal(running: Running, counts: Counts, nano: bigint, note: string): void {
    const text = formatAmount(nano, running.choice.model.currency, this.#locale);
    this.#conversation.followed(() =>
      running.answer.showFacts({
        region: running.region ?? running.choice.place.region,
        prompt: this.#number(counts.prompt),
        cached: this.#number(counts.cached),
        completion: this.#number(counts.completion),
        cost: text,
      }),
    );
    running.figures.tokens = counts.completion;
    if (this.#shown !== running) return;
    this.#showFigures(running);
    this.#figure("cost", text);
    this.#figure("cost-note", this.#data(note));
    running.isFinal = true;
  }

  #showFigures(running: Running): void {
    if (this.#shown !== running || running.isFinal) return;
    const { figures, price, choice } = running;
    const soFar = cost(price, { prompt: 0, cached: 0, completion: figures.tokens });
    this.#figure("tokens", this.#number(figures.tokens));
    this.#figure("cost", formatAmount(soFar, choice.model.currency, this.#locale));
    this.#figure("cost-note", this.#data("textCostGrowing"));
    this.#figure("ttft", figures.ttftMs === undefined ? "–" : this.#duration(figures.ttftMs));
    this.#figure("speed", figures.tokensPerS === undefined ? "–" : this.#number(figures.tokensPerS, 1));
    this.#figure("elapsed", this.#duration(figures.elapsedMs(performance.now()), 1));
    this.#figure("region", running.region ?? "–");
  }

  #startOver(): void {
    this.#conversation.clear();
    this.#shown = undefined;
    for (const name of ["tokens", "cost", "ttft", "speed", "elapsed", "region"]) this.#figure(name, "–");
    this.#figure("cost-note", "");
    this.#error.hidden = true;
    this.#clear.hidden = true;
    this.#message.focus();
    this.#planCode();
  }

  #call({ model, place }: Choice, messages: readonly Message[]): ChatCall {
    return {
      gatewayUrl: place.gateway_url,
      region: place.region,
      body: this.#settings.body({ model, place }, messages),
    };
  }

  /** At most once per frame, however fast somebody types. */
  #planCode(): void {
    if (this.#codeIsOld) return;
    this.#codeIsOld = true;
    requestAnimationFrame(() => this.#showCode());
  }

  #showCode(): void {
    this.#codeIsOld = false;
    const choice = this.#settings.choice;
    if (!choice) return;
    const call = this.#call(choice, this.#nextMessages());
    for (const [index, text] of [asCurl(call), asPython(call), asJavaScript(call)].entries()) {
      element(`playground-code-code-${index + 1}`, HTMLElement).textContent = text;
    }
  }

  /** What would be sent now; with nothing written yet, what was sent last. */
  #nextMessages(): readonly Message[] {
    const draft = this.#message.value.trim();
    const before = this.#conversation.messages;
    if (draft !== "" && !this.#running) return [...before, { role: "user", content: draft }];
    if (before.length === 0) return [{ role: "user", content: this.#data("textExample") }];
    return before.at(-1)?.role === "assistant" ? before.slice(0, -1) : before;
  }

  #figure(name: string, text: string): void {
    const shown = element(`figure-${name}`, HTMLElement);
    if (shown.textContent !== text) shown.textContent = text;
  }

  /** For who listens: when it begins and when it is over, and not every token. */
  #say(name: string | undefined): void {
    this.#status.textContent = name === undefined ? "" : this.#data(name);
  }

  #number(value: number, decimals = 0): string {
    return value.toLocaleString(this.#locale, { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }

  /** As on the other pages: `84 ms`, `1.25 s`. The symbols are the same in every language. */
  #duration(milliseconds: number, decimals = 2): string {
    if (milliseconds < 1000) return `${this.#number(Math.round(milliseconds))}\u00a0ms`;
    return `${this.#number(milliseconds / 1000, decimals)}\u00a0s`;
  }

  #data(name: string): string {
    const value = this.#root.dataset[name];
    if (value === undefined) throw new Error(`the page does not say ${name}`);
    return value;
  }
}

function countsOf(settled: Settled): Counts {
  return { prompt: settled.prompt_tokens, cached: settled.cached_tokens, completion: settled.completion_tokens };
}

const root = document.getElementById("playground");
if (root) new Playground(root);
