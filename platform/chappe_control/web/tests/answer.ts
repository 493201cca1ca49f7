// Answers a Python test's questions about the playground's rules: JSON in, JSON out.
import { text } from "node:stream/consumers";

import { cost, formatAmount } from "../src/playground/money.ts";
import { asCurl, asJavaScript, asPython, type ChatCall } from "../src/playground/snippets.ts";

interface Question {
  readonly calls: ChatCall[];
  readonly costs: { readonly price: Record<"input" | "cachedInput" | "output" | "request", string>; readonly counts: Record<"prompt" | "cached" | "completion", number> }[];
  readonly amounts: { readonly nano: string; readonly currency: string; readonly locale: string }[];
}

const question = JSON.parse(await text(process.stdin)) as Question;
const answer = {
  calls: question.calls.map((call) => ({ curl: asCurl(call), python: asPython(call), javascript: asJavaScript(call) })),
  costs: question.costs.map(({ price, counts }) =>
    String(
      cost(
        {
          input: BigInt(price.input),
          cachedInput: BigInt(price.cachedInput),
          output: BigInt(price.output),
          request: BigInt(price.request),
        },
        counts,
      ),
    ),
  ),
  amounts: question.amounts.map(({ nano, currency, locale }) => formatAmount(BigInt(nano), currency, locale)),
};
process.stdout.write(JSON.stringify(answer));
