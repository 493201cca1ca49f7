import type { Message } from "./snippets";

/** Scrolled to within this of its end, the log follows the answer; further up, somebody reads. */
const NEAR_END_PX = 48;

/** One answer in the log. Everything is put there as text, and nothing as markup. */
export class AnswerTurn {
  readonly element: HTMLElement;
  readonly #text: Text;

  constructor(element: HTMLElement, model: string) {
    this.element = element;
    this.part("model").textContent = model;
    this.#text = document.createTextNode("");
    this.part("text").append(this.#text);
    element.setAttribute("aria-busy", "true");
  }

  get text(): string {
    return this.#text.data;
  }

  append(text: string): void {
    this.#text.appendData(text);
  }

  end(note?: string): void {
    this.element.removeAttribute("aria-busy");
    if (note === undefined) return;
    this.part("note").textContent = note;
    this.part("note").hidden = false;
  }

  showFacts(facts: Record<"region" | "prompt" | "cached" | "completion" | "cost", string>): void {
    for (const [name, value] of Object.entries(facts)) this.part(name).textContent = value;
    this.part("facts").hidden = false;
  }

  showRequest(href: string): void {
    this.part("link").setAttribute("href", href);
    this.part("request").hidden = false;
  }

  part(name: string): HTMLElement {
    const found = this.element.querySelector<HTMLElement>(`[data-part="${name}"]`);
    if (!found) throw new Error(`the turn has no part ${name}`);
    return found;
  }
}

/** The messages so far and their picture. Nothing of it is kept anywhere else. */
export class Conversation {
  readonly #log: HTMLElement;
  readonly #empty: HTMLElement;
  #messages: Message[] = [];

  constructor(log: HTMLElement, empty: HTMLElement) {
    this.#log = log;
    this.#empty = empty;
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Adds a question and the place of its answer. */
  ask(text: string, model: string): { question: HTMLElement; answer: AnswerTurn } {
    this.#messages.push({ role: "user", content: text });
    const question = cloned("turn-question");
    const part = question.querySelector<HTMLElement>('[data-part="text"]');
    if (part) part.textContent = text;
    const answer = new AnswerTurn(cloned("turn-answer"), model);
    this.#empty.hidden = true;
    this.#log.append(question, answer.element);
    this.#log.scrollTop = this.#log.scrollHeight;
    return { question, answer };
  }

  keep(answer: AnswerTurn): void {
    this.#messages.push({ role: "assistant", content: answer.text });
  }

  /** The question had no answer: it is as if it had not been asked. */
  takeBack(question: HTMLElement, answer: AnswerTurn): void {
    this.#messages.pop();
    question.remove();
    answer.element.remove();
    this.#empty.hidden = this.#messages.length > 0;
  }

  clear(): void {
    this.#messages = [];
    for (const turn of this.#log.querySelectorAll(".turn")) turn.remove();
    this.#empty.hidden = false;
  }

  /** Runs `change` and goes on showing the end, if the end was shown before. */
  followed(change: () => void): void {
    const log = this.#log;
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
    change();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }
}

function cloned(id: string): HTMLElement {
  const template = document.getElementById(id);
  const element = template instanceof HTMLTemplateElement ? template.content.firstElementChild?.cloneNode(true) : null;
  if (!(element instanceof HTMLElement)) throw new Error(`there is no template ${id}`);
  return element;
}
