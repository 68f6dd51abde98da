/** Server-sent events, as specified in https://html.spec.whatwg.org/multipage/server-sent-events.html */

/** The connection broke. */
export class Broken extends Error {}

/** The events of a body: `{event, data}`, both strings. Only LF, CR and CRLF end a line. `onData` is called for all data, also comments. */
export async function* events(body, onData = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "";
  let data = [];
  try {
    for (;;) {
      const { done, value = "" } = await reader.read().catch(() => {
        throw new Broken();
      });
      onData();
      // A CR at the end may be half of a CRLF, unless the stream has ended.
      rest += done && rest.endsWith("\r") ? "\n" : value;
      const lines = rest.split(/\r\n|\n|\r(?=[^])/);
      rest = lines.pop();
      for (const line of lines) {
        const [name, text] = field(line);
        if (name === "event") event = text;
        else if (name === "data") data.push(text);
        if (line !== "") continue;
        if (data.length) yield { event: event || "message", data: data.join("\n") };
        event = "";
        data = [];
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function field(line) {
  const colon = line.indexOf(":");
  if (colon < 0) return [line, ""];
  return [line.slice(0, colon), line.slice(colon + (line[colon + 1] === " " ? 2 : 1))];
}
