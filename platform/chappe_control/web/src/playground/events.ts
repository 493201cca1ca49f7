const LINE_END = /\r\n|\n|\r/;

/**
 * The data of a `text/event-stream`'s events (WHATWG HTML, 9.2.6), in whatever pieces its bytes come: a piece may end
 * within a character, or between the two halves of a line's end. An event that the stream does not finish is dropped.
 */
export class EventReader {
  readonly #decoder = new TextDecoder();
  #line = "";
  #data: string[] = [];
  #skipLineFeed = false;

  feed(bytes: Uint8Array): string[] {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return [];
    if (this.#skipLineFeed && text.startsWith("\n")) text = text.slice(1);
    this.#skipLineFeed = text.endsWith("\r");
    const lines = (this.#line + text).split(LINE_END);
    this.#line = lines.pop() ?? "";
    return lines.flatMap((line) => this.#take(line));
  }

  #take(line: string): string[] {
    if (line === "") {
      const data = this.#data;
      this.#data = [];
      return data.length > 0 ? [data.join("\n")] : [];
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    if (field !== "data") return [];
    const value = colon < 0 ? "" : line.slice(colon + 1);
    this.#data.push(value.startsWith(" ") ? value.slice(1) : value);
    return [];
  }
}
