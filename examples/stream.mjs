// Stream an answer while the model writes it: with fetch, because EventSource cannot POST.
// Runs with `node stream.mjs`, or in a page whose origin is in CORS_ALLOWED_ORIGINS.

const env = globalThis.process?.env ?? {};
const url = env.LLMBATCH_URL ?? "http://localhost:8000";
const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
if (env.LLMBATCH_API_KEY) headers.Authorization = `Bearer ${env.LLMBATCH_API_KEY}`;

export async function* ask(prompt) {
  const body = JSON.stringify({ username: "demo", prompt, priority: "HIGH" });
  const reply = await fetch(`${url}/v1/query`, { method: "POST", headers, body });
  if (!reply.ok) {
    const { code, detail } = await reply.json();
    throw new Error(`${reply.status} ${code}: ${detail}`);
  }
  let buffer = "";
  for await (const piece of reply.body.pipeThrough(new TextDecoderStream())) {
    buffer += piece;
    const frames = buffer.split("\n\n");
    buffer = frames.pop(); // the incomplete last frame
    for (const frame of frames) yield JSON.parse(frame.slice("data: ".length));
  }
}

let text = "";
for await (const event of ask("Tell me a short story.")) {
  if (event.type === "text") text += event.content;
  else if (event.type === "restart") text = "";
  else if (event.type === "error") throw new Error(`${event.code}: ${event.detail}`);
  else console.log(`${text}\n-- ${event.tokens_used} tokens, ${event.latency_ms} ms --`);
}
