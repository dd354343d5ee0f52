// A small MCP server on the TypeScript SDK 2, for tests that want a real one.
//
//     node server.mjs --port 8000 --mode dual|modern|stateful|both
//     node server.mjs --stdio [--mode dual|modern]
//
// dual answers both eras, the legacy one without sessions; modern rejects the legacy one; stateful knows the legacy
// one only, with sessions; both is modern and stateful behind one URL. Streamable HTTP is at /mcp. GET /__sessions
// answers {"sessions": N}, those that live, so that a test can see whether a prober ended its own.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import { createMcpHandler, isLegacyRequest, McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

const { values: args } = parseArgs({
  options: {
    port: { type: 'string', default: '8000' },
    mode: { type: 'string', default: 'dual' },
    stdio: { type: 'boolean', default: false },
  },
});

function newServer() {
  const server = new McpServer({ name: 'typescript-sdk-server', version: '1.0.0' });
  server.registerTool(
    'add',
    { description: 'Adds two numbers.', inputSchema: z.object({ a: z.number(), b: z.number() }) },
    ({ a, b }) => ({ content: [{ type: 'text', text: String(a + b) }] }),
  );
  server.registerTool(
    'echo',
    { description: 'Says the text back.', inputSchema: z.object({ text: z.string() }) },
    ({ text }) => ({ content: [{ type: 'text', text }] }),
  );
  return server;
}

const sessions = new Map();

// The SDK leaves it to its user to keep the transports of sessions.
async function legacy(request, response, body) {
  const id = request.headers['mcp-session-id'];
  let transport = sessions.get(id);
  if (id && !transport) {
    const error = { code: -32001, message: 'Session not found' };
    response.writeHead(404, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', error, id: null }));
    return;
  }
  if (!transport) {
    transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
      onsessionclosed: (id) => sessions.delete(id),
    });
    await newServer().connect(transport);
  }
  await transport.handleRequest(request, response, body);
}

async function bodyOf(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return text === '' ? undefined : JSON.parse(text);
}

if (args.stdio) {
  serveStdio(newServer, { legacy: args.mode === 'modern' ? 'reject' : 'serve' });
} else {
  const handler = toNodeHandler(
    createMcpHandler(newServer, { legacy: args.mode === 'dual' ? 'stateless' : 'reject' }),
  );
  createServer(async (request, response) => {
    if (request.url === '/__sessions') {
      response.writeHead(200, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ sessions: sessions.size }));
    } else if (request.url !== '/mcp') {
      response.writeHead(404).end();
    } else if (args.mode === 'stateful') {
      await legacy(request, response);
    } else if (args.mode === 'both') {
      const body = await bodyOf(request);
      const old = await isLegacyRequest(await toWebRequest(request, body));
      await (old ? legacy(request, response, body) : handler(request, response, body));
    } else {
      await handler(request, response);
    }
  }).listen(Number(args.port), '127.0.0.1');
}
