// Preloaded with `node --require` into servers that bind every interface and take no host:
// whatever TCP port they listen on, they listen on loopback only.
'use strict';

const { Server } = require('node:net');

const listen = Server.prototype.listen;

Server.prototype.listen = function (...args) {
  const [first, second] = args;
  if (typeof first === 'object' && first !== null) {
    if (first.port !== undefined) args[0] = { ...first, host: '127.0.0.1' };
  } else if (!isNaN(first)) {
    // listen(port, host?, ...): Node takes a port as a string too, anything else is a path.
    args.splice(1, typeof second === 'string' ? 1 : 0, '127.0.0.1');
  }
  return listen.apply(this, args);
};
