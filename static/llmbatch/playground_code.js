// Writes programs that send the playground's requests. It does not touch the page.
"use strict";

(() => {
  const PLACEHOLDER = "{n}";
  const MIN_TIMEOUT_S = 60;

  const quoteShell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  // A JSON string is also a Python string: it has the same quotes and escapes.
  const quotePython = (text) => JSON.stringify(text);
  const inner = (text) => JSON.stringify(text).slice(1, -1);
  const numbered = (sent) => sent.count > 1 && sent.prompt.includes(PLACEHOLDER);
  const first = (prompt) => prompt.replaceAll(PLACEHOLDER, "1");
  const timeout = (sent) => Math.max(MIN_TIMEOUT_S, Math.ceil(sent.patienceS) + 10);

  function writeCurl(sent) {
    const name = `{"username": ${JSON.stringify(sent.username)}, "prompt": "`;
    const end = `", "priority": "${sent.priority}"}`;
    // In the loop the shell puts the number between two quoted pieces.
    const parts = numbered(sent) ? sent.prompt.split(PLACEHOLDER) : [first(sent.prompt)];
    const pieces = parts.map(inner);
    pieces[0] = name + pieces[0];
    pieces[pieces.length - 1] += end;
    const lines = [
      `curl -sS ${quoteShell(sent.url)}`,
      "  -H 'content-type: application/json'",
      ...(sent.needsKey ? ['  -H "Authorization: Bearer $LLMBATCH_API_KEY"'] : []),
      `  -d ${pieces.map(quoteShell).join('"$n"')}`,
    ];
    if (sent.count === 1) return `${lines.join(" \\\n")}\n`;
    const body = lines.map((line) => `  ${line}`).join(" \\\n");
    // awk prints each answer on a line of its own.
    return `for n in $(seq ${sent.count}); do\n${body} | awk 1 &\ndone; wait\n`;
  }

  function writeHead(sent, modules, headers) {
    const names = [...modules, ...(sent.needsKey ? ["os"] : [])].sort();
    const key = sent.needsKey ? ['"Authorization": f"Bearer {os.environ[\'LLMBATCH_API_KEY\']}"'] : [];
    return [
      ...names.map((name) => `import ${name}`),
      ...(names.length ? [""] : []),
      "import httpx",
      "",
      `URL = ${quotePython(sent.url)}`,
      `HEADERS = {${[...headers, ...key].join(", ")}}`,
      `PROMPT = ${quotePython(sent.count > 1 ? sent.prompt : first(sent.prompt))}`,
      "",
    ];
  }

  function writeBody(sent) {
    const prompt = numbered(sent) ? `PROMPT.replace("${PLACEHOLDER}", str(n))` : "PROMPT";
    return `{"username": ${quotePython(sent.username)}, "prompt": ${prompt}, "priority": "${sent.priority}"}`;
  }

  function writePython(sent) {
    if (sent.count > 1) return writeMany(sent);
    return [
      ...writeHead(sent, [], []),
      `body = ${writeBody(sent)}`,
      `reply = httpx.post(URL, json=body, headers=HEADERS, timeout=${timeout(sent)})`,
      "print(reply.status_code, reply.json())",
      "",
    ].join("\n");
  }

  function writeMany(sent) {
    return [
      ...writeHead(sent, ["asyncio"], []),
      "",
      "async def ask(client: httpx.AsyncClient, n: int) -> None:",
      `    body = ${writeBody(sent)}`,
      "    reply = await client.post(URL, json=body)",
      "    print(n, reply.status_code, reply.json())",
      "",
      ...writeGather(sent),
    ].join("\n");
  }

  function writeGather(sent) {
    return [
      "",
      "async def main() -> None:",
      `    async with httpx.AsyncClient(headers=HEADERS, timeout=${timeout(sent)}) as client:`,
      `        await asyncio.gather(*(ask(client, n) for n in range(1, ${sent.count + 1})))`,
      "",
      "",
      "asyncio.run(main())",
      "",
    ];
  }

  const FOLLOW = [
    "if not line.startswith(\"data: \"):",
    "    continue",
    "event = json.loads(line.removeprefix(\"data: \"))",
  ];

  function writeStream(sent) {
    if (sent.count > 1) return writeManyStreams(sent);
    return [
      ...writeHead(sent, ["json"], ['"Accept": "text/event-stream"']),
      `body = ${writeBody(sent)}`,
      `with httpx.stream("POST", URL, json=body, headers=HEADERS, timeout=${timeout(sent)}) as reply:`,
      "    if reply.is_error:",
      "        raise SystemExit(reply.read().decode())",
      "    for line in reply.iter_lines():",
      ...FOLLOW.map((line) => `        ${line}`),
      '        if event["type"] == "text":',
      '            print(event["content"], end="", flush=True)',
      "        else:  # restart, done or error",
      '            print("\\n", event, sep="")',
      "",
    ].join("\n");
  }

  function writeManyStreams(sent) {
    return [
      ...writeHead(sent, ["asyncio", "json"], ['"Accept": "text/event-stream"']),
      "",
      "async def ask(client: httpx.AsyncClient, n: int) -> None:",
      `    body = ${writeBody(sent)}`,
      '    async with client.stream("POST", URL, json=body) as reply:',
      "        if reply.is_error:",
      "            raise SystemExit((await reply.aread()).decode())",
      "        async for line in reply.aiter_lines():",
      ...FOLLOW.map((line) => `            ${line}`),
      "            print(n, event)  # text, restart, done or error",
      "",
      ...writeGather(sent),
    ].join("\n");
  }

  window.writeProgram = { curl: writeCurl, python: writePython, stream: writeStream };
})();
