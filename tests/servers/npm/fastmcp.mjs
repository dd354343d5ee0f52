// A small MCP server on npm's fastmcp, for tests that want a real one.
//
//     node fastmcp.mjs --port 8000 [--stateless]
//     node fastmcp.mjs --stdio
//
// Streamable HTTP is at /mcp, HTTP+SSE at /sse. GET /__sessions answers {"sessions": N}, those that live, so that a
// test can see whether a prober ended its own.

import { parseArgs } from 'node:util';

import { FastMCP } from 'fastmcp';
import { z } from 'zod';

const { values: args } = parseArgs({
  options: {
    port: { type: 'string', default: '8000' },
    stateless: { type: 'boolean', default: false },
    stdio: { type: 'boolean', default: false },
  },
});

const server = new FastMCP({ name: 'npm-fastmcp-server', version: '1.0.0' });
server.addTool({
  name: 'echo',
  description: 'Says the text back.',
  parameters: z.object({ text: z.string() }),
  execute: async ({ text }) => text,
});

server.getApp().get('/__sessions', (context) => context.json({ sessions: server.sessions.length }));

await server.start(
  args.stdio
    ? { transportType: 'stdio' }
    : {
        transportType: 'httpStream',
        httpStream: { host: '127.0.0.1', port: Number(args.port), stateless: args.stateless },
      },
);
