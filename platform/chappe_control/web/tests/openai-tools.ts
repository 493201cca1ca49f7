// Tools and a format through OpenAI's own package for JavaScript. In: where the gateway is, the key, the model, a
// schema. Out: what the model gave for each.
import { text } from "node:stream/consumers";

import OpenAI from "openai";

interface Question {
  readonly url: string;
  readonly key: string;
  readonly chat: string;
  readonly schema: Record<string, unknown>;
}

const { url, key, chat, schema } = JSON.parse(await text(process.stdin)) as Question;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user" as const, content: "Paris?" }];
const called: unknown[] = [];
const runner = client.chat.completions.runTools({
  model: chat,
  messages,
  max_tokens: 60,
  tool_choice: { type: "function", function: { name: "get_weather" } },
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "Weather",
        parameters: schema,
        parse: JSON.parse,
        function: (args: unknown) => {
          called.push(args);
          return "22 degrees";
        },
      },
    },
  ],
});
await runner.done();
const formatted = await client.chat.completions.create({
  model: chat,
  messages,
  max_tokens: 60,
  response_format: { type: "json_schema", json_schema: { name: "place", schema, strict: true } },
});
process.stdout.write(JSON.stringify({ called, formatted: JSON.parse(formatted.choices[0]?.message.content ?? "null") as unknown }));
