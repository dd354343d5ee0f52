// Preloaded with `node --require` into the suite, whose scenarios listen on every interface: they listen on loopback.
//
// Not `../npm/loopback.cjs`, which names a host to `listen`: a named host is looked up first, and some scenarios ask
// for their port in the same breath. Node has no public way in at this point; its version is pinned beside this.
'use strict';

const { Server } = require('node:net');

const bind = Server.prototype._listen2;
const TCP = 4;

Server.prototype._listen2 = function (address, port, type, ...rest) {
  return bind.call(this, type === TCP ? (address ?? '127.0.0.1') : address, port, type, ...rest);
};
