// A chat call as code that somebody can paste and run. The key is never in it: it comes from the environment.

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** The body that is sent. A parameter that nobody set is not there. */
export interface ChatBody {
  readonly model: string;
  readonly messages: readonly Message[];
  readonly temperature?: number;
  readonly top_p?: number;
  readonly max_tokens?: number;
  readonly stream: true;
  readonly stream_options: { readonly include_usage: true };
}

export interface ChatCall {
  /** Without a path. */
  readonly gatewayUrl: string;
  readonly region: string;
  readonly body: ChatBody;
}

/** One word to a POSIX shell, whatever is in it. */
export function quoteForShell(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function asCurl({ gatewayUrl, region, body }: ChatCall): string {
  return [
    `curl -N ${quoteForShell(`${gatewayUrl}/v1/chat/completions`)}`,
    `  -H "Authorization: Bearer $CHAPPE_API_KEY"`,
    `  -H 'Content-Type: application/json'`,
    `  -H ${quoteForShell(`x-chappe-region: ${region}`)}`,
    `  --data-raw ${quoteForShell(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n");
}

export function asPython({ gatewayUrl, region, body }: ChatCall): string {
  const { messages, ...rest } = body;
  return [
    "# pip install openai",
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${pythonLiteral(`${gatewayUrl}/v1`)}, api_key=os.environ["CHAPPE_API_KEY"])`,
    "stream = client.chat.completions.create(",
    `    model=${pythonLiteral(rest.model)},`,
    "    messages=[",
    ...messages.map((message) => `        ${pythonLiteral(message)},`),
    "    ],",
    ...Object.entries(rest)
      .filter(([name]) => name !== "model")
      .map(([name, value]) => `    ${name}=${pythonLiteral(value)},`),
    `    extra_headers={"x-chappe-region": ${pythonLiteral(region)}},`,
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    `        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
    "    if chunk.usage:",
    `        print("\\n", chunk.usage)`,
  ].join("\n");
}

export function asJavaScript({ gatewayUrl, region, body }: ChatCall): string {
  return [
    "// npm install openai",
    `import OpenAI from "openai";`,
    "",
    "const client = new OpenAI({",
    `  baseURL: ${JSON.stringify(`${gatewayUrl}/v1`)},`,
    "  apiKey: process.env.CHAPPE_API_KEY,",
    "});",
    "const stream = await client.chat.completions.create(",
    `  ${indented(JSON.stringify(body, null, 2), 2)},`,
    `  { headers: { "x-chappe-region": ${JSON.stringify(region)} } },`,
    ");",
    "for await (const chunk of stream) {",
    `  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");`,
    `  if (chunk.usage) console.log("\\n", chunk.usage);`,
    "}",
  ].join("\n");
}

/** JSON's texts and numbers are Python's too; its `true`, `false` and `null` are not. */
function pythonLiteral(value: unknown): string {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value === "object") {
    const pairs = Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${pythonLiteral(inner)}`);
    return `{${pairs.join(", ")}}`;
  }
  // Python takes an unescaped line or paragraph separator for no line's end, but editors do.
  return JSON.stringify(value).replace(/[\u2028\u2029\u0085\u007f]/g, escaped);
}

function escaped(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function indented(text: string, spaces: number): string {
  return text.replaceAll("\n", `\n${" ".repeat(spaces)}`);
}
