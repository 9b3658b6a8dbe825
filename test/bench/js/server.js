// A CouchDB-compatible server with LevelDB below a directory, on loopback.
// node server.js DIRECTORY: prints its port when it listens.
'use strict';
const express = require('express');
const PouchDB = require('pouchdb');

process.on('unhandledRejection', (reason) => process.stderr.write(String(reason && reason.stack) + '\n'));

const dir = process.argv[2] + '/';
const app = express();
app.use('/', require('express-pouchdb')(PouchDB.defaults({ prefix: dir }), {
	inMemoryConfig: true, logPath: dir + 'log.txt',
}));
const server = app.listen(0, '127.0.0.1', () => process.stdout.write(server.address().port + '\n'));
