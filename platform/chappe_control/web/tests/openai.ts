// What OpenAI's own package for JavaScript gets from a gateway. In: where it is, the key, the models. Out: what came.
import { text } from "node:stream/consumers";

import OpenAI, { APIError, AzureOpenAI } from "openai";

interface Question {
  readonly url: string;
  readonly key: string;
  readonly chat: string;
  readonly embeddings: string;
}

const { url, key, chat, embeddings } = JSON.parse(await text(process.stdin)) as Question;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user" as const, content: "hello there" }];

async function streamedChat(): Promise<{ text: string; tokens: number | undefined }> {
  const stream = await client.chat.completions.create({ model: chat, messages, stream: true, stream_options: { include_usage: true } });
  let said = "";
  let tokens: number | undefined;
  for await (const chunk of stream) {
    said += chunk.choices[0]?.delta.content ?? "";
    tokens = chunk.usage?.completion_tokens ?? tokens;
  }
  return { text: said, tokens };
}

async function streamedResponse(): Promise<string> {
  const stream = await client.responses.create({ model: chat, input: "hello there", stream: true });
  let said = "";
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") said += event.delta;
  }
  return said;
}

async function refusal(): Promise<unknown> {
  try {
    await client.chat.completions.create({ model: chat, messages, n: 2 });
  } catch (error) {
    if (error instanceof APIError) return { status: error.status, code: error.code, param: error.param };
    throw error;
  }
  return null;
}

const azure = new AzureOpenAI({ endpoint: url, apiKey: key, apiVersion: "2024-10-21", maxRetries: 0 });
const models: string[] = [];
for await (const model of client.models.list()) models.push(model.id);
const vector = (await client.embeddings.create({ model: embeddings, input: "one two" })).data[0]?.embedding;
process.stdout.write(
  JSON.stringify({
    models,
    whole: (await client.chat.completions.create({ model: chat, messages })).choices[0]?.message.content,
    streamed: await streamedChat(),
    completion: (await client.completions.create({ model: chat, prompt: "hello there", max_tokens: 16 })).choices[0]?.text,
    response: (await client.responses.create({ model: chat, input: "hello there" })).output_text,
    streamedResponse: await streamedResponse(),
    dimensions: vector?.length,
    azure: (await azure.chat.completions.create({ model: chat, messages })).choices[0]?.message.content,
    refusal: await refusal(),
  }),
);
