// A CouchDB-compatible server on loopback, written by others.
//
//   node server.js KIND DIRECTORY PORT [ADMIN PASSWORD]
//
// KIND: "pouchdb" is express-pouchdb, the HTTP side of pouchdb-server, over
// LevelDB in DIRECTORY; "router" is pouchdb-express-router, which has no _bulk_get.
// PORT 0: any free one.  The port is printed when the server listens; it ends when
// its standard input does, so it cannot outlive the test.
//
// DIRECTORY/writes.log has a line of JSON for each revision that a replicator
// has written: [database, id, rev, time of the request, time of the answer].
'use strict';
const fs = require('fs');
const os = require('os');
const express = require('express');
const PouchDB = require('pouchdb');

const [kind, dir, port, admin, password] = process.argv.slice(2);
const log = fs.openSync(dir + '/writes.log', 'a');

// What pouchdb-express-router needs to read multipart bodies, and Node no longer has.
os.tmpDir = os.tmpdir;

// The servers leave rejections unhandled, which would end the process.
process.on('unhandledRejection', (reason) => {
	process.stderr.write('unhandled: ' + (reason && reason.stack || JSON.stringify(reason)) + '\n');
});
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();

// Keeps the beginning of a multipart body, which nobody else does, as it passes; the
// result is a function that reads the document in its first part.
function watchMultipart(req) {
	const { emit } = req;
	let start = '';
	req.emit = function (event, chunk, ...more) {
		if (event === 'data' && start.length < 4e6) {
			start += chunk.toString('latin1');
		}
		return emit.call(this, event, chunk, ...more);
	};
	return () => {
		const from = start.indexOf('\r\n\r\n') + 4;
		return JSON.parse(Buffer.from(start.slice(from, start.indexOf('\r\n--', from)), 'latin1').toString());
	};
}

// What replicators write, remembered when it was answered.
function note(req, res, next) {
	const bulk = req.method === 'POST' && /\/_bulk_docs$/.test(req.path);
	const single = req.method === 'PUT' && req.query.new_edits === 'false';
	if (bulk || single) {
		const asked = Date.now();
		const db = req.path.split('/')[1];
		const { end } = res;
		// the answer to a PUT with new_edits=false is an empty array and does not say
		const multipart = /^multipart\/related/.test(req.headers['content-type']) && watchMultipart(req);
		res.end = function (chunk, ...more) {
			const body = req.body || {};
			if (res.statusCode < 300 && (single || body.new_edits === false)) {
				const docs = bulk ? body.docs || [] : [multipart ? multipart() : body];
				fs.writeSync(log, docs.map((doc) =>
					JSON.stringify([db, doc._id, doc._rev, asked, Date.now()]) + '\n').join(''));
			}
			return end.call(this, chunk, ...more);
		};
	}
	next();
}

const Stored = PouchDB.defaults({ prefix: dir + '/' });
const app = express();
app.disable('x-powered-by');
app.use(note);
if (kind === 'router') {
	app.use('/', require('pouchdb-express-router')(Stored));
} else {
	const server = require('express-pouchdb')(Stored, {
		configPath: dir + '/config.json', logPath: dir + '/log.txt',
	});
	if (admin !== undefined) {
		server.couchConfig.set('admins', admin, password, () => {});
		server.couchConfig.set('couch_httpd_auth', 'timeout', 600, () => {});
	}
	app.use('/', server);
}

const server = app.listen(Number(port), '127.0.0.1', () => process.stdout.write(server.address().port + '\n'));
server.keepAliveTimeout = 120000;
server.on('error', (error) => {
	process.stderr.write(error.message + '\n');
	process.exit(1);
});
