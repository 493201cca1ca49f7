// What the visitor chose: model, region and parameters, and what that costs.

import { formatAmount, formatPerMillion, type Price, priceInForce } from "./money";
import type { ChatModel, Offers, Place, PriceStep } from "./portal";
import type { ChatBody, Message } from "./snippets";

const PARAMETERS = ["temperature", "top_p", "max_tokens"] as const;
type Parameter = (typeof PARAMETERS)[number];

interface Step extends Price {
  readonly startsInS: number;
}

/** One choice that can be called. */
export interface Choice {
  readonly model: ChatModel;
  readonly place: Place;
}

export function element<E extends HTMLElement>(id: string, type: new () => E): E {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${id}`);
  return found;
}

export class Settings {
  readonly #model = element("playground-model", HTMLSelectElement);
  readonly #region = element("playground-region", HTMLSelectElement);
  readonly #system = element("playground-system", HTMLTextAreaElement);
  readonly #inputs = new Map<Parameter, HTMLInputElement>(
    PARAMETERS.map((name) => [name, element(`playground-${name.replace("_", "-")}`, HTMLInputElement)]),
  );
  readonly #locale: string;
  readonly #wrongNumber: string;
  #offers: Offers;
  #readAt = performance.now();

  constructor(offers: Offers, locale: string, wrongNumber: string) {
    this.#offers = offers;
    this.#locale = locale;
    this.#wrongNumber = wrongNumber;
    this.#model.addEventListener("change", () => this.#showRegions());
    this.#region.addEventListener("change", () => this.showPrice());
    for (const input of this.#inputs.values()) input.addEventListener("input", () => this.#check(input));
    this.#showRegions();
  }

  /** What can be called changed: keep the choice, if it is still there. */
  refresh(offers: Offers): void {
    if (offers.models.length === 0) return;
    const chosen = this.#model.value;
    this.#offers = offers;
    this.#readAt = performance.now();
    for (const option of [...this.#model.options]) if (!option.disabled) option.remove();
    this.#model.prepend(...offers.models.map(({ name }) => new Option(name, name)));
    this.#model.value = offers.models.some(({ name }) => name === chosen) ? chosen : (offers.models[0]?.name ?? "");
    this.#showRegions();
  }

  get choice(): Choice | undefined {
    const model = this.#offers.models.find(({ name }) => name === this.#model.value);
    const place = model?.places.find(({ region }) => region === this.#region.value);
    return model && place ? { model, place } : undefined;
  }

  /** The price under which the gateway would take a call now. */
  price({ place }: Choice): Price {
    const steps = place.prices.map(read);
    const found = priceInForce(steps, (performance.now() - this.#readAt) / 1000) ?? steps[0];
    if (!found) throw new Error("an offer has a price");
    return found;
  }

  /** False, with the focus on the first of them, while a number is out of its range. */
  check(): boolean {
    const wrong = [...this.#inputs.values()].filter((input) => !this.#check(input));
    wrong[0]?.focus();
    return wrong.length === 0;
  }

  body({ model }: Choice, messages: readonly Message[]): ChatBody {
    const system = this.#system.value.trim();
    const numbers = [...this.#inputs].filter(([, input]) => input.value !== "" && !isWrong(input));
    return {
      model: model.name,
      messages: [...(system ? [{ role: "system", content: system } as const] : []), ...messages],
      ...Object.fromEntries(numbers.map(([name, input]) => [name, input.valueAsNumber])),
      stream: true,
      stream_options: { include_usage: true },
    };
  }

  showPrice(): void {
    const choice = this.choice;
    if (!choice) return;
    const price = this.price(choice);
    const { currency } = choice.model;
    const texts: Record<string, string> = {
      "price-input": formatPerMillion(price.input, currency, this.#locale),
      "price-cached": formatPerMillion(price.cachedInput, currency, this.#locale),
      "price-output": formatPerMillion(price.output, currency, this.#locale),
      "price-request": formatAmount(price.request, currency, this.#locale),
    };
    for (const [id, text] of Object.entries(texts)) element(id, HTMLElement).textContent = text;
    element("price-request-row", HTMLElement).hidden = price.request === 0n;
  }

  #showRegions(): void {
    const model = this.#offers.models.find(({ name }) => name === this.#model.value);
    if (!model) return;
    const chosen = this.#region.value;
    this.#region.replaceChildren(...model.places.map(({ region, jurisdiction }) => new Option(`${region} · ${jurisdiction}`, region)));
    if (model.places.some(({ region }) => region === chosen)) this.#region.value = chosen;
    const most = this.#inputs.get("max_tokens");
    if (most) {
      most.max = String(model.max_output_tokens);
      this.#check(most);
    }
    this.showPrice();
  }

  #check(input: HTMLInputElement): boolean {
    const wrong = isWrong(input);
    const note = element(`${input.id}-error`, HTMLElement);
    note.hidden = !wrong;
    note.textContent = wrong ? this.#rangeText(input) : "";
    input.classList.toggle("is-invalid", wrong);
    if (wrong) {
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", note.id);
    } else {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    }
    return !wrong;
  }

  #rangeText(input: HTMLInputElement): string {
    const shown = (text: string): string => Number(text).toLocaleString(this.#locale);
    return this.#wrongNumber.replace("{low}", shown(input.min)).replace("{high}", shown(input.max));
  }
}

/** A step is what the arrows do: any number between the ends can be sent, but tokens are whole. */
function isWrong({ step, validity }: HTMLInputElement): boolean {
  const { badInput, rangeUnderflow, rangeOverflow, stepMismatch } = validity;
  return badInput || rangeUnderflow || rangeOverflow || (stepMismatch && step === "1");
}

function read(step: PriceStep): Step {
  return {
    startsInS: step.starts_in_s,
    input: BigInt(step.input_nano),
    cachedInput: BigInt(step.cached_input_nano),
    output: BigInt(step.output_nano),
    request: BigInt(step.request_nano),
  };
}
